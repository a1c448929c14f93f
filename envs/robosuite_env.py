"""Any robosuite task as a Gymnasium environment with robomimic's low-dimensional observations.

    S  numbers in a simulator state: time, qpos, qvel    Da  action dimensions

Every reset, seeded or restored, ends the same way: an empty simulator, the state written into it, controllers without
a past. What follows depends on that state and the actions alone, not on what was run before.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Literal, get_args

import gymnasium as gym
import mujoco
import numpy as np

from envs.render import Rendered

_gl = os.environ.get("MUJOCO_GL")
logging.getLogger("robosuite_logs").disabled = True  # it advertises optional packages while it is imported
import robosuite  # noqa: E402
from robosuite.controllers import load_composite_controller_config  # noqa: E402

from envs.handling import Handling  # noqa: E402
from envs.osc import ArmControl  # noqa: E402

logging.getLogger("robosuite_logs").disabled = False
logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
if _gl is None:
    os.environ.pop("MUJOCO_GL", None)  # robosuite sets it, and whatever is started from here would open EGL

MODEL_SEED = 0  # robosuite draws sizes while it builds a model (Lift's cube): one model for all episodes
PROPRIOCEPTION = ("eef_pos", "eef_quat", "gripper_qpos")  # of each robot
ObjectOrder = Literal["absolute_first", "robosuite", "robosuite_1.4"]
REVERSED_SINCE_1_4 = ("gripper_to_cube_pos",)
FORCED = {  # whatever a data set was recorded with: no rendering, no episode end, a model that outlives the episode
    "has_renderer": False,
    "has_offscreen_renderer": False,
    "use_camera_obs": False,
    "use_object_obs": True,
    "ignore_done": True,
    "hard_reset": False,
    "renderer": "mujoco",
    "seed": MODEL_SEED,
}


def panda_osc() -> dict[str, Any]:
    """robosuite.make's arguments for one Panda under OSC_POSE at 20 Hz: an action unit is 0.05 m and 0.5 rad."""
    return {
        "robots": ["Panda"],
        "controller_configs": load_composite_controller_config(robot="Panda"),
        "control_freq": 20,
        "lite_physics": True,
        "reward_shaping": False,
        "ignore_done": True,
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": True,
    }


