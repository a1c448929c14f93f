"""Any robosuite task as a Gymnasium environment with robomimic's low-dimensional observations.

    S   numbers in an initial state: time, qpos, qvel, and the poses of what a reset places in the model (Door's door)
    S'  in a state: these, then what is remembered: the solver's last accelerations, the grippers' commands
    Da  action dimensions

Every reset, seeded or restored, ends the same way: an empty simulator, the state written into it, controllers without
a past but for what a longer state remembers. What follows depends on that state and the actions alone, not on what was
run before.
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

from envs.checks import as_action, as_state, check_stable
from envs.render import SIZE, Rendered

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
        size: int = SIZE,
        camera: str = "agentview",
        object_order: ObjectOrder = "absolute_first",
        expert: Callable[[], Any] | None = None,
    ):
        """`env_kwargs` are robosuite.make's, JSON-compatible (None: `panda_osc()`); frames are `size` pixels square.
        `expert()` then makes an expert of the task, see envs/README.md.

        `object` is in the order of the installed robosuite, where relative poses come first; or has absolute poses
        first; or is as it was in robosuite up to 1.4, which is the same but for the sign of Lift's relative position.
        """
        self._set_view(render_mode, size, camera)
        if object_order not in get_args(ObjectOrder):
            raise ValueError(f"expected object_order of {', '.join(get_args(ObjectOrder))}, got {object_order!r}")
        self.task, self.object_order = task, object_order
        if expert is not None:
            self.expert = expert
        self.env_kwargs = panda_osc() if env_kwargs is None else env_kwargs
        self.sim_env = robosuite.make(task, **copy.deepcopy(self.env_kwargs) | FORCED)
        self._model, self._data = self.sim_env.sim.model._model, self.sim_env.sim.data._data
        self._substeps = int(self.sim_env.control_timestep / self.sim_env.model_timestep)
        robots = self.sim_env.robots
        self._placed = _placed(self.sim_env)
        self._grippers = [gripper for robot in robots for gripper in robot.gripper.values()]
        self._commands = [_command(gripper) for gripper in self._grippers]
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
        """To the initial state of `seed`, or to the state (S,) or (S',) under `options["state"]`."""
        super().reset(seed=seed)
        if options and "state" in options:
            initial, whole = len(self._scene()), len(self.state())
            self._began = as_state(options["state"], self.task, initial, whole)
        else:
            self._began = self._draw(int(self.np_random.integers(2**62)))
        self._restore(self._began)
        return self._observe(), {"success": self._success()}

    def step(self, action: np.ndarray):
        """action (Da,), clipped by the controller -> the observation one control period later."""
        self._advance(as_action(action, self.action_space.shape))
        check_stable(self._data)
        mujoco.mj_kinematics(self._model, self._data)  # the integrator leaves the poses of the state before
        success = self._success()
        return self._observe(), float(success), False, False, {"success": success}

    def state(self) -> np.ndarray:
        """All there is to an episode (S',) float64, at any time; what `reset(options={"state": ...})` takes.

        It begins as robomimic's `states` do. Controllers with an integral or an interpolator, which no task here has,
        remember more; and which object PickPlaceSingle and NutAssemblySingle are about stands in no state.
        """
        commands = [gripper.current_action for gripper in self._grippers]
        commands = [np.broadcast_to(held, size) for held, size in zip(commands, self._commands, strict=True)]
        return np.concatenate([self._scene(), self._data.qacc_warmstart, *commands])

    def initial_state(self) -> np.ndarray:
        """What the last reset began from: the (S,) that it drew, or what it was given."""
        return self._began.copy()

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
        return self._scene()

    def _scene(self) -> np.ndarray:
        """Where everything is and how it moves (S,)."""
        poses = np.concatenate([self._model.body_pos[self._placed], self._model.body_quat[self._placed]], axis=1)
        return np.concatenate([[self._data.time], self._data.qpos, self._data.qvel, poses.ravel()])

    def _restore(self, state: np.ndarray):
        """An empty simulator, then `state` (S,) or (S',), and controllers that remember what it says and no more."""
        model, data, placed = self._model, self._data, self._placed
        ends = np.cumsum([1, model.nq, model.nv, 7 * len(placed), model.nv, *self._commands])
        time, qpos, qvel, poses, solver, *commands = np.split(state, ends[:-1])
        mujoco.mj_resetData(model, data)
        data.time, data.qpos[:], data.qvel[:] = time[0], qpos, qvel
        model.body_pos[placed], model.body_quat[placed] = np.split(poses.reshape(-1, 7), [3], axis=1)
        mujoco.mj_forward(model, data)
        for robot in self.sim_env.robots:
            for name, part in robot.composite_controller.part_controllers.items():
                if name in robot.arms:  # the nominal posture, so that the noise of no episode lingers in the controller
                    part.update_initial_joints(_posture(robot, name))
                part.update(force=True)
            robot.composite_controller.update_state()
            robot.composite_controller.reset()
        for gripper, size, command in zip(self._grippers, self._commands, commands, strict=True):
            gripper.current_action = command if len(command) else np.zeros(size)
        if len(solver):
            data.qacc_warmstart[:] = solver
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


def _placed(sim_env) -> list[int]:
    """Bodies that a reset of robosuite places in the model, where no state of the simulator tells of them."""
    doors = [sim_env.door.root_body] if hasattr(sim_env, "door") else []
    return [sim_env.sim.model.body_name2id(name) for name in doors]


def _command(gripper) -> int:
    """Numbers in what a gripper remembers: its last command, of another size than its actions."""
    gripper.current_action = np.zeros(gripper.dof)
    if gripper.dof:
        gripper.format_action(np.zeros(gripper.dof))  # which stays zero, and takes its shape
    return len(gripper.current_action)


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
