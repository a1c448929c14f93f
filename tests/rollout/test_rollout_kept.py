"""Episodes that are on disk as they end: what a killed run has, another run goes on from."""

import json
from dataclasses import asdict, replace

from toy_rollout import POINT, toy_agent

from ebt_policy.rollout.kept import Kept
from ebt_policy.rollout.sim import rollout

FACTS = {"run": {"env_id": POINT}, "seeds": []}


def played(seeds):
    return rollout(toy_agent, POINT, seeds)


def test_what_was_added_is_there_for_the_next_run_of_the_same_facts_and_for_no_other(tmp_path):
    logs = played([1, 2])
    with Kept(tmp_path, FACTS) as kept:
        for log in logs:
            kept.add(log)
            assert len(kept.path.read_text().splitlines()) == len(kept.logs)
    with Kept(tmp_path, dict(reversed(FACTS.items()))) as again:
        assert [asdict(again.logs[seed]) for seed in (1, 2)] == [asdict(log) for log in logs]
    with Kept(tmp_path, FACTS | {"watch": {"samples": 3}}) as other:
        assert not other.logs and other.path != kept.path


def test_a_line_that_a_kill_has_cut_is_played_again_and_the_others_stay(tmp_path):
    with Kept(tmp_path, FACTS) as kept:
        for log in played([1, 2]):
            kept.add(log)
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole[:-20])
    with Kept(tmp_path, FACTS) as cut:
        assert list(cut.logs) == [1]
        cut.add(played([2])[0])
    lines = [json.loads(line) for line in kept.path.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [1, 2]


def test_numbers_that_are_not_finite_come_back_as_they_were(tmp_path):
    log = replace(played([1])[0], signals=[{"energy": float("inf"), "spread": -0.1}])
    with Kept(tmp_path, FACTS) as kept:
        kept.add(log)
    with Kept(tmp_path, FACTS) as again:
        assert again.logs[1].signals == log.signals
