"""Cameras through the scripts, from a robot's YAML to what is stored; video files stand for them."""

import runpy
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from test_deploy_ur import CONFIG
from tiny_runs import ROOT
from toy_server import ToyPlanner, serving
from vendor_arms import Recorded

from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.store import open_episodes
from ebt_policy.deploy.clock import FakeClock, WallClock
from ebt_policy.deploy.plan import Terms
from ebt_policy.deploy.robot import RobotError
from ebt_policy.deploy.sensors import Sensed, connect
from ebt_policy.deploy.teleop import Asked

HIGH, WIDE, HZ = 48, 64, 20
OWN = {"robot0_eef_pos": (3,), "robot0_eef_quat": (4,)}
SPEC = Spec(OWN | {"front_image": (HIGH, WIDE, 3)}, ActionSpec(**CONFIG["action"]), 20.0)


def video(path, levels):
    """One frame for each level, its left half so bright."""
    writer = imageio_ffmpeg.write_frames(str(path), (WIDE, HIGH), fps=HZ, macro_block_size=1)
    writer.send(None)
    for level in levels:
        frame = np.zeros((HIGH, WIDE, 3), np.uint8)
        frame[:, : WIDE // 2] = level
        writer.send(frame.tobytes())
    writer.close()
    return str(path)


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    return video(tmp_path_factory.mktemp("video") / "moving.mp4", range(0, 240, 6))


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    return video(tmp_path_factory.mktemp("video") / "constant.mp4", [200] * 20)


def camera(source, clock=None, **settings):
    settings = {"shape": [HIGH, WIDE, 3]} | settings
    return connect({"kind": "camera", "source": str(source)} | settings, clock or WallClock())


def test_a_video_is_played_in_real_time_and_cut_as_asked(moving):
    with camera(moving, shape=[24, 16, 3], filter="crop=32:48:0:0,scale=16:24") as one:
        begin, first = time.monotonic(), one.read()
        while one.read()[12, 8, 0] < 120:
            assert time.monotonic() < begin + 60
            time.sleep(0.005)
        assert time.monotonic() - begin > (120 - first[12, 8, 0]) / 6 / HZ - 0.3
        assert first.shape == (24, 16, 3) and first.dtype == np.uint8 and one.trouble() == ""


def test_a_camera_that_falls_silent_or_ends_is_trouble(moving):
    clock = FakeClock()
    with camera(moving, clock) as one:
        assert one.trouble() == ""
        one._left.set()
        one._thread.join(20)
        clock.time += 0.8
        assert one.trouble() == f"{moving} has shown nothing new for 0.80 s, is it busy?"


def test_bad_input_gets_one_clear_message(moving, tmp_path):
    with pytest.raises(RobotError, match=r"\(48, 32, 3\) from .*, got \(48, 64, 3\): .* filter: scale=32:48"):
        camera(moving, shape=[48, 32, 3]).__enter__()
    with pytest.raises(RobotError, match="expected a camera or a video at /dev/video99: .*No such file"):
        camera("/dev/video99").__enter__()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(RobotError, match="expected a camera or a video at .*Invalid data"):
        camera(tmp_path / "text.mp4").__enter__()
    with pytest.raises(ValueError, match="sensors, camera, got kind '_target_'"):
        connect({"kind": "_target_"}, FakeClock())


def test_a_sensor_for_what_the_arm_measures_is_refused(moving):
    arm = type("Arm", (), {"spec": SPEC, "motion": None})()
    with pytest.raises(ValueError, match="does not measure, got front_image twice"):
        Sensed(arm, {"front_image": camera(moving)})


@contextmanager
def desk_of(name, *settings):
    """A script's desk for the UR arm, up to the vendor's library, in whose place something stands that records."""
    script = runpy.run_path(str(ROOT / "scripts" / f"{name}.py"))
    wide = ["robot=ur", "robot.limits.watchdog=5.0", "robot.limits.stale=20.0"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose(name, [*wide, *settings])
    clock = () if name == "deploy" else (WallClock(),)
    with script["laid_out"](cfg, *clock) as desk:
        told = Recorded()
        getattr(desk.inner, "robot", desk.inner)._interfaces = lambda host, rate: (told, told)
        yield script, desk


def sensor(source):
    return f"+robot.sensors.front_image={{kind: camera, source: {source}, shape: [{HIGH}, {WIDE}, 3]}}"


class Still(ToyPlanner):
    def __init__(self):
        super().__init__()
        self.terms = Terms(SPEC.to_dict(), 2, 8, 15, "cafe")

    def __call__(self, request):
        assert request.obs["front_image"].shape == (2, HIGH, WIDE, 3)
        return replace(super().__call__(request), actions=np.zeros((15, 6), np.float32))


def test_check_wants_the_policys_camera_and_pictures_that_change(moving, constant, capsys):
    with serving(Still()) as (url, _, _):
        with pytest.raises(RuntimeError, match=r"observation front_image: the policy \[48, 64, 3\], the robot none"):
            desk_of("deploy", f"server={url}").__enter__()
        for source in (moving, constant):
            with desk_of("deploy", f"server={url}", sensor(source)) as (script, desk):
                if source == constant:
                    with pytest.raises(ValueError, match="pictures that change, front_image did not"):
                        script["check"](desk)
                else:
                    script["check"](desk)
                    assert "agree on robot0_eef_pos, robot0_eef_quat, front_image" in capsys.readouterr().out
                desk.planner.close()


class Scripted:
    """Moves along x until `steps` were asked for or the arm is held, and keeps what there is."""

    steering = "by a script"

    def __init__(self, steps):
        self.steps = steps

    def __enter__(self):
        return self

    def __exit__(self, *error): ...

    def begin(self):
        self.asked = 0

    def ask(self, look, sent):
        self.asked += 1
        held = sent is not None and not sent.any()
        return Asked(np.array([0.2, 0, 0, 0, 0, 0]), False, verdict="keep" if self.asked > self.steps or held else "")

    def shown(self, episode):
        return episode


def test_an_arm_is_recorded_with_its_camera_and_a_frozen_one_holds_it(moving, constant, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", sys.__stdin__)  # a file, though no key is read from it
    out = tmp_path / "mine.zarr.zip"
    with desk_of("record", f"out={out}", "episodes=2", sensor(moving)) as (script, desk):
        script["record"](replace(desk, operator=Scripted(20)))
    data = open_episodes(out)
    assert len(data) == 2 and data.spec == SPEC and data.success is None and data.seed is None
    pictures = data.episode(1).obs["front_image"]
    assert pictures.dtype == np.uint8 and len(np.unique(pictures[:, 24, 16, 0])) > 3
    assert np.ptp(data.episode(0).obs["robot0_eef_pos"][:, 0]) > 0.01
    alarm = ["episodes=1", "alarms.frozen=0.3"]
    with desk_of("record", f"out={tmp_path / 'frozen.zarr.zip'}", *alarm, sensor(constant)) as (script, desk):
        script["record"](replace(desk, operator=Scripted(400)))
        assert "front_image has not changed for 0." in desk.robot.stopped
