"""What the planar tasks share: a round tool under position control on a table of half a metre, seen from above.

    S  numbers in a state: time, qpos, qvel, then what the episode remembers (its best coverage, whether it collided)

An action (2,) in [-1, 1] is where the tool should go, 1 being 0.25 m from the centre. Targets are absolute, as in
Diffusion Policy (Chi et al. 2023, who found them better than velocities): a chunk of them means the same after the tool
was held up or knocked aside, while the errors of steps add up.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from envs.checks import as_action, as_state, check_stable
from envs.render import SIZE, Rendered

SCENES = Path(__file__).parents[1] / "assets" / "scenes"
HZ = 10
REACH = 0.25  # m, of one action unit
GYM = 2  # robomimic's number for a Gymnasium environment


class PlanarEnv(Rendered, gym.Env):
    """A scene whose last two joints carry the tool: obs {key: (n,) float32}, action (2,) in [-1, 1].

    It never terminates; `info["success"]` says whether the task is solved after this step. A task says what is drawn,
    remembered, observed and reported.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": HZ}
    name: str  # its id
    scene: str  # its file in assets/scenes

    def __init__(self, render_mode: str | None = None, size: int = SIZE, camera: str = "top"):
        """Frames are `size` pixels square."""
        self._set_view(render_mode, size, camera)
        self._model = load_scene(self.scene)
        self._data = mujoco.MjData(self._model)
        self._substeps = round(1 / HZ / self._model.opt.timestep)
        self._memory = self._nothing_yet()  # before the first reset, so that a state has a known size
        self.observation_space = gym.spaces.Dict(
            {key: gym.spaces.Box(-np.inf, np.inf, value.shape, np.float32) for key, value in self._observe().items()}
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """A random initial qpos (nq,)."""
        raise NotImplementedError

    def _nothing_yet(self) -> np.ndarray:
        """What an episode remembers at its beginning, float64."""
        raise NotImplementedError

    def _remember(self):
        """Brings `self._memory` up to the present simulator state; called after every reset and control period."""

    def _observe(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _report(self) -> dict[str, Any]:
        """What the episode has come to, with "success"."""
        raise NotImplementedError

    def _info(self) -> dict[str, Any]:
        """The report by its names, and as "report", which the logs of episodes keep."""
        report = self._report()
        return report | {"report": report}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """To the initial state of `seed`, or to the state (S,) under `options["state"]`."""
        super().reset(seed=seed)
        if options and "state" in options:
            size = len(self.state())
            state = as_state(options["state"], self.name, size, size)
        else:
            qpos = self._draw(self.np_random)
            state = np.concatenate([[0.0], qpos, np.zeros(self._model.nv), self._nothing_yet()])
        self._restore(state)
        return self._observe(), self._info()

    def step(self, action: np.ndarray):
        """action (2,), clipped to [-1, 1] -> the observation one control period later."""
        self._data.ctrl[:] = REACH * np.clip(as_action(action, self.action_space.shape), -1, 1)
        self._advance()
        check_stable(self._data)
        mujoco.mj_kinematics(self._model, self._data)  # the integrator leaves the poses of the state before
        info = self._info()
        return self._observe(), self._reward(info), False, False, info

    def _advance(self):
        """One control period of physics."""
        mujoco.mj_step(self._model, self._data, self._substeps)
        self._remember()

    def _reward(self, info: dict[str, Any]) -> float:
        return float(info["success"])

    @property
    def tool(self) -> np.ndarray:
        """Where the tool is, (2,) m."""
        return self._data.qpos[-2:]

    def state(self) -> np.ndarray:
        """Simulator state and memory (S,) float64: what `reset(options={"state": ...})` takes, and all there is."""
        return np.concatenate([[self._data.time], self._data.qpos, self._data.qvel, self._memory])

    @property
    def versions(self) -> dict[str, str]:
        return {"mujoco": version("mujoco")}

    def spec_dict(self) -> dict[str, Any]:
        """What a data set recorded here says about itself (JSON-compatible)."""
        return {
            "obs": {key: list(space.shape) for key, space in self.observation_space.items()},
            "action": {"frame": "planar", "mode": "absolute", "rotation": "none", "gripper": "none"}
            | {"dim": 2, "low": -1.0, "high": 1.0},
            "hz": float(HZ),
            "env_args": {"env_name": self.name, "type": GYM, "env_kwargs": {}},
            "simulator": self.versions,
        }

    def _restore(self, state: np.ndarray):
        """An empty simulator, then `state` (S,)."""
        nq, nv = self._model.nq, self._model.nv
        mujoco.mj_resetData(self._model, self._data)
        self._data.time, self._data.qpos[:], self._data.qvel[:] = state[0], state[1 : 1 + nq], state[1 + nq :][:nv]
        self._memory = state[1 + nq + nv :].copy()
        mujoco.mj_forward(self._model, self._data)
        self._remember()


def load_scene(name: str) -> mujoco.MjModel:
    """Of a file in assets/scenes."""
    return mujoco.MjModel.from_xml_path(str(SCENES / name))
