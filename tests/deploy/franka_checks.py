"""The Franka adapter against a simulated arm that speaks the real protocol; test_deploy_franka runs it.

.venv-franka/bin/python -m pytest --noconftest tests/deploy/franka_checks.py

Time is the arm's own, which a busy machine makes slower than real.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from franka_world import PLACE, SIDE, world
from omegaconf import OmegaConf

from ebt_policy.deploy.clock import WallClock
from ebt_policy.deploy.control import control
from ebt_policy.deploy.limits import LimitsError
from ebt_policy.deploy.link import Delayed
from ebt_policy.deploy.plan import Plan, PlanError
from ebt_policy.deploy.robot import RobotError
from ebt_policy.deploy.robots import connect
from ebt_policy.deploy.safety import SafeRobot
from ebt_policy.deploy.schedule import Scheduler, Timing

ROOT = Path(__file__).parents[2]
CONFIG = OmegaConf.to_container(OmegaConf.load(ROOT / "configs/robot/franka.yaml"))
HZ, UNIT = 20.0, 0.05
JOINTS = {
    "obs": {"robot0_joint_pos": [7]},
    "action": {"dim": 7, "frame": "joint", "mode": "absolute", "rotation": "none", "gripper": "none"}
    | {"low": -3.2, "high": 3.2},
    "motion": {"key": "robot0_joint_pos"},
    "limits": CONFIG["limits"]
    | {"workspace": {"low": [-3.2] * 7, "high": [3.2] * 7, "planes": [], "spheres": [], "margin": 0.0}}
    | {"motion": {"step": 0.5, "velocity": 0.5, "acceleration": 2.0, "jerk": 100.0}, "turn": None, "gripper": None},
}


class ArmClock:
    """The time of the arm's controller."""

    robot = None

    def now(self):
        return self.robot.arm.state.time.to_sec() if self.robot.arm else 0.0

    def sleep_until(self, moment):
        while self.now() < moment:
            time.sleep(0.0005)


@pytest.fixture(scope="module")
def arm_world():
    with world() as made:
        yield made


def config(host, **changes):
    cfg = CONFIG | changes
    hand = None if cfg["limits"]["gripper"] is None else cfg["arm"]["hand"]
    return cfg | {"arm": cfg["arm"] | {"host": host, "realtime": "ignore", "hand": hand}}


def safe(host, clock=None, **changes):
    clock = clock or ArmClock()
    robot = connect(config(host, **changes), clock)
    clock.robot = robot
    return SafeRobot(robot, robot.limits, clock)


def step(robot, action, ticks=1):
    """The same action for so many ticks; the last observation."""
    for _ in range(ticks):
        begin = robot.clock.now()
        robot.observe()
        robot.command(np.asarray(action, np.float32))
        robot.clock.sleep_until(begin + 1 / HZ)
    return robot.observe().values


def acting(*numbers):
    return np.r_[numbers, np.zeros(7 - len(numbers))]


def wave(request):
    """Half a second to one side, half a second back, as seen from a plan asked for anew each time."""
    wave.plans += 1
    actions = np.zeros((15, 7), np.float32)
    actions[:, 1] = 0.4 if wave.plans % 2 else -0.4
    return Plan(request.id, actions, np.arange(15) / HZ, 1, "steps", 0.0)


def run(robot, planner, seconds):
    wave.plans, ticks = 0, []
    link = Delayed(planner, robot.clock, lambda: 0.0)
    scheduler = Scheduler(Timing(HZ, observe=2, execute=10, plan=15, blend=4), robot.clock.now())
    return control(robot, link, scheduler, robot.clock, seconds, on_tick=ticks.append), ticks


