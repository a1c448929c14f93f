"""robosuite's operational space control of one fixed arm, bit for bit, without what it computes several times over.

Within a control period the goal, the base and the gripper's command stand still; only the arm's torques follow the
motion. robosuite recomputes all of it in each of the 25 physics steps, which takes three times as long as the physics.
"""

from __future__ import annotations

import mujoco
import numpy as np
from robosuite.controllers.parts.arm.osc import OperationalSpaceController
from robosuite.robots.fixed_base_robot import FixedBaseRobot
from robosuite.utils.control_utils import nullspace_torques, opspace_matrices, orientation_error


class ArmControl:
    """Torques of a robot's one arm between the moments at which robosuite takes a new goal."""

    def __init__(self, robot, model: mujoco.MjModel, data: mujoco.MjData):
        self._robot, self._model, self._data = robot, model, data
        self._arm = robot.arms[0]
        self._actuators = {
            part: (indices, *model.actuator_ctrlrange[indices].T.copy())
            for part, indices in robot._ref_actuators_indexes_dict.items()
        }
        self._site = model.site(self._controller.ref_name).id
        self._jacobian = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        self._mass = np.zeros((model.nv, model.nv))

    @staticmethod
    def applies_to(robots: list) -> bool:
        """Whether the robots are one fixed arm under the common kind of operational space control."""
        if len(robots) != 1 or not isinstance(robots[0], FixedBaseRobot) or len(robots[0].arms) != 1:
            return False
        control = robots[0].part_controllers[robots[0].arms[0]]
        return (
            isinstance(control, OperationalSpaceController)
            and control.lite_physics
            and control.uncoupling
            and control.num_ref_sites == 1
            and control.interpolator_pos is None
            and control.interpolator_ori is None
        )

    @property
    def _controller(self) -> OperationalSpaceController:
        return self._robot.part_controllers[self._arm]  # robosuite makes a new one at every reset

    def begin(self, action: np.ndarray):
        """Takes a new goal (Da,) and keeps what stands still until the next one; after the period's first mj_step1."""
        composite, control = self._robot.composite_controller, self._controller
        composite.update_state()
        composite.set_goal(action)
        control.new_update = True  # or the next goal would start from this one's measurements
        self._goal_pos, self._goal_ori = control.goal_pos, control.goal_ori
        if control.input_ref_frame == "base":
            self._goal_pos = control.origin_pos + np.dot(control.origin_ori, self._goal_pos)
            self._goal_ori = np.dot(control.origin_ori, self._goal_ori)
        self._kp, self._kd = np.array(control.kp), np.array(control.kd)
        self._joints, self._dofs, self._rest = control.qpos_index, control.qvel_index, control.initial_joint
        for name, part in composite.part_controllers.items():
            if name != self._arm:
                self._command(name, part.run_controller())

    def apply(self):
        """Sets the arm's torques for the state after mj_step1."""
        data, dofs = self._data, self._dofs
        linear, angular = self._jacobian
        mujoco.mj_jacSite(self._model, data, linear, angular, self._site)
        mujoco.mj_fullM(self._model, self._mass, data.qM)
        mass = self._mass[dofs, :][:, dofs]
        j_pos, j_ori = np.ascontiguousarray(linear[:, dofs]), np.ascontiguousarray(angular[:, dofs])
        j_full = np.concatenate([j_pos, j_ori])

        kp, kd = self._kp, self._kd
        turn = orientation_error(self._goal_ori, data.site_xmat[self._site].reshape(3, 3))
        force = (self._goal_pos - data.site_xpos[self._site]) * kp[:3] + -np.dot(linear, data.qvel) * kd[:3]
        torque = turn * kp[3:] + -np.dot(angular, data.qvel) * kd[3:]
        _, inertia_pos, inertia_ori, nullspace = opspace_matrices(mass, j_full, j_pos, j_ori)
        wrench = np.concatenate([np.dot(inertia_pos, force), np.dot(inertia_ori, torque)])
        torques = np.dot(j_full.T, wrench) + data.qfrc_bias[dofs]
        torques += nullspace_torques(mass, nullspace, self._rest, data.qpos[self._joints], data.qvel[dofs])
        self._command(self._arm, torques)

    def _command(self, part: str, values: np.ndarray):
        actuators, low, high = self._actuators[part]
        self._data.ctrl[actuators] = np.minimum(np.maximum(values, low), high)
