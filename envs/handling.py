"""A hand on a running robosuite scene: what disturbances ask of a task, besides its Gymnasium interface.

Another environment can be disturbed in more ways if it offers some of these methods and names them in `handles`; the
parts of a disturbance in `envs.disturb` say which ones they need.
"""

from __future__ import annotations

from functools import cached_property

import mujoco
import numpy as np

DEEP = 0.002  # m: what lies on a table sinks in by less


class Handling:
    """Mixed into RobosuiteEnv: `sim_env`, and `_model` and `_data` of its simulator."""

    def grasped(self) -> bool:
        """Whether the pads of both fingers touch the object of the task."""
        touching = self._data.contact.geom
        touching = touching[np.isin(touching, self._object_geoms).any(1)]
        return all(np.isin(touching, pad).any() for pad in self._pads)

    def object_pose(self) -> tuple[np.ndarray, float]:
        """Position (3,) m and rad about the vertical of the object of the task."""
        at, _ = self._object_joint
        w, x, y, z = self._data.qpos[at + 3 : at + 7]
        return self._data.qpos[at : at + 3].copy(), float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))

    def hand(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) m between the finger tips, and its way (3,) m in a control step at the present speed."""
        site = self._model.site(self.sim_env.robots[0].gripper["right"].important_sites["grip_site"]).id
        twist = np.zeros(6)
        mujoco.mj_objectVelocity(self._model, self._data, mujoco.mjtObj.mjOBJ_SITE, site, twist, 0)
        return self._data.site_xpos[site].copy(), twist[3:] / self.sim_env.control_freq

    def move_object(self, way: np.ndarray, turn: float) -> bool:
        """Put the object `way` (2,) m further, turned by `turn` rad about the vertical, at rest; False if nothing there
        holds it up or something is in the way, and then it stays where it is."""
        qpos, qvel = self._data.qpos.copy(), self._data.qvel.copy()
        at, moving = self._object_joint
        half = np.array([np.cos(turn / 2), 0.0, 0.0, np.sin(turn / 2)])
        self._data.qpos[at : at + 2] += way
        mujoco.mju_mulQuat(self._data.qpos[at + 3 : at + 7], half, qpos[at + 3 : at + 7])
        self._data.qvel[moving : moving + 6] = 0
        mujoco.mj_forward(self._model, self._data)
        depths = self._data.contact.dist[np.isin(self._data.contact.geom, self._object_geoms).any(1)]
        fits = bool(len(depths) and depths.min() > -DEEP)
        if not fits:
            self._data.qpos[:], self._data.qvel[:] = qpos, qvel
            mujoco.mj_forward(self._model, self._data)
        return fits

    def push_arm(self, force: np.ndarray):
        """Let `force` (3,) N act on the hand in all control steps to come; zeros end it."""
        hand = self._model.body(self.sim_env.robots[0].gripper["right"].root_body).id
        self._data.xfrc_applied[hand, :3] = force

    def opening(self, action: np.ndarray) -> np.ndarray:
        """action (Da,) -> (Da,), the same but that the gripper opens."""
        return np.concatenate([action[:-1], [-1.0]])

    @property
    def handles(self) -> set[str]:
        """Names of the methods here that work in this task."""
        found = {"hand", "push_arm"} if "right" in self.sim_env.robots[0].gripper else set()
        if found and self.sim_env.robots[0].gripper["right"].dof:
            found |= {"opening"}
        return found | ({"grasped", "object_pose", "move_object"} if found and self._object_body is not None else set())

    @cached_property
    def _object_body(self) -> int | None:
        """Of the one object whose pose is observed, if it moves freely."""
        names = [name.removesuffix("_pos") for name in self._object if name.endswith("_pos") and "_to_" not in name]
        joints = [j for j in range(self._model.njnt) if self._model.joint(j).name in [f"{n}_joint0" for n in names]]
        free = [j for j in joints if self._model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
        return int(self._model.jnt_bodyid[free[0]]) if len(names) == len(free) == 1 else None

    @cached_property
    def _object_joint(self) -> tuple[int, int]:
        """Where the object's pose begins in qpos, and its velocity in qvel."""
        joint = self._model.body(self._object_body).jntadr[0]
        return int(self._model.jnt_qposadr[joint]), int(self._model.jnt_dofadr[joint])

    @cached_property
    def _object_geoms(self) -> np.ndarray:
        roots = self._model.body_rootid[self._model.geom_bodyid]
        return np.flatnonzero(roots == self._object_body)

    @cached_property
    def _pads(self) -> list[list[int]]:
        geoms = self.sim_env.robots[0].gripper["right"].important_geoms
        return [[self._model.geom(name).id for name in geoms[f"{side}_fingerpad"]] for side in ("left", "right")]
