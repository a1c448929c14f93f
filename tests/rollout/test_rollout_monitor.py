"""Signals whose values are known, and agents that act the same whether they are watched or not."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from point_policies import HORIZON, SPEC, bowl_policy, net_agent, net_policy
from toy_rollout import POINT

from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.evaluation import evaluate
from ebt_policy.rollout.monitor import Monitor, MonitoredAgent, Watch, flat_inputs, mmd
from ebt_policy.rollout.result import write_result
from ebt_policy.rollout.sim import rollout

ALWAYS, LATER = {"elapsed", "spread"}, {"overlap"}
ENERGY = {"energy", "energy_drop", "grad_norm", "steps_to_tol"}


def seen(position, target=0.0):
    return {"position": np.full(2, position, np.float32), "target": np.full(2, target, np.float32)}


def watched(policy, demonstrated=None, **settings):
    return MonitoredAgent(ChunkedAgent(policy), Monitor(policy, Watch(**settings), demonstrated))


def signals(agent, *positions):
    """Of every chunk, the observed position standing still while a chunk is executed."""
    agent.reset(0)
    for position in positions:
        for _ in range(HORIZON.execute):
            agent.act(seen(position))
    return [chunk.signals for chunk in agent.chunks]


@pytest.mark.parametrize("method", ["ebt", "diffusion", "flow"])
def test_episodes_are_the_same_with_and_without_a_monitor(method):
    plain, with_monitor = (rollout(partial(net_agent, method, m), POINT, [3, 4], max_steps=20) for m in (False, True))
    for one, other in zip(plain, with_monitor, strict=True):
        assert one.digest == other.digest and one.energies == other.energies and one.length == other.length
        assert one.signals == [] and len(other.signals) == len(other.steps) == 7


@pytest.mark.parametrize("method", ["ebt", "diffusion", "flow"])
def test_every_method_has_the_signals_that_it_can_have(method):
    first, *later = rollout(partial(net_agent, method, True), POINT, [3], max_steps=10)[0].signals
    own = ENERGY if method == "ebt" else set()
    assert set(first) == ALWAYS | own
    assert later and all(
        set(s) == ALWAYS | LATER | own | ({"tail_energy", "tail_rise"} if own else set()) for s in later
    )
    assert all(math.isfinite(value) for s in (first, *later) for value in s.values())
    assert [s["elapsed"] for s in (first, *later)] == [0, 3, 6, 9]


def test_signals_follow_from_the_seed():
    one, again = (rollout(partial(net_agent, "ebt", True), POINT, seeds, max_steps=8) for seeds in ([5, 6], [6, 5]))
    assert [log.signals for log in one] == [log.signals for log in reversed(again)]
    assert one[0].signals != one[1].signals


def test_signals_are_written_per_chunk_with_each_episode(tmp_path):
    result = evaluate(partial(net_agent, "flow", True), POINT, [1], max_steps=8)
    (episode,) = json.loads(write_result(tmp_path / "monitor.json", result).read_text())["episodes"]
    assert [chunk["elapsed"] for chunk in episode["signals"]] == [0, 3, 6]


def test_plans_that_all_agree_and_come_true_raise_no_signal():
    agent = watched(bowl_policy(speed=0.5))
    agent.reset(0)
    for t in range(2 * HORIZON.execute):
        agent.act(seen(0.5 * t))  # as planned
    _, signal = [chunk.signals for chunk in agent.chunks]
    for name in ("spread", "overlap", "energy", "tail_energy", "tail_rise"):
        assert signal[name] == pytest.approx(0, abs=1e-9), name
    assert signal["energy_drop"] > 0 and signal["grad_norm"] > 0


def test_what_leaves_the_plan_raises_its_energy_by_half_the_squared_distance_of_the_rest():
    _, signal = signals(watched(bowl_policy(), bandwidth=0.5), 0.0, 0.3)
    rest = (HORIZON.predict - HORIZON.execute) * 2  # numbers, each 0.3 off
    assert signal["tail_energy"] == pytest.approx(0.5 * rest * 0.3**2, rel=1e-4)
    assert signal["tail_rise"] == pytest.approx(signal["tail_energy"], rel=1e-4)
    assert signal["overlap"] == pytest.approx(2 - 2 * math.exp(-0.5 * 0.3**2 / 0.5**2), rel=1e-4)


def test_a_plan_that_was_dropped_early_is_compared_from_where_it_was_dropped():
    policy = bowl_policy(speed=0.5)
    monitor = Monitor(policy, Watch())
    for since, start in ((0, 0.0), (2, 1.0)):  # after two steps along it
        obs = {k: torch.full((1, 2, 2), start if k == "position" else 0.0) for k in SPEC.obs}
        signal = monitor(obs, policy.predict_action(obs), since)
    assert signal["overlap"] == pytest.approx(0, abs=1e-9) and signal["tail_rise"] == pytest.approx(0, abs=1e-9)


def test_plans_that_share_no_step_have_no_overlap():
    policy = bowl_policy()
    monitor, obs = Monitor(policy, Watch()), {k: torch.zeros(1, 2, 2) for k in SPEC.obs}
    monitor(obs, policy.predict_action(obs))
    signal = monitor(obs, policy.predict_action(obs), HORIZON.predict)
    assert not {"overlap", "tail_energy", "tail_rise"} & set(signal)


def test_the_spread_is_that_of_the_samples():
    agent = watched(bowl_policy(step_size=1e-9), samples=400)  # plans stay the noise that they start from
    (signal,) = signals(agent, 0.0)
    assert signal["spread"] == pytest.approx(1, abs=0.05)


def test_plans_are_drawn_apart_from_those_that_are_executed():
    agent = watched(bowl_policy(step_size=1e-9), samples=2)
    signals(agent, 0.0)
    assert (agent.monitor.plans - agent.agent.chunk.plan).flatten(1).norm(dim=1).min() > 1


def test_steps_are_counted_until_the_gradient_is_within_the_tolerance():
    """Halved at every step, the norm |y0| about sqrt(12) is below 0.1 after 6; one more step is taken by then."""
    (signal,) = signals(watched(bowl_policy(step_size=0.5), tol=0.1, samples=64), 0.0)
    assert signal["steps_to_tol"] == pytest.approx(math.log2(math.sqrt(12) / 0.1) + 1.5, abs=0.4)
    (signal,) = signals(watched(bowl_policy(step_size=1e-6), tol=0.1, patience=5), 0.0)
    assert signal["steps_to_tol"] == 5


def test_the_policy_that_acts_keeps_its_own_steps():
    policy = bowl_policy(steps=2)
    signals(watched(policy), 0.0, 0.1)
    assert policy.model.act.steps == 2 and policy.model.act.tol == 0


def test_the_distance_is_that_to_the_nearest_demonstration():
    policy = bowl_policy()
    rows = {"position": torch.tensor([0.0, 1.0]), "target": torch.zeros(2)}
    demonstrated = flat_inputs(policy, {k: v[:, None, None].expand(2, 2, 2) for k, v in rows.items()})
    first, second = signals(watched(policy, demonstrated), 0.0, 0.8)
    assert first["distance"] == 0
    # of 8 numbers, 2 observed steps of position and target, two are 0.8 off the demonstration at 0
    assert second["distance"] == pytest.approx(math.sqrt(2 * 0.8**2 / 8))


def test_mmd_is_zero_for_equal_samples_and_two_for_points_far_apart():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert mmd(x, x, 1.0) == pytest.approx(0, abs=1e-6)
    assert mmd(torch.zeros(4, 3), torch.full((6, 3), 9.0), 0.5) == pytest.approx(2)
    assert mmd(torch.zeros(1, 3), torch.ones(1, 3), 1.0) == pytest.approx(2 - 2 * math.exp(-0.5))


def test_the_energy_of_a_given_plan_is_what_sampling_says_of_its_own():
    policy, obs = net_policy("ebt"), {k: torch.rand(4, 2, 2) for k in SPEC.obs}
    chunk = policy.predict_action(obs, torch.Generator().manual_seed(0))
    torch.testing.assert_close(policy.energy(obs, chunk.plan), chunk.score())
    with pytest.raises(ValueError, match="expected a method with an energy, got Flow"):
        net_policy("flow").energy(obs, chunk.plan)


def test_settings_that_compare_nothing_are_refused():
    with pytest.raises(ValueError, match="watch.samples must be at least 2 and whole, got 1"):
        Watch(samples=1)
    with pytest.raises(ValueError, match="watch.bandwidth must be above 0 and finite, got 0.0"):
        Watch(bandwidth=0.0)
