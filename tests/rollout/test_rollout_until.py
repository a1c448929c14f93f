"""scripts/monitor.py until=...: blocks of episodes until enough succeeded and failed, kept whatever ends it."""

import json
import runpy
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from point_policies import net_agent
from tiny_runs import ROOT
from toy_rollout import POINT

from ebt_policy.rollout import sim

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "monitor.py"))


def config(*settings):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("monitor", [*settings])


def kept(successes):
    """Every episode succeeds or fails as `successes` says of its seed."""
    return SimpleNamespace(logs={seed: SimpleNamespace(success=successes(seed)) for seed in range(60000, 62000)})


def played(*settings, successes=lambda seed: seed % 10 > 0):
    return [len(seeds) for seeds in SCRIPT["blocks"](config("run=x", *settings), kept(successes))]


def test_without_until_it_is_one_block_and_what_will_be_missing_is_said_before(capsys):
    assert played("episodes=20") == [20]
    assert capsys.readouterr().err == "judging signals takes 2 failures and 27 successes: set until=1\n"
    assert played("episodes=40") == [40] and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [
        (["episodes=20", "until=1"], [20, 40]),  # 36 successes and 4 failures are the first that are enough
        (["episodes=20", "until=1", "alpha=0.05"], [20, 40, 60, 80]),  # 57 successes
        (["episodes=50", "until=8"], [50, 100]),
        (["episodes=50", "until=10"], [50, 100]),
        (["episodes=50", "until=11"], [50, 100, 150]),
    ],
)
def test_it_goes_on_until_there_are_enough_of_both(settings, blocks):
    assert played(*settings) == blocks


def test_a_policy_that_never_fails_is_watched_for_as_long_as_may_be(capsys):
    assert played("episodes=40", "until=1", "most=100", successes=lambda seed: True) == [40, 80]
    assert "stopped after 80 episodes, the most that may be" in capsys.readouterr().err


def test_no_episodes_and_a_promise_that_cannot_be_kept_are_refused_before_anything_is_run():
    with pytest.raises(ValueError, match="expected at least one episode, got episodes=0"):
        played("episodes=0")
    with pytest.raises(ValueError, match=r"in \(0, 1\), got 2"):
        played("alpha=2")


def test_only_episodes_that_are_not_kept_are_played_and_the_bar_counts_both_kinds(tmp_path, capsys):
    settings = {"env_id": POINT, "max_steps": 20, "after_success": 0, "env_kwargs": {"radius": 0.4}}
    make_agent = lambda: net_agent("ebt", True)  # noqa: E731
    with SCRIPT["Kept"](tmp_path, {}) as kept:
        SCRIPT["play"](kept, range(3), make_agent, settings, 1)
        first = dict(kept.logs)
        SCRIPT["play"](kept, range(5), make_agent, settings, 1)
    assert kept.logs == first | {log.seed: log for log in sim.rollout(make_agent, seeds=[3, 4], **settings)}
    lines = [json.loads(line) for line in kept.path.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1, 2, 3, 4] and all(line["signals"] for line in lines)
    succeeded = sum(log.success for log in kept.logs.values())
    assert f"{succeeded} succeeded, {5 - succeeded} failed" in capsys.readouterr().err
