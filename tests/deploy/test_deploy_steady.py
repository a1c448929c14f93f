"""Arms that are late and hang lower than they are told do not sink, and are not led beyond their limits by that."""

import numpy as np
import pytest
from vendor_arms import SAG, franka_case, plain, ur_case

from ebt_policy.deploy.limits import Limits
from ebt_policy.deploy.robots._rotation import after, apart, to_quaternion, to_vector
from ebt_policy.deploy.robots._start import displaced, turned

LIMITS = Limits.from_dict(plain("franka")["limits"])
HERE, WAY = np.array([0.5, 0.0, 0.3]), np.array([0.01, 0.0, 0.0])
TILT = to_quaternion(np.array([0.004, 0.0, 0.0]))


def sunk(case, near, seconds=15):
    """m that an arm has sunk that only moved to and fro along y."""
    name, make = case
    cfg = plain(name)
    cfg["arm"]["near"] = near
    case = make(cfg)
    with case.robot as robot:
        start = case.clock.arm.place()
        for k in range(round(seconds * robot.spec.hz)):
            robot.observe()
            robot.command(np.r_[0.0, 0.3 * (-1) ** (k // 10), np.zeros(robot.spec.action.dim - 2)])
            case.clock.sleep_until(case.clock.now() + 1 / robot.spec.hz)
        place = case.clock.arm.place()
        case.leave()
    return (start - place)[2]


@pytest.mark.parametrize("case", [("ur", ur_case), ("franka", franka_case)], ids=["ur", "franka"])
def test_an_arm_that_is_only_moved_sideways_does_not_sink(case):
    assert sunk(case, near=0.0) > 20 * SAG  # what starting from where it is measured costs
    assert sunk(case, near=0.01) == pytest.approx(SAG, abs=SAG)


def test_a_displacement_starts_where_the_arm_was_told_to_be_if_it_is_there():
    told = HERE + [0.0, 0.0, 0.002]
    np.testing.assert_allclose(displaced(WAY, HERE, told, 0.01, LIMITS), told + WAY)
    np.testing.assert_allclose(displaced(WAY, HERE, told, 0.001, LIMITS), HERE + WAY)
    back = turned(np.zeros(3), to_quaternion(np.zeros(3)), TILT, 0.01, LIMITS.turn)
    np.testing.assert_allclose(to_vector(back), [0.004, 0, 0], atol=1e-9)
    assert apart(turned(np.zeros(3), to_quaternion(np.zeros(3)), TILT, 0.001, LIMITS.turn), TILT) > 0.003


def test_never_further_from_the_measured_position_than_the_limits_say():
    step = np.array([0.0866, 0.0, 0.0])
    np.testing.assert_allclose(displaced(step, HERE, HERE + 0.1 * WAY, 0.01, LIMITS), HERE + step)
    wall = np.array([0.695, 0.0, 0.3])
    np.testing.assert_allclose(displaced(0.5 * WAY, wall, wall + 0.1 * WAY, 0.01, LIMITS), wall + 0.5 * WAY)
    turn = np.array([0.869, 0.0, 0.0])
    facing = turned(turn, to_quaternion(np.zeros(3)), TILT, 0.01, LIMITS.turn)
    np.testing.assert_allclose(facing, after(to_quaternion(turn), to_quaternion(np.zeros(3))))
