"""Limits and settings of arms: what is no number, or limits nothing, is refused by its name before anything moves."""

import copy
import math

import pytest
from omegaconf import OmegaConf
from tiny_runs import ROOT
from toy_arms import HZ, ToyArm, declared, limits, motion_of

from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.control import control
from ebt_policy.deploy.limits import GripperLimits, Limits, LimitsError, Workspace
from ebt_policy.deploy.motion import MotionLimits
from ebt_policy.deploy.robot import Delays, Motion, SimRobot
from ebt_policy.deploy.robots._hand import HandConfig
from ebt_policy.deploy.robots._stops import Stops
from ebt_policy.deploy.robots.franka import FrankaConfig
from ebt_policy.deploy.robots.ur import URConfig
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Scheduler, Timing

NO_NUMBERS = (math.inf, -math.inf, math.nan, "0.1", True, None, 1e30)
NUMBERS = {  # where in the plain data of limits a number stands, and how an error names it
    ("workspace", "low", 0): r"limits\.workspace: low\[0\]",
    ("workspace", "high", 1): r"limits\.workspace: high\[1\]",
    ("workspace", "margin"): r"limits\.workspace: margin",
    ("workspace", "planes", 0, 1): r"limits\.workspace: planes\[0\]\.offset",
    ("workspace", "planes", 0, 0, 0): r"limits\.workspace: planes\[0\]\.normal\[0\]",
    ("workspace", "spheres", 0, 1): r"limits\.workspace: spheres\[0\]\.radius",
    ("workspace", "spheres", 0, 0, 2): r"limits\.workspace: spheres\[0\]\.centre\[2\]",
    ("motion", "step"): r"limits\.motion: step",
    ("gripper", "low"): r"limits\.gripper: low",
    ("gripper", "high"): r"limits\.gripper: high",
    ("gripper", "dwell"): r"limits\.gripper: dwell",
    ("watchdog",): r"limits\.watchdog",
    ("stale",): r"limits\.stale",
}
BOX = {"low": [-0.2] * 3, "high": [0.2] * 3, "planes": [], "spheres": [], "margin": 0.01}


def changed(place, value):
    data = copy.deepcopy(declared())
    *way, last = place
    inner = data
    for key in way:
        inner = inner[key]
    inner[last] = value
    return data


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
@pytest.mark.parametrize("place", NUMBERS, ids=lambda place: ".".join(map(str, place)))
def test_what_is_no_number_or_no_limit_is_refused_by_its_name(place, value):
    with pytest.raises(LimitsError, match=f"^{NUMBERS[place]} must be "):
        Limits.from_dict(changed(place, value))


@pytest.mark.parametrize("name", ["velocity", "acceleration", "jerk"])
@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0, -1.0, "fast", False])
def test_rates_are_numbers_above_0(name, value):
    for part in ("motion", "turn"):
        with pytest.raises(LimitsError, match=f"^limits.{part}: {name} must be above 0 and finite, got"):
            Limits.from_dict(changed((part, name), value))


@pytest.mark.parametrize("radius", [0, -0.06])
def test_a_sphere_has_a_radius_above_0(radius):
    with pytest.raises(LimitsError, match=r"spheres\[0\]\.radius must be in \(0, 1000\]"):
        Limits.from_dict(changed(("workspace", "spheres", 0, 1), radius))


@pytest.mark.parametrize(
    "walls",
    [
        {"spheres": [[[0, 0, 0], 0.4]]},  # covers the box
        {"spheres": [[[0.1, 0, 0], 0.35], [[-0.1, 0, 0], 0.35]]},  # each one half of it
        {"spheres": [[[0, 0, 0.2], 0.33]], "planes": [[[0, 0, 1], 0.0]]},  # what the plane leaves
        {"planes": [[[0, 0, 1], 0.3]]},  # above the box
        {"planes": [[[0, 0, 1], 0.19]]},  # touches what the margin leaves of it
        {"planes": [[[0, 0, 1], 0.1], [[0, 0, -1], -0.05]]},  # above and below
        {"planes": [[[0.6, 0.8, 0], 0.3]]},
    ],
)
def test_walls_that_leave_no_room_are_refused(walls):
    with pytest.raises(LimitsError, match="expected room for the arm .* they leave none: measure them again"):
        limits(workspace=BOX | walls)


@pytest.mark.parametrize(
    "walls",
    [
        {"spheres": [[[0, 0, 0], 0.31]]},  # leaves the corners
        {"spheres": [[[x, y, z], 0.15] for x in (-0.2, 0.2) for y in (-0.2, 0.2) for z in (-0.2, 0.2)]},  # the middle
        {"planes": [[[0, 0, 1], 0.175]]},  # 5 mm
        {"planes": [[[0, 0, 1], -0.3]]},  # below the box
    ],
)
def test_walls_that_leave_some_room_are_limits(walls):
    assert isinstance(limits(workspace=BOX | walls), Limits)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"planes": None}, r"expected planes as a list of \[normal, offset\], got None: \[\] for none"),
        ({"planes": [0, 0, 1, 0.1]}, r"expected planes as a list of \[normal, offset\]"),
        ({"planes": [[[0, 1], 0.1]]}, "expected planes and spheres in 3 dimensions"),
        ({"planes": [[[0, 0, 2], 0.1]]}, "expected planes .* with normals of length 1"),
        ({"spheres": "none"}, r"expected spheres as a list of \[centre, radius\]"),
        ({"low": 0.1}, "low must be a list of numbers, got 0.1"),
        ({"low": "abc"}, "low must be a list of numbers, got 'abc'"),
        ({"margin": -0.1}, "margin must be in"),
        ({"margin": 0.2}, "expected low < high with the margin 0.2 inside"),
    ],
)
def test_a_workspace_of_another_shape_is_refused(changes, message):
    with pytest.raises(LimitsError, match=f"^limits.workspace: {message}"):
        limits(workspace=BOX | changes)


