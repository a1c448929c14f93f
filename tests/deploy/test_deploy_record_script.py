"""scripts/record.py as a person uses it: keys typed at a pseudo-terminal, the simulated robot, a file of episodes."""

import runpy
import signal
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from person import Person
from tiny_runs import ROOT, SPEC

from ebt_policy.data.store import DataError, check_appendable, open_episodes
from ebt_policy.deploy.clock import FakeClock
from ebt_policy.deploy.devices.keyboard import Keyboard
from ebt_policy.deploy.robot import Motion
from ebt_policy.deploy.teleop import Steering


def test_two_episodes_are_kept_one_is_discarded_and_the_one_that_ran_is_lost_with_the_run(tmp_path):
    out = tmp_path / "mine.zarr.zip"
    person = Person("record.py", "task=lift", f"out={out}", "episodes=5")
    person.sees("Enter ends the episode")
    for seed, key, end, said in ((0, "w", "\n", "kept"), (1, "a", "\x7f", "discarded"), (2, "r", "\n", "kept")):
        person.sees(f"seed {seed}: it begins when you steer")
        person.sees(r"[1-9]\.\d s  robot0_eef_pos \[[-\d. ]+\]  object \[", types=key)
        person.types(end)
        steps = person.sees(rf"{said}: (\d+) steps, not solved")
        assert int(steps[1]) >= 20
    person.sees("seed 3")
    person.sees("[1-9]\\.\\d s", types="d")
    person.script.send_signal(signal.SIGTERM)
    assert person.script.wait(60) == 128 + signal.SIGTERM
    data = open_episodes(out)
    assert data.seed.tolist() == [0, 2] and not data.success.any()
    check_appendable(open_episodes(ROOT / "assets/demos/lift.zarr.zip"), data.spec, data.episode(0))
    first, second = data.episode(0), data.episode(1)
    assert first.action[:, 0].max() == np.float32(0.2) and not first.action[:, 1:6].any()
    assert first.obs["robot0_eef_pos"][-1, 0] > first.obs["robot0_eef_pos"][0, 0] + 0.01
    assert second.action[0, 2] == np.float32(0.2)
    np.testing.assert_array_equal(first.executed, first.action)
    assert first.initial_state[0] == 0.0 and first.initial_state.shape == (32,) and list(tmp_path.iterdir()) == [out]


def test_a_planar_task_is_steered_by_its_own_yaml_and_fits_to_its_demonstrations(tmp_path):
    out = tmp_path / "mine.zarr.zip"
    person = Person("record.py", "task=avoid", f"out={out}", "episodes=1")
    person.sees("seed 0: it begins when you steer")
    person.sees(r"1\.\d s  tool \[", types="w")
    person.types("\n")
    person.sees("kept: ")
    assert person.script.wait(60) == 0
    data = open_episodes(out)
    shipped = open_episodes(ROOT / "assets/demos/avoid.zarr.zip")
    check_appendable(shipped, data.spec, data.episode(0))
    assert data.initial_state.shape[1] == shipped.initial_state.shape[1] and np.ptp(data.obs["tool"][:, 0]) > 0.02


@pytest.mark.parametrize("name", ["keyboard", "gamepad", "spacemouse", "guiding"])
def test_every_device_is_a_yaml_that_makes_a_teleoperator(name):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("record", [f"device={name}", "out=x.zarr.zip"])
    steering = Steering(SPEC, Motion(**cfg.robot.motion), **cfg.steering)
    operator = instantiate(cfg.device)(Keyboard(FakeClock(), cfg.hold, file=0), steering)
    assert operator.steering.startswith(name[:5].replace("space", "Space")) and "Enter ends" in operator.steering


def test_a_file_is_added_to_after_its_last_seed_and_only_if_everything_fits():
    script = runpy.run_path(str(ROOT / "scripts" / "record.py"))
    shipped = ROOT / "assets/demos/lift.zarr.zip"
    data = open_episodes(shipped)
    inner = SimpleNamespace(env=gym.make("envs:PushT-v0"))  # which has states, as Lift has
    desk = SimpleNamespace(cfg=SimpleNamespace(first_seed=3), spec=data.spec, simulated=True, inner=inner)
    assert script["first_seed"](desk, ROOT / "new.zarr.zip") == 3
    assert script["first_seed"](desk, shipped) == data.seed.max() + 1
    with pytest.raises(DataError, match="got 'mine.hdf5'"):
        script["first_seed"](desk, ROOT / "mine.hdf5")
    desk.spec = replace(data.spec, hz=10.0)
    with pytest.raises(DataError, match="hz: 20.0 against 10.0: use a new file"):
        script["first_seed"](desk, shipped)
