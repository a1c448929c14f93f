"""The training loop: budgets, rates, batches, averages, and what happens when numbers are not finite."""

import copy
import math
import re
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from toy_fit import Examples, Line, Rows

from ebt_policy.core.model import Loss
from ebt_policy.train import fit as loop
from ebt_policy.train.checkpoint import load_training, save_training
from ebt_policy.train.fit import FitConfig, Stopped, fit

QUICK = {"updates": 12, "batch": 8, "lr": 0.05, "warmup": 1, "log_every": 1, "eval_every": 100}


def trained(log=None, examples=None, **settings):
    module = Line()
    callbacks = {k: settings.pop(k) for k in ("save", "resume", "evals") if k in settings}
    average = fit(module, examples or Examples(), FitConfig(**QUICK | settings), log or Rows(), **callbacks)
    return module, average


def test_a_run_that_was_stopped_and_resumed_equals_one_in_one_go(tmp_path):
    whole, whole_average = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(Rows(stop_at=8), save_every=0, save=lambda state: save_training(tmp_path, state))
    log = Rows()
    again, average = trained(log, resume=lambda state: load_training(tmp_path, state))
    assert log.rows[0]["update"] == 8  # the save of update 7 was the last one
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    pairs = zip(whole_average.state_dict().values(), average.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_budget_is_exactly_one_of_updates_and_minutes():
    for budget in ({}, {"updates": 5, "minutes": 1.0}):
        with pytest.raises(ValueError, match="expected one budget.*set one to null"):
            FitConfig(**budget)


NO_NUMBERS = (math.nan, -1, "1", True)
WRONG = {  # setting -> what it cannot be
    "updates": (0, 1.5, 1e4, math.inf, *NO_NUMBERS),
    "minutes": (0, math.inf, *NO_NUMBERS),
    "batch": (0, 1.5, None, *NO_NUMBERS),
    "lr": (0, math.inf, None, *NO_NUMBERS),
    "final_lr": (1.1, None, *NO_NUMBERS),
    "warmup": (-5, 1.5, None, *NO_NUMBERS),
    "weight_decay": (math.inf, None, *NO_NUMBERS),
    "clip": (0, None, *NO_NUMBERS),
    "ema": (1, 2, math.inf, None, *NO_NUMBERS),
    "compile": ("no", 1, None),
    "precision": ("fp16", 32, None),
    "seed": (1.5, 10**30, None, *NO_NUMBERS),
    "log_every": (0, 1.5, math.inf, None, *NO_NUMBERS),
    "eval_every": (0, 1.5, math.inf, None, *NO_NUMBERS),
    "save_every": (None, *NO_NUMBERS),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_cannot_be_is_refused_by_name(name):
    assert set(WRONG) == {field.name for field in fields(FitConfig)}
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=f"^fit.{name} must be .*, got {re.escape(repr(value))}$"):
            FitConfig(**({} if name == "minutes" else {"updates": 9}) | {name: value})


def test_settings_at_the_edge_of_what_can_be_are_taken():
    FitConfig(updates=1, warmup=0, weight_decay=0, ema=0.0, final_lr=1.0, clip=math.inf, save_every=math.inf)
    FitConfig(minutes=1, save_every=0, seed=10**15)


def test_the_rate_warms_up_over_updates_and_falls_as_a_cosine_over_the_budget():
    cfg = FitConfig(updates=100, lr=2.0, warmup=10, final_lr=0.1)
    assert cfg.rate(0, 0.0) == pytest.approx(0.2)
    assert cfg.rate(9, 0.0) == pytest.approx(2.0)
    assert cfg.rate(50, 0.5) == pytest.approx(2.0 * 0.55)
    assert cfg.rate(100, 1.0) == pytest.approx(0.2)
    assert FitConfig(updates=1, warmup=0).rate(0, 0.0) == FitConfig(updates=1).lr


def test_a_budget_in_minutes_counts_training_only_and_ends_with_a_row_and_a_save(monkeypatch):
    now = [0.0]

    def tick():
        now[0] += 1.0
        return now[0]

    def slow_eval(module):
        now[0] += 1000.0
        return {"val": 0.0}

    monkeypatch.setattr(loop.time, "monotonic", tick)
    log, saves = Rows(), []
    save = lambda state: saves.append(state.progress.update)  # noqa: E731
    trained(log, updates=None, minutes=0.5, eval_every=5, evals=(slow_eval,), save=save, save_every=1e9)
    last = log.rows[-1]
    assert last["update"] > 10 and last["seconds"] >= 30 and "val" in last
    assert saves == [last["update"]]


def test_every_epoch_asks_for_every_example_once_in_another_order():
    examples = Examples(24)
    trained(examples=examples, updates=6)
    first, second = sum(examples.asked[:3], []), sum(examples.asked[3:], [])
    assert sorted(first) == sorted(second) == list(range(24)) and first != second


def test_processes_share_every_batch_without_overlap():
    cfg = FitConfig(updates=1, batch=8)
    whole = loop._indices(24, cfg, 5, SimpleNamespace(num_processes=1, process_index=0)).tolist()
    parts = [loop._indices(24, cfg, 5, SimpleNamespace(num_processes=2, process_index=i)).tolist() for i in (0, 1)]
    assert sorted(parts[0] + parts[1]) == sorted(whole) and len(parts[0]) == len(parts[1]) == 4


def test_training_leaves_the_global_random_state_and_matmul_precision_alone():
    torch.manual_seed(5)
    Line()  # seeds
    state = torch.get_rng_state()
    trained(updates=3, precision="medium")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_average_follows_its_known_decay_and_copies_buffers():
    update = loop._ema_update(0.999)
    average, value = torch.zeros(2), torch.ones(2)
    update([average], [value], torch.tensor(3))
    torch.testing.assert_close(average, torch.full((2,), 4**-0.75))
    module, averaged = trained()
    assert averaged.seen == module.seen == 12 * 8
    assert not torch.equal(averaged.net.weight, module.net.weight)
    module, averaged = trained(ema=0.0)
    torch.testing.assert_close(averaged.net.weight, module.net.weight)


def test_a_batch_that_is_not_finite_is_named_and_leaves_the_weights_of_the_update_before():
    examples = Examples(24)
    examples.y[13] = torch.nan
    module = Line()
    constant = {"final_lr": 1.0, "lr": 0.05}
    with pytest.raises(FloatingPointError, match=r"batch of examples \[.*\b13\b.*\]") as error:
        fit(module, examples, FitConfig(**QUICK | constant), Rows())
    updates = len(examples.asked) - 1
    assert str(error.value).startswith(f"update {updates}:")
    before = trained(updates=updates, **constant)[0] if updates else Line()
    assert torch.equal(module.net.weight, before.net.weight) and torch.isfinite(module.net.weight).all()


def test_a_loss_that_is_not_finite_is_an_error_also_where_its_gradient_is():
    class Flat(Line):
        def loss(self, batch):
            return Loss(super().loss(batch).total + (math.inf if self.seen > 30 else 0.0), {})

    with pytest.raises(FloatingPointError, match="^update 3: loss inf, gradient not finite in 0 parameters"):
        fit(Flat(), Examples(), FitConfig(**QUICK), Rows())


def test_a_batch_that_leaves_processes_without_examples_is_refused(monkeypatch):
    monkeypatch.setattr(loop, "_accelerator", lambda: SimpleNamespace(num_processes=4))
    with pytest.raises(ValueError, match="fit.batch=3 leaves some of 4 processes without examples"):
        fit(Line(), Examples(), FitConfig(updates=1, batch=3), Rows())


def test_evaluations_that_cost_too_much_are_left_out_but_for_the_first_and_the_last(monkeypatch):
    now = [0.0]

    def tick():
        now[0] += 1.0
        return now[0]

    def measured(seconds):
        def evaluate(module):
            now[0] += seconds
            return {"val": 0.0}

        log = Rows()
        trained(log, updates=400, eval_every=10, log_every=1000, evals=(evaluate,), save_every=1e9)
        return [row["update"] for row in log.rows if "val" in row]

    monkeypatch.setattr(loop.time, "monotonic", tick)
    dear = measured(20.0)
    assert dear[0] == 10 and dear[-1] == 400 and 20 * len(dear) <= 0.05 * 800 + 2 * 20 + 10
    assert measured(0.0) == list(range(10, 401, 10))


def test_a_row_has_the_seconds_of_training_and_those_in_all(monkeypatch):
    now = [0.0]

    def slow(module):
        now[0] += 1000.0
        return {"val": 0.0}

    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    log, progress = Rows(), []
    keep = dict(save=lambda state: progress.append(copy.deepcopy(state.progress)))
    trained(log, updates=3, eval_every=3, evals=(slow,), **keep)
    assert [(row["seconds"], row["wall"]) for row in log.rows] == [(0.0, 0.0), (0.0, 0.0), (0.0, 1000.0)]
    assert progress[-1].wall == 1000.0


def test_a_training_that_is_told_to_stop_is_saved_and_says_where():
    asked, progress = iter([False, False, True]), []
    with pytest.raises(Stopped, match="^3$"):
        fit(
            Line(),
            Examples(),
            FitConfig(**QUICK | {"log_every": 2, "save_every": 1e9}),
            Rows(),
            save=lambda state: progress.append(copy.deepcopy(state.progress)),
            stop=lambda: next(asked),
        )
    assert [p.update for p in progress] == [3] and progress[0].sums["count"] == 1 and progress[0].sums["loss"] > 0


def test_rows_hold_means_since_the_last_row():
    each, pairs = Rows(), Rows()
    trained(each)
    trained(pairs, log_every=2)
    assert [row["update"] for row in pairs.rows] == [2, 4, 6, 8, 10, 12]
    assert pairs.rows[0]["error"] == pytest.approx((each.rows[0]["error"] + each.rows[1]["error"]) / 2)


def test_matrices_decay_and_biases_do_not():
    module = Line()
    matrices, rest = loop._groups(module, 0.1)
    assert matrices == {"params": [module.net.weight], "weight_decay": 0.1}
    assert rest == {"params": [module.net.bias], "weight_decay": 0.0}


def test_evaluation_sees_the_average_and_its_numbers_join_the_row():
    seen = []
    log = Rows()
    _, averaged = trained(log, evals=(lambda m: seen.append(copy.deepcopy(m.state_dict())) or {"val": 7.0},))
    assert log.rows[-1]["val"] == 7.0 and len(seen) == 1
    assert torch.equal(seen[0]["net.weight"], averaged.net.weight)