def test_the_arm_goes_where_it_is_sent_and_stays_there(arm_world):
    with safe(arm_world.host) as robot:
        before = step(robot, acting())
        for unit in (0.2, 0.4, 0.4, 0.2):
            robot.observe()
            step(robot, acting(0, unit, 0, 0, 0, unit / 4))
        target = robot.robot._target
        after = step(robot, acting(), ticks=16)
    assert target[1] - before["robot0_eef_pos"][1] > 0.01
    np.testing.assert_allclose(after["robot0_eef_pos"], target, atol=0.003)
    turned = 2 * np.arcsin(np.linalg.norm(after["robot0_eef_quat"] - before["robot0_eef_quat"]) / 2) * 2
    assert 0.02 < turned < 0.15 and np.linalg.norm(after["robot0_eef_quat"]) == pytest.approx(1)


def test_plans_that_replace_each_other_are_followed_at_20_hz(arm_world):
    elbow = arm_world.look()["joints"][2]
    with safe(arm_world.host) as robot:
        outcome, ticks = run(robot, wave, 2.0)
    assert arm_world.look()["joints"][2] == pytest.approx(elbow, abs=0.02)
    assert outcome.ticks + outcome.missed == 40 and not outcome.stopped and wave.plans >= 3
    places = np.stack([t.observation.values["robot0_eef_pos"] for t in ticks])
    asked = np.cumsum([UNIT * t.sent[1] for t in ticks])
    moved = places[:, 1] - places[0, 1]
    assert np.ptp(moved) > 0.02 and np.corrcoef(moved[3:], asked[:-3])[0, 1] > 0.9
    assert np.ptp(places[:, 0]) < 0.005 and np.ptp(places[:, 2]) < 0.005


def test_a_hand_that_is_turned_on_and_on_stops_before_its_joint_does_and_may_be_turned_back(arm_world):
    with safe(arm_world.host) as robot:
        ticks = 0
        while not robot.stopped and ticks < 80:
            step(robot, acting(0, 0, 0, 0, 0, 0.5))
            ticks += 1
        assert robot.stopped.startswith("joint 7 comes close to its stop, 0.")
        assert step(robot, acting(0, 0, 0, 0, 0, 0.5), ticks=10) and arm_world.speed() < 0.03
        robot.release()
        step(robot, acting(0, 0, 0, 0, 0, -0.5), ticks=ticks)
        assert not robot.stopped


def test_leaving_in_full_motion_stops_the_arm(arm_world):
    with safe(arm_world.host) as robot:
        robot.observe()
        step(robot, acting(-0.6, -0.6), ticks=6)
        assert arm_world.speed() > 0.05
        robot.robot.__exit__(None, None, None)  # without the safety layer's own braking
        assert arm_world.speed() < 0.03
        robot.robot.__enter__()


def test_the_hand_closes_opens_and_tells_its_width(arm_world):
    with safe(arm_world.host) as robot:
        closed = step(robot, acting(0, 0, 0, 0, 0, 0, 1.0), ticks=24)["robot0_gripper_qpos"]
        opened = step(robot, acting(0, 0, 0, 0, 0, 0, -1.0), ticks=30)["robot0_gripper_qpos"]
    assert abs(closed[0]) < 0.003 and opened[0] > 0.035 and opened[1] == -opened[0]


def test_joint_targets_that_change_at_20_hz_are_followed(arm_world):
    robot = safe(arm_world.host, **JOINTS)
    wrist_and_elbow = np.eye(7)[6] + np.eye(7)[3]
    with robot:
        start = robot.observe().values["robot0_joint_pos"]
        for k in range(1, 61):
            target = start + 0.1 * np.sin(0.5 * np.pi * k / HZ) * wrist_and_elbow
            there = step(robot, target)["robot0_joint_pos"]
            np.testing.assert_allclose(there, target, atol=0.04)
        np.testing.assert_allclose(step(robot, target, ticks=16)["robot0_joint_pos"], target, atol=0.002)


