"""Cells of tables: found in their JSON files where these are of the weights at hand, evaluated anew where not."""

import json

import pytest

from ebt_policy.rollout.result import describe, first, write_result
from ebt_policy.rollout.sim import EpisodeLog
from ebt_policy.train.cells import Cell, result_of, training_runs
from ebt_policy.train.evaluate import sha256


def log(seed):
    return EpisodeLog(seed, seed % 2 == 0, True, 9, [2], [[3.0, 1.0]], [0.1], "d", [0.01 * (seed % 7)])


def never(overrides):
    raise AssertionError("nothing was to be evaluated")


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "ebt_square"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights")
    return folder


def write_evaluation(checkpoint, count, name="ebt_square_2"):
    result = describe([log(s) for s in range(50000, 50000 + count)], 1.0, flops=5)
    weights = sha256(checkpoint / "weights.safetensors")
    write_result(checkpoint.parent / f"{name}.json", result | {"hashes": {"weights": weights}, "config": {}})


def test_names_tell_samplings_apart_and_those_of_steps_and_samplers_are_as_before(tmp_path):
    samplings = [{"steps": 2}, {"steps": 10, "sampler": "ddim"}, {"steps": 16, "tol": 0.1}, {"noise": [0.0, 0.4]}, {}]
    names = [Cell(tmp_path / "ebt_can", sampling, 0, 1).name for sampling in samplings]
    assert names == ["ebt_can_2", "ebt_can_10_ddim", "ebt_can_16_tol0.1", "ebt_can_noise0.0-0.4", "ebt_can"]


def test_what_an_agent_does_between_chunks_is_not_asked_of_the_sampler(tmp_path):
    asked = Cell(tmp_path / "ebt_can", {"steps": 1, "warm": 0.3, "execute": 4}, 0, 1).overrides(processes=1)
    assert {"method.steps=1", "warm=0.3", "execute=4"} <= set(asked)


def test_a_cell_is_read_from_its_file_and_the_first_of_its_episodes_are_enough(checkpoint):
    write_evaluation(checkpoint, 6)
    for count in (6, 4):
        found = result_of(Cell(checkpoint, {"steps": 2}, 50000, count), checkpoint.parent, never)
        assert found["summary"]["episodes"] == count and found["seeds"] == list(range(50000, 50000 + count))


def test_the_first_episodes_are_what_an_evaluation_of_them_alone_gives(checkpoint):
    write_evaluation(checkpoint, 6)
    whole = json.loads((checkpoint.parent / "ebt_square_2.json").read_text())
    alone = json.loads(json.dumps(describe([log(s) for s in range(50000, 50003)], 1.0, flops=5)))
    part = first(whole, 3)
    assert [part[k] for k in ("summary", "seeds", "compute", "episodes")] == [
        alone[k] for k in ("summary", "seeds", "compute", "episodes")
    ]
    assert part["timing"]["latency_median"] == alone["timing"]["latency_median"]
    assert part["hashes"] == whole["hashes"]


@pytest.mark.parametrize(
    "first_seed, count, weights", [(50001, 3, b"weights"), (50000, 9, b"weights"), (50000, 3, b"?")]
)
def test_a_file_of_other_weights_or_too_few_or_other_states_does_not_count(checkpoint, first_seed, count, weights):
    write_evaluation(checkpoint, 6)
    (checkpoint / "weights.safetensors").write_bytes(weights)
    cell = Cell(checkpoint, {"steps": 2}, first_seed, count)
    assert result_of(cell, checkpoint.parent, never, evaluate="none") is None
    with pytest.raises(AssertionError, match="nothing was to be evaluated"):
        result_of(cell, checkpoint.parent, never)


def test_without_weights_there_is_no_cell_and_modes_have_names(checkpoint):
    assert result_of(Cell(checkpoint.parent / "none", {}, 0, 1), checkpoint.parent, never) is None
    with pytest.raises(ValueError, match="evaluate is missing, all or none, got 'some'"):
        result_of(Cell(checkpoint, {}, 0, 1), checkpoint.parent, never, evaluate="some")


def test_training_runs_are_those_of_other_seeds_alone_in_their_order(tmp_path):
    for name in ("ebt_can", "ebt_can_seed10", "ebt_can_seed2", "ebt_can_updates", "ebt_can_seed_x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").touch()
    (tmp_path / "ebt_can_seed3").mkdir()
    assert [run.name for run in training_runs(tmp_path, "ebt_can")] == ["ebt_can", "ebt_can_seed2", "ebt_can_seed10"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"hashes": {}}', '{"hashes": {"weights": "a"}}', "[" * 9999]
)
def test_a_file_that_is_no_result_is_named(checkpoint, text):
    (checkpoint.parent / "ebt_square_2.json").write_text(text)
    with pytest.raises(ValueError, match="ebt_square_2.json is no result of an evaluation .*: remove it"):
        result_of(Cell(checkpoint, {"steps": 2}, 50000, 3), checkpoint.parent, never)
