"""Agents that keep a plan that still fits what is seen, and end one that does not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_rollout import POINT, ToyPolicy

from ebt_policy.rollout.agent import ChunkedAgent
from ebt_policy.rollout.replan import RedrawingAgent, ReplanningAgent
from ebt_policy.rollout.sim import rollout


def obs(target):
    return {"position": np.zeros(2, np.float32), "target": np.full(2, target, np.float32)}


def test_a_plan_that_still_fits_is_executed_as_a_chunked_agent_would_bit_for_bit():
    agents = [ChunkedAgent(ToyPolicy()), ReplanningAgent(ToyPolicy(), threshold=5.0)]
    for agent in agents:
        agent.reset(3)
    for t in range(12):
        one, other = (agent.act(obs(0.01 * t)) for agent in agents)
        np.testing.assert_array_equal(one, other)
    assert len(agents[0].chunks) == len(agents[1].chunks) == 3


def test_a_target_that_jumps_is_planned_for_at_once_and_from_then_on_in_whole_chunks():
    agent = ReplanningAgent(ToyPolicy(), threshold=5.0)
    planned, actions = [], []
    for t in range(10):
        actions.append(agent.act(obs(1.0 if t < 2 else -1.0)))
        planned.append(len(agent.chunks))
    assert planned == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert (np.array(actions[:2]) > 0.5).all() and (np.array(actions[2:]) < -0.5).all()


def test_any_policy_ends_a_plan_that_one_drawn_anew_leaves():
    agent = RedrawingAgent(ToyPolicy(energies=False), threshold=0.5)
    planned, apart = [], []
    for t in range(10):
        agent.act(obs(1.0 if t < 2 else -1.0))
        planned.append(len(agent.chunks))
        apart.append(agent.surprise() if agent.queue else None)
    assert planned == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert all(a is None or a < 0.5 for a in apart)  # a plan fits what it was made from
    agent._remember(obs(1.0))
    assert agent.surprise() > 0.5


def test_what_is_drawn_anew_is_compared_with_the_plan_at_the_same_times(monkeypatch):
    agent = RedrawingAgent(ToyPolicy(), threshold=1e9)
    agent.act(obs(1.0))
    agent.act(obs(1.0))
    plan, now, done = agent.chunk.plan, agent.policy.horizon.observe - 1, 2
    shifted = torch.cat([plan[:, done:], torch.full_like(plan[:, :done], 7.0)], dim=1)
    shifted[:, :now] = 7.0  # the past, and what only the new one plans, do not count
    monkeypatch.setattr(agent.policy, "predict_action", lambda *_, **__: SimpleNamespace(plan=shifted))
    assert agent.surprise() == 0


def test_the_rise_is_that_of_the_energy_of_the_rest_of_the_plan():
    """The toy's energy is about |y - goal|^2 / 2 over 6 steps: from a goal of 1 to one of -1, 6 * (4 + 4) / 2."""
    agent = ReplanningAgent(ToyPolicy(steps=8), threshold=1e9)
    agent.act(obs(1.0))
    agent._remember(obs(-1.0))
    assert agent.surprise() == pytest.approx(24, rel=0.05)
    agent._remember(obs(1.0))
    assert agent.surprise() == pytest.approx(0, abs=0.02)


def test_the_rest_is_the_plan_without_what_was_done_and_its_last_action_again(monkeypatch):
    agent, rests = ReplanningAgent(ToyPolicy(), threshold=1e9), []
    plain = agent.policy.energy

    def watched(window, plan):
        rests.append(plan)
        return plain(window, plan)

    monkeypatch.setattr(agent.policy, "energy", watched)
    for _ in range(4):
        agent.act(obs(1.0))
    plan = agent.chunk.plan[0]
    assert len(rests) == 3
    for done, rest in enumerate(rests, 1):
        torch.testing.assert_close(rest[0], torch.cat([plan[done:], plan[-1:].repeat(done, 1)]))


def test_it_rolls_out_like_any_agent_and_its_chunks_are_counted():
    def make(threshold):
        return lambda: ReplanningAgent(ToyPolicy(), threshold)

    windy = {"env_kwargs": {"wind": 0.3}, "max_steps": 40}
    often, never = (rollout(make(threshold), POINT, [1], **windy)[0] for threshold in (0.5, 1e9))
    assert never == rollout(lambda: ChunkedAgent(ToyPolicy()), POINT, [1], **windy)[0]
    assert len(often.steps) / often.length > len(never.steps) / never.length


def test_a_method_without_energies_and_a_threshold_of_nothing_are_refused():
    agent = ReplanningAgent(ToyPolicy(energies=False), threshold=1.0)
    agent.act(obs(1.0))
    with pytest.raises(ValueError, match="needs an energy, and this method has none"):
        agent.act(obs(1.0))
    with pytest.raises(ValueError, match="expected a positive threshold to re-plan at, got 0"):
        ReplanningAgent(ToyPolicy(), threshold=0.0)
