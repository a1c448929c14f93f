"""One graph for the whole update, second derivatives included: traced without a break, and the same numbers."""

import shutil
import sys

import pytest
import torch
import torch._inductor.config
from tiny_runs import compose_train
from torch import nn

from ebt_policy.train.log import read_log
from ebt_policy.train.run import train_run


def losses(run, store, *more, updates=4):
    """Loss and gradient norm of every update."""
    settings = ("fit.precision=fp32", "fit.log_every=1", "validation=0")
    train_run(compose_train(run, store, *settings, *more, updates=updates))
    return [(row["loss"], row["grad_norm"]) for row in read_log(run / "train.jsonl")]


def assert_equal_to_eager(store, tmp_path, *more):
    eager = losses(tmp_path / "eager", store, *more)
    compiled = losses(tmp_path / "compiled", store, "fit.compile=true", *more)
    for (loss, norm), (other_loss, other_norm) in zip(eager, compiled, strict=True):
        assert other_loss == pytest.approx(loss, abs=1e-4) and other_norm == pytest.approx(norm, rel=1e-3)


def trace_only(monkeypatch):
    """What our code can break is the tracing; generating machine code takes most of a minute, and a compiler."""
    compile_module = nn.Module.compile
    traced = lambda module, options: compile_module(module, backend="aot_eager", fullgraph=True)  # noqa: E731
    monkeypatch.setattr(nn.Module, "compile", traced)


def test_the_compiled_update_has_the_losses_of_the_eager_one(store, tmp_path, monkeypatch):
    if shutil.which("g++") is None:
        monkeypatch.setenv("CXX", sys.executable)
        trace_only(monkeypatch)
    with torch._inductor.config.patch(cpp_wrapper=True, compile_threads=1):  # one file for all kernels: sooner compiled
        assert_equal_to_eager(store, tmp_path)


def test_an_update_of_several_descent_steps_is_traced_whole(store, tmp_path, monkeypatch):
    trace_only(monkeypatch)
    torch._dynamo.reset()
    assert_equal_to_eager(store, tmp_path, "method.model.train_walk.steps=2")


def test_compiling_without_a_compiler_says_what_to_install(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler, no-such-compiler is not there: install it, or"):
        train_run(compose_train(tmp_path, store, "fit.compile=true"))