def test_limits_that_are_made_by_hand_are_checked_alike():
    with pytest.raises(LimitsError, match=r"high\[0\] must be in"):
        Workspace((0.0,), (math.inf,), (), (), 0.0)
    with pytest.raises(LimitsError, match="dwell must be in"):
        GripperLimits(-1.0, 1.0, math.nan)
    with pytest.raises(LimitsError, match="step must be in"):
        MotionLimits(math.nan, 1.0, 1.0, 1.0)


def test_a_gripper_is_limited_to_what_actions_can_say_and_stays_within_its_limits_from_the_start():
    def made(low, high):
        clock = FakeClock()
        grip = {"low": low, "high": high, "dwell": 0.0}
        return SafeRobot(SimRobot(ToyArm(), motion_of("delta"), clock), limits(gripper=grip), clock)

    with pytest.raises(LimitsError, match="expected limits.gripper within the actions' range"):
        made(-1.0, 1.5)
    with made(0.25, 1.0) as robot:
        assert robot.hold("nothing is due")[-1] == 0.25


@pytest.mark.parametrize("name", ["sim", "franka", "ur"])
def test_the_limits_that_come_with_the_arms_are_limits(name):
    data = OmegaConf.to_container(OmegaConf.load(ROOT / "configs" / "robot" / f"{name}.yaml"))
    assert isinstance(Limits.from_dict(data["limits"]), Limits)


@pytest.mark.parametrize("hz", [0.0, -20.0, math.nan, math.inf, "20", True, None])
def test_a_rate_that_is_no_rate_is_refused(hz):
    clock = FakeClock()
    robot = SimRobot(ToyArm(), motion_of("delta"), clock)
    object.__setattr__(robot.spec, "hz", hz)
    with pytest.raises(LimitsError, match=r"the robot's rate hz must be in \(0, 10000\]"):
        SafeRobot(robot, limits(), clock)
    with pytest.raises(ValueError, match="timing.hz must be in"):
        Timing(hz=hz, observe=2, execute=8, plan=15)


TIMING = {"hz": HZ, "observe": 2, "execute": 8, "plan": 15}
SETTINGS = [
    (Motion, {"key": "hand"}, "motion.", ["scale", "turn"]),
    (Delays, {}, "delays.", ["observation", "jitter", "dropped", "command"]),
    (FrankaConfig, {"host": "x"}, "arm.", ["share", "near", "torque", "force"]),
    (URConfig, {"host": "x"}, "arm.", ["share", "near", "rate"]),
    (HandConfig, {}, "arm.hand.", ["speed", "force", "open"]),
    (Stops, {"low": (-1.0,), "high": (1.0,), "room": 0.1}, "arm.joints.", ["room"]),
    (Timing, TIMING, "timing.", ["latency", "percentile", "command", "gripper", "deadline"]),
    (Timing, TIMING, "timing.", ["observe", "execute", "plan", "blend", "moving"]),
]


@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0, "0.1", True])
@pytest.mark.parametrize("kind, others, prefix, names", SETTINGS, ids=lambda x: getattr(x, "__name__", ""))
def test_a_setting_of_an_arm_that_is_no_number_is_refused_by_its_name(kind, others, prefix, names, value):
    kind(**others)
    for name in names:
        with pytest.raises(ValueError, match=f"^{prefix}{name} must be "):
            kind(**others | {name: value})


@pytest.mark.parametrize("base", [(0.0, 0.0), (0.0, math.nan, 0.0), "abc", ("0", "0", "0"), 0.0])
def test_an_arm_stands_at_three_numbers(base):
    for kind in (FrankaConfig, URConfig):
        with pytest.raises(ValueError, match="^arm.base"):
            kind("x", base=base)


@pytest.mark.parametrize("low", [("a",), (math.nan,), (-math.inf,), 1.0])
def test_the_stops_of_joints_are_numbers(low):
    with pytest.raises(ValueError, match="^arm.joints.low"):
        Stops(low, (1.0,), 0.1)


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1.0, "20"])
def test_a_run_of_no_length_is_refused(seconds):
    clock = FakeClock()
    with SafeRobot(SimRobot(ToyArm(), motion_of("delta"), clock), limits(), clock) as robot:
        scheduler = Scheduler(Timing(hz=HZ, observe=2, execute=8, plan=15), clock.now())
        with pytest.raises(ValueError, match="^seconds must be at least 0 and finite"):
            control(robot, None, scheduler, clock, seconds)