def test_an_arm_that_was_stopped_by_others_is_held_until_it_may_go_on(arm_world):
    with safe(arm_world.host) as robot:
        step(robot, acting(0, 0.3), ticks=3)
        robot.robot.arm.stop()
        step(robot, acting(0, 0.3), ticks=3)
        assert robot.stopped.startswith("the arm stopped by itself")
        held = step(robot, acting(0, 0.3), ticks=6)["robot0_eef_pos"]
        assert np.abs(step(robot, acting(0, 0.3), ticks=4)["robot0_eef_pos"] - held).max() < 0.003
        robot.release()
        step(robot, acting(0, -0.3), ticks=8)
        assert not robot.stopped and step(robot, acting())["robot0_eef_pos"][1] < held[1] - 0.005


def test_a_policy_that_dies_stops_the_arm_and_says_why(arm_world):
    def mortal(request):
        if request.id > 1:
            raise PlanError("the link to ws://gpu:8765 is lost: closed")
        return wave(request)

    with safe(arm_world.host) as robot:
        outcome, _ = run(robot, mortal, 3.0)
        assert outcome.stopped.startswith("watchdog") and "ws://gpu:8765 is lost" in outcome.stopped
        step(robot, acting(0, 0.5), ticks=6)  # held
        assert arm_world.speed() < 0.03


def test_a_cube_is_reached_grasped_and_lifted_by_a_scripted_agent(arm_world):
    with safe(arm_world.host) as robot:
        for height, grip, ticks in ((0.12, -1.0, 80), (0.0, -1.0, 36), (0.0, 1.0, 16), (0.12, 1.0, 36)):
            target = np.add(PLACE, [0, 0, height])
            for _ in range(ticks):
                missing = target - robot.observe().values["robot0_eef_pos"]
                step(robot, np.r_[np.clip(0.8 * missing / UNIT, -1, 1), 0, 0, 0, grip])
        width = 2 * robot.observe().values["robot0_gripper_qpos"][0]
        lifted = arm_world.look()["cube"][2]
    assert lifted > 0.08 and 0.75 * SIDE < width < 1.05 * SIDE  # simulated contacts give way


DRIVE = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from franka_checks import acting, safe, step
with safe(sys.argv[2]) as robot:
    for k in range(10**6):
        step(robot, acting(0, 0.6 if k // 10 % 2 else -0.6))
        print(k, flush=True)
"""


def test_a_killed_process_leaves_an_arm_at_rest(arm_world):
    command = [sys.executable, "-c", DRIVE, str(Path(__file__).parent), arm_world.host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while process.stdout.readline().strip() != "6":
            assert process.poll() is None
        assert arm_world.speed() > 0.05
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    start = arm_world.look()["time"]
    while arm_world.look()["time"] < start + 1.0:
        time.sleep(0.02)
    assert arm_world.speed() < 0.03


def test_a_lost_link_to_the_arm_ends_the_run_and_says_why():
    with world() as doomed, safe(doomed.host, WallClock()) as robot:
        step(robot, acting(0, 0.3), ticks=3)
        doomed.kill()
        said = ""
        for _ in range(400):
            robot.release()  # a busy machine is stopped by other things before
            step(robot, acting(0, 0.3))
            said = said or (robot.stopped if "the arm" in robot.stopped else "")
            if said:
                break
        assert said.startswith(("the arm stopped by itself", "the link to the arm"))


def test_bad_input_gets_one_clear_message(arm_world):
    with pytest.raises(RobotError, match="expected a Franka at 127.0.0.99"), safe("127.0.0.99"):
        pass
    with pytest.raises(LimitsError, match="expected limits as a mapping"):
        connect({k: v for k, v in config(arm_world.host).items() if k != "limits"}, ArmClock())
    fast = CONFIG["limits"] | {"motion": CONFIG["limits"]["motion"] | {"velocity": 9.0}}
    with pytest.raises(LimitsError, match="at most 5.48.* as the limit of the translation's velocity"):
        safe(arm_world.host, limits=fast).__enter__()
    with pytest.raises(ValueError, match="got {'camera': .*: what else there is goes under `sensors`"):
        safe(arm_world.host, obs=CONFIG["obs"] | {"camera": [8, 8, 3]})
    with pytest.raises(ValueError, match="expected a hand"):
        connect(config(arm_world.host) | {"arm": {"host": "x"}}, ArmClock())
