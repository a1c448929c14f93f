"""The scaling grid: what an update costs, counted by hand, and cells that are trained once, resumed and fitted."""

import json

import imageio.v3 as imageio
import pytest
import torch
from small_text import CONTEXT, DIM, VOCABULARY, compose_text, make, seeded, write_folder
from tiny_runs import script

from ebt_policy.core import DescentConfig
from ebt_policy.rollout.flops import flops_per_update
from ebt_policy.tasks.text import TextBatch
from ebt_policy.train.log import RunLog, read_log
from ebt_policy.train.run import prepare

ROWS = 4
BATCH = TextBatch(torch.randint(VOCABULARY, (ROWS, CONTEXT + 1), generator=seeded()))
TOKENS = ROWS * CONTEXT


def test_an_update_of_the_transformer_costs_six_operations_a_weight_and_token_and_its_attention():
    model = make("transformer")
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2) - model.embed.weight.numel()  # looked up
    attention = 2 * 2 * CONTEXT * DIM * len(model.model.trunk.blocks)  # a token's scores and mixture, forward
    count = flops_per_update(model, BATCH)
    assert count == 3 * TOKENS * (2 * weights + attention)
    assert 1 < count / (6 * TOKENS * weights) < 1.2  # the rule of thumb leaves attention out


def test_second_order_makes_an_update_of_an_ebt_several_times_as_dear():
    count = flops_per_update(make("s1"), BATCH)
    assert 4 < count / flops_per_update(make("transformer"), BATCH) < 10


def test_a_random_number_of_steps_costs_its_mean_and_leaves_the_walk_as_it_was():
    model, costs = make("s2"), {}
    model.replay = None
    drawn = model.model.train_walk
    for steps in (2, 3, 4):
        model.model.train_walk = DescentConfig(steps, noise=(3.0, 3.0), state="simplex", backprop="last")
        costs[steps] = flops_per_update(model, BATCH)
    assert costs[4] - costs[3] == costs[3] - costs[2] > 0
    model.model.train_walk = drawn
    assert flops_per_update(model, BATCH) == (costs[2] + costs[3]) / 2 and model.model.train_walk is drawn


def test_kept_rows_cost_as_much_as_fresh_ones():
    model, alone = make("s2"), make("s2")
    alone.replay = None
    for _ in range(len(model.replay.rows) // ROWS):
        model.replay.join(BATCH.ids)
    assert flops_per_update(model, BATCH) == pytest.approx(1.5 * flops_per_update(alone, BATCH))


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "texts")


def test_the_data_can_be_cut_short_and_no_more_be_asked_for_than_there_is(folder, tmp_path):
    def rows(*more):
        return len(prepare(compose_text(tmp_path / "run", folder, "experiment=text_transformer", *more)).examples)

    assert rows("task.tokens=65") == 4 < rows()
    with pytest.raises(ValueError, match="expected task.tokens of 1 to .* got 1000000"):
        rows("task.tokens=1000000")


@pytest.fixture
def grid(folder, tmp_path):
    """Starts scripts/scaling.py on four cells of a second each."""
    small = ["task=text_folder", f"task.corpus={folder}", f"task.cache={tmp_path / 'cache'}", "task.vocabulary=280"]
    small += ["task.context=16", "validation=0.25", "fit.batch=4", "fit.updates=3", "fit.save_every=0"]
    values = ["net.dim=8 net.heads=1", "net.dim=16 net.heads=1"]

    def start(*more, settings=(), flags=()):
        lists = {"settings": [*small, "net.depth=1", *settings], "axes.width": values}
        written = [f"{name}=[{','.join(map(repr, items))}]" for name, items in lists.items()]
        where = [f"folder={tmp_path / 'cells'}", f"out={tmp_path / 'scaling_width.json'}"]
        what = ["axis=width", "methods=[text_ebt_s1,text_transformer]", "seeds=[0]"]
        script("scaling", *flags, *what, *written, *where, *more)

    return start


def test_a_grid_that_was_stopped_goes_on_where_it_was_and_is_fitted_once(grid, tmp_path, monkeypatch, capsys):
    write = RunLog.write

    def stopped(self, row):
        write(self, row)
        if row["update"] == 3 and "text_transformer" in str(self.path):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="130"):
        patch.setattr(RunLog, "write", stopped)
        grid()
    cells = tmp_path / "cells" / "width"
    (done,) = cells.rglob("cell.json")
    before = done.stat().st_mtime_ns
    assert list(cells.rglob("resume/00*")) and not (done.parent / "resume").exists()
    grid()
    result = json.loads((tmp_path / "scaling_width.json").read_text())
    assert done.stat().st_mtime_ns == before and len(result["cells"]) == 4 and len(result["hashes"]["data"]) == 16
    for cell in result["cells"]:
        assert cell["flops"] == 3 * cell["flops_per_update"] and cell["updates"] == 3
    (one,) = [c for c in result["cells"] if (c["method"], c["width"]) == ("text_ebt_s1", 8)]
    assert one["val_loss"] == read_log(done.parent / "train.jsonl")[-1]["val_loss"]
    assert set(result["fits"]) == set(result["differences"]) == {"width", "flops"}
    assert "no interval" in capsys.readouterr().out  # of two sizes
    assert imageio.imread(tmp_path / "scaling_width.png").std() > 10
    with pytest.raises(SystemExit, match="was trained with another fit: set folder="):
        grid(settings=["fit.updates=4"])


def test_workers_share_the_cells_and_the_last_one_fits(grid, tmp_path, capsys):
    grid("workers=3", "worker=0,1", flags=["--multirun"])
    assert len(list((tmp_path / "cells").rglob("cell.json"))) == 3 and not (tmp_path / "scaling_width.json").exists()
    assert "1 of 4 cells are still to be trained" in capsys.readouterr().out
    grid("worker=2", "workers=3")
    assert (tmp_path / "scaling_width.json").exists()


def test_an_axis_or_a_worker_that_is_not_there_is_refused(grid):
    for wrong, message in (
        ("axis=height", "one of data, batch, depth, width, parameters"),
        ("worker=1", "workers - 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            grid(wrong)