class RobosuiteEnv(Handling, Rendered, gym.Env):
    """One robosuite task: obs {key: (n,) float32}, action (Da,) in [-1, 1], reward 1.0 while the task is solved.

    It never terminates; `info["success"]` says whether the task is solved after this step.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        task: str,
        env_kwargs: dict[str, Any] | None = None,
        render_mode: str | None = None,
        size: int = 256,
        camera: str = "agentview",
        object_order: ObjectOrder = "absolute_first",
    ):
        """`env_kwargs` are robosuite.make's, JSON-compatible (None: `panda_osc()`); frames are `size` pixels square.

        `object` is in the order of the installed robosuite, where relative poses come first; or has absolute poses
        first; or is as it was in robosuite up to 1.4, which is the same but for the sign of Lift's relative position.
        """
        self._set_view(render_mode, size, camera)
        if object_order not in get_args(ObjectOrder):
            raise ValueError(f"expected object_order of {', '.join(get_args(ObjectOrder))}, got {object_order!r}")
        self.task, self.object_order = task, object_order
        self.env_kwargs = panda_osc() if env_kwargs is None else env_kwargs
        self.sim_env = robosuite.make(task, **copy.deepcopy(self.env_kwargs) | FORCED)
        self._model, self._data = self.sim_env.sim.model._model, self.sim_env.sim.data._data
        self._substeps = int(self.sim_env.control_timestep / self.sim_env.model_timestep)
        robots = self.sim_env.robots
        self._arm = ArmControl(robots[0], self._model, self._data) if ArmControl.applies_to(robots) else None
        self._sensors, self._proprioception, listed = _sensors(self.sim_env)
        self._object = listed if object_order == "robosuite" else sorted(listed, key=_is_relative)
        self._reversed = REVERSED_SINCE_1_4 if object_order == "robosuite_1.4" else ()
        self.observation_space = gym.spaces.Dict(
            {key: gym.spaces.Box(-np.inf, np.inf, value.shape, np.float32) for key, value in self._observe().items()}
        )
        low, high = self.sim_env.action_spec
        self.action_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """To the initial state of `seed`, or to the state (S,) under `options["state"]`."""
        super().reset(seed=seed)
        if options and "state" in options:
            state = np.asarray(options["state"], dtype=np.float64)
        else:
            state = self._draw(int(self.np_random.integers(2**62)))
        self._restore(state)
        return self._observe(), {"success": self._success()}

    def step(self, action: np.ndarray):
        """action (Da,), clipped by the controller -> the observation one control period later."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.action_space.shape:
            raise ValueError(f"expected an action of shape {self.action_space.shape}, got {action.shape}")
        self._advance(action)
        mujoco.mj_kinematics(self._model, self._data)  # the integrator leaves the poses of the state before
        success = self._success()
        return self._observe(), float(success), False, False, {"success": success}

    def state(self) -> np.ndarray:
        """Simulator state (S,) float64: time, qpos, qvel; what `reset(options={"state": ...})` takes.

        It is all there is to an episode of the manipulation tasks; the door of robosuite's Door stands in the model.
        """
        return np.concatenate([[self._data.time], self._data.qpos, self._data.qvel])

    @property
    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("robosuite", "mujoco")}

    def spec_dict(self) -> dict[str, Any]:
        """What a data set recorded here says about itself (JSON-compatible)."""
        return {
            "obs": {key: list(space.shape) for key, space in self.observation_space.items()},
            "action": _action_meaning(self.sim_env.robots[0])
            | {"dim": self.action_space.shape[0]}
            | {"low": float(self.action_space.low.min()), "high": float(self.action_space.high.max())},
            "hz": float(self.sim_env.control_freq),
            "env_args": {
                "env_name": self.task,
                "env_version": self.versions["robosuite"],
                "type": 1,  # robomimic's number for robosuite
                "env_kwargs": copy.deepcopy(self.env_kwargs),
                "object_order": self.object_order,
            },
            "simulator": self.versions,
        }

    def close(self):
        super().close()
        self.sim_env.close()

    def _advance(self, action: np.ndarray):
        """One control period of physics."""
        model, data, sim_env = self._model, self._data, self.sim_env
        for substep in range(self._substeps):
            if self._arm is not None:
                mujoco.mj_step1(model, data)
                if substep == 0:
                    self._arm.begin(action)
                self._arm.apply()
                mujoco.mj_step2(model, data)
            elif sim_env.lite_physics:
                mujoco.mj_step1(model, data)
                sim_env._pre_action(action, policy_step=substep == 0)
                mujoco.mj_step2(model, data)
            else:  # as robosuite did up to 1.4
                mujoco.mj_forward(model, data)
                sim_env._pre_action(action, policy_step=substep == 0)
                mujoco.mj_step(model, data)

    def _draw(self, seed: int) -> np.ndarray:
        """The initial state (S,) that robosuite draws from `seed`."""
        self.sim_env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state  # samplers share it
        self.sim_env.reset()
        return self.state()

    def _restore(self, state: np.ndarray):
        """An empty simulator, then `state` (S,), then controllers without a past."""
        nq, nv = self._model.nq, self._model.nv
        if state.shape != (1 + nq + nv,):
            raise ValueError(f"{self.task} has states of {1 + nq + nv} numbers, got {state.shape}: recorded elsewhere?")
        mujoco.mj_resetData(self._model, self._data)
        self._data.time, self._data.qpos[:], self._data.qvel[:] = state[0], state[1 : 1 + nq], state[1 + nq :]
        mujoco.mj_forward(self._model, self._data)
        for robot in self.sim_env.robots:
            for gripper in robot.gripper.values():
                gripper.current_action = np.zeros(gripper.dof)
            for name, part in robot.composite_controller.part_controllers.items():
                if name in robot.arms:  # the nominal posture, so that the noise of no episode lingers in the controller
                    part.update_initial_joints(_posture(robot, name))
                part.update(force=True)
            robot.composite_controller.update_state()
            robot.composite_controller.reset()
        self.sim_env.timestep, self.sim_env.done = 0, False

    def _success(self) -> bool:
        return bool(self.sim_env._check_success())

    def _observe(self) -> dict[str, np.ndarray]:
        cache: dict[str, np.ndarray] = {}
        for name, sensor in self._sensors.items():
            cache[name] = np.asarray(sensor(cache))
        observation = {key: cache[key].astype(np.float32) for key in self._proprioception}
        parts = [np.atleast_1d(-cache[name] if name in self._reversed else cache[name]) for name in self._object]
        return observation | {"object": np.concatenate(parts).astype(np.float32)}


def _posture(robot, arm: str) -> np.ndarray:
    """The nominal joint positions of one arm, which its controller is drawn to in its null space."""
    split = robot._joint_split_idx
    return np.asarray(robot.init_qpos[:split] if arm == "right" else robot.init_qpos[split:])


def _action_meaning(robot) -> dict[str, Any]:
    """How the first arm of a robot is commanded, in the words of a data set's spec."""
    config = robot.part_controllers[robot.arms[0]]
    cartesian = config.name.startswith(("OSC", "IK"))
    return {
        "frame": "eef" if cartesian else "joint",
        "mode": getattr(config, "input_type", "unknown"),
        "rotation": "axis_angle" if config.name.endswith("POSE") else "none",
        "gripper": "close_positive" if any(robot.has_gripper.values()) else "none",
    }


def _is_relative(name: str) -> bool:
    return "_to_" in name


def _sensors(sim_env) -> tuple[dict[str, Callable], list[str], list[str]]:
    """Name -> sensor(cache), each after its inputs; the names of the robots' sensors; of those that make up `object`.

    robosuite updates its observables once a control step, at its start, and relative poses before the poses that they
    are computed from: its observations lag by one step. These do not, like those that robomimic extracts from states.
    """
    found = {name: o for name, o in sim_env._observables.items() if o.is_enabled()}
    robot = [n for n, o in found.items() if o.modality.endswith("proprio") and n.endswith(PROPRIOCEPTION)]
    scene = [n for n, o in found.items() if o.modality == "object"]
    ordered = robot + sorted(scene, key=_is_relative)
    return {n: found[n]._sensor for n in ordered}, robot, [n for n in scene if found[n].is_active()]
