"""One graph for the whole update, second derivatives included: traced without a break, and the same numbers."""

import pytest
import torch
from tiny_runs import compose_train
from torch import nn

from ebt_policy.train.log import read_log
from ebt_policy.train.run import train_policy


def losses(run, store, *more, updates=4):
    """Loss and gradient norm of every update."""
    settings = ("fit.precision=fp32", "fit.log_every=1", "validation=0")
    train_policy(compose_train(run, store, *settings, *more, updates=updates))
    return [(row["loss"], row["grad_norm"]) for row in read_log(run / "train.jsonl")]


def assert_equal_to_eager(store, tmp_path, *more):
    eager = losses(tmp_path / "eager", store, *more)
    compiled = losses(tmp_path / "compiled", store, "fit.compile=true", *more)
    for (loss, norm), (other_loss, other_norm) in zip(eager, compiled, strict=True):
        assert other_loss == pytest.approx(loss, abs=1e-4) and other_norm == pytest.approx(norm, rel=1e-3)


def test_the_compiled_update_has_the_losses_of_the_eager_one(store, tmp_path):
    assert_equal_to_eager(store, tmp_path)


@pytest.mark.parametrize("method", [["method.model.train_walk.steps=2"], ["method=diffusion"]], ids=str)
def test_an_update_is_traced_whole(store, tmp_path, monkeypatch, method):
    def traced_only(module, options):  # what can break is the tracing; generating code for it takes a minute
        return compile_module(module, backend="aot_eager", fullgraph=True)

    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", traced_only)
    torch._dynamo.reset()
    assert_equal_to_eager(store, tmp_path, *method)
