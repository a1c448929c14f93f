"""A compiled policy acts like the eager one: traced without a break, equal to rounding, for both methods."""

import shutil
from functools import partial

import pytest
import torch
from tiny_runs import compose_train

from ebt_policy.data.store import open_episodes
from ebt_policy.data.windows import WindowDataset
from ebt_policy.rollout.flops import flops_per_chunk
from ebt_policy.train import build
from ebt_policy.train.run import train_run


def tiny(run, store, method):
    """A policy of random weights, no head of zeros among them, and 3 observations."""
    cfg, data = compose_train(run, store, f"method={method}"), open_episodes(store)
    torch.manual_seed(0)
    policy = build.policy(cfg, data.spec, data).eval().requires_grad_(False)
    for parameter in policy.model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return policy, WindowDataset(data, 2, 4).batch(torch.arange(3)).obs


def trace_only(monkeypatch):
    """Fail where tracing stops, and generate no machine code, which takes much longer and a compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))


def act(policy, obs):
    return policy.predict_action(obs, torch.Generator().manual_seed(0))


def assert_equal(one, other):
    torch.testing.assert_close(one.plan, other.plan, atol=1e-4, rtol=1e-4)
    if one.energies is not None:
        torch.testing.assert_close(one.energies, other.energies, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.score(), other.score(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["ebt", "diffusion"])
def test_acting_is_traced_whole_and_compiling_changes_nothing(store, tmp_path, monkeypatch, method):
    trace_only(monkeypatch)
    torch._dynamo.reset()
    policy, obs = tiny(tmp_path, store, method)
    eager, flops = act(policy, obs), flops_per_chunk(policy)
    policy.compile_for_acting()
    assert_equal(act(policy, obs), eager)
    assert_equal(act(policy, obs), eager)  # not only the call that compiles
    assert flops_per_chunk(policy) == flops


def test_machine_code_of_the_energys_gradient_gives_the_same_actions(store, tmp_path, monkeypatch):
    if shutil.which("g++") is None:
        trace_only(monkeypatch)
    torch._dynamo.reset()
    policy, obs = tiny(tmp_path, store, "ebt")
    eager = act(policy, obs)
    policy.compile_for_acting()
    assert_equal(act(policy, obs), eager)


def test_loading_to_act_compiled_without_a_compiler_says_what_to_install(store, tmp_path, monkeypatch):
    train_run(compose_train(tmp_path, store, updates=1))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="compile=true needs a C\\+\\+ compiler, no-such-compiler is not there"):
        build.load_policy(tmp_path, compile=True)
