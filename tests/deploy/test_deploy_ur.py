"""The UR arm up to the vendor's library, in whose place something stands that records. Not run on hardware."""

import time

import numpy as np
import pytest
from vendor_arms import Recorded, plain

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.limits import LimitsError
from ebt_policy.deploy.motion import MotionLimits
from ebt_policy.deploy.robot import RobotError
from ebt_policy.deploy.robots import connect
from ebt_policy.deploy.robots._rotation import after, to_quaternion, to_vector
from ebt_policy.deploy.robots.ur import Chase
from ebt_policy.deploy.safety import SafeRobot

CONFIG = plain("ur")
X, Y, Z = np.eye(3)


def arm(base=(0.0, 0.0, 0.0)):
    told, clock = Recorded(), FakeClock()
    robot = connect(CONFIG | {"arm": CONFIG["arm"] | {"base": base}}, clock)
    robot._interfaces = lambda host, rate: (told, told)
    return robot, told, clock


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_rotations_go_from_vectors_to_quaternions_and_back():
    np.testing.assert_allclose(to_quaternion(np.pi / 2 * Z), [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(to_quaternion(np.zeros(3)), [0, 0, 0, 1])
    for vector in (0.3 * X - 0.2 * Y, 1e-7 * Z, 3.1 * Y, np.zeros(3)):
        np.testing.assert_allclose(to_vector(to_quaternion(vector)), vector, atol=1e-9)
        np.testing.assert_allclose(to_vector(-to_quaternion(vector)), vector, atol=1e-9)


def test_rotations_follow_each_other_about_fixed_axes():
    both = after(to_quaternion(np.pi / 2 * Z), to_quaternion(np.pi / 2 * X))  # y -> z -> z
    turned = after(after(both, np.r_[Y, 0.0]), np.r_[-both[:3], both[3]])[:3]
    np.testing.assert_allclose(turned, Z, atol=1e-12)


def test_a_chase_arrives_keeps_its_limits_and_comes_to_rest():
    limits = MotionLimits(step=9.0, velocity=0.25, acceleration=1.5, jerk=60.0)
    chase = Chase(np.zeros(3), to_quaternion(np.zeros(3)), (limits, limits), dt=0.008, pace=6.2)
    target, towards = np.array([0.2, 0.0, -0.1]), to_quaternion(0.4 * Z)
    places = [np.zeros(3)]
    for _ in range(400):
        place, facing = chase.step(target, towards)
        places.append(place)
    rates = np.stack(places)
    for limit in (limits.velocity, limits.acceleration, limits.jerk):
        rates = np.diff(rates, axis=0) / 0.008
        assert np.linalg.norm(rates, axis=1).max() <= limit * 1.0001
    np.testing.assert_allclose(place, target, atol=1e-4)
    np.testing.assert_allclose(to_vector(facing), 0.4 * Z, atol=1e-4)
    assert np.max(np.array(places) @ target) < 1.05 * target @ target


def test_observations_are_in_the_units_and_coordinates_of_the_policy():
    robot, told, _ = arm(base=(-0.5, 0.0, 0.9))
    with robot:
        values = robot.observe().values
    np.testing.assert_allclose(values["robot0_eef_pos"], [-0.1, 0.1, 1.2], atol=1e-6)
    np.testing.assert_allclose(values["robot0_eef_quat"], [0, 1, 0, 0], atol=1e-6)
    assert told.ended == ["servoStop", "stopScript"]


def test_a_displacement_moves_the_arm_by_so_many_metres_and_radians():
    robot, told, _ = arm()
    with robot:
        robot.observe()
        robot.command(np.array([0.4, 0, 0, 0, 0, 0.2]))
        until(lambda: abs(told.poses[-1][0] - 0.42) < 1e-4)
        turned = after(to_quaternion(told.poses[-1][3:]), np.array([0, -1, 0, 0.0]))
    np.testing.assert_allclose(told.poses[-1][:3], [0.42, 0.1, 0.3], atol=1e-3)
    np.testing.assert_allclose(to_vector(turned), 0.1 * Z, atol=2e-3)
    assert told.settings == (0.0, 0.0, 1 / 125, 0.1, 300.0)


def test_leaving_in_full_motion_brakes_first():
    robot, told, _ = arm()
    with robot:
        robot.observe()
        robot.command(np.array([1.0, 0, 0, 0, 0, 0]))
        until(lambda: np.ptp([p[0] for p in told.poses[-2:]]) > 0.001)
    steps = np.abs(np.diff([p[0] for p in told.poses]))
    assert steps[-1] == 0 and np.abs(np.diff(steps)).max() <= 0.31 * 5.0 * 0.008**2 * 1.001


def test_an_arm_that_stopped_by_itself_is_held_and_says_so():
    robot, told, clock = arm()
    with SafeRobot(robot, robot.limits, clock) as safe:
        told.stopped = True
        safe.command(np.full(6, 0.1))
        safe.observe()
        assert safe.stopped.startswith("the arm stopped by itself")


def test_bad_input_gets_one_clear_message():
    with pytest.raises(LimitsError, match="expected limits as a mapping"):
        connect({k: v for k, v in CONFIG.items() if k != "limits"}, FakeClock())
    with pytest.raises(ValueError, match="without gripper"):
        connect(CONFIG | {"action": CONFIG["action"] | {"gripper": "close_positive"}}, FakeClock())
    with pytest.raises(ValueError, match="robots, franka, ur, got kind 'kuka'"):
        connect(CONFIG | {"kind": "kuka"}, FakeClock())
    with pytest.raises(RobotError, match="expected ur-rtde"), connect(CONFIG, FakeClock()):
        pass
