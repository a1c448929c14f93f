"""ChunkedAgent: what it shows the policy, what it executes, what it refuses."""

import numpy as np
import pytest
import torch
from point_policies import bowl_policy
from toy_rollout import ToyPolicy

from ebt_policy.rollout.agent import ChunkedAgent


def obs(x):
    return {"position": np.full(2, x, np.float64), "target": np.zeros(2, np.float32), "unused": np.zeros(3)}


def test_the_first_observation_stands_in_for_the_missing_ones_and_a_plan_is_made_every_ta_steps():
    agent = ChunkedAgent(ToyPolicy())
    for t in range(9):
        assert agent.act(obs(t)).shape == (2,)
    seen = [w["position"][0, :, 0].tolist() for w in agent.policy.windows]
    assert seen == [[0, 0], [3, 4], [7, 8]]
    assert set(agent.policy.windows[0]) == {"position", "target"}
    assert agent.policy.windows[0]["position"].dtype == torch.float32
    assert len(agent.chunks) == 3 and all(len(c.energies) == 4 and c.steps == 3 for c in agent.chunks)


@pytest.mark.parametrize(
    ("value", "shape", "dtype"),
    [
        (np.float64(0.3), (1,), torch.float32),
        (True, (1,), torch.float32),
        (np.arange(3), (3,), torch.float32),
        (np.zeros(5, np.uint8), (5,), torch.float32),
        (np.zeros((4, 6, 3), np.uint8), (4, 6, 3), torch.uint8),
    ],
)
def test_observations_reach_the_policy_as_data_sets_have_them(value, shape, dtype):
    agent = ChunkedAgent(ToyPolicy())
    agent.keys += ("seen",)
    agent.act(obs(0.1) | {"seen": value})
    window = agent.window()["seen"]
    assert window.shape == (1, 2, *shape) and window.dtype == dtype


def test_an_environment_that_reuses_its_buffer_does_not_rewrite_history():
    agent, buffer = ChunkedAgent(ToyPolicy()), obs(0.0)
    for t in range(5):
        buffer["position"][:] = t
        agent.act(buffer)
    assert agent.policy.windows[1]["position"][0, :, 0].tolist() == [3, 4]


def test_the_executed_actions_are_the_run_slice_of_the_plan():
    policy = ToyPolicy()
    agent = ChunkedAgent(policy)
    agent.reset(5)
    acted = np.stack([agent.act(obs(0.1)) for _ in range(4)])
    window = policy.windows[0]
    chunk = policy.predict_action(window, generator=torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(acted, chunk.plan[0, 1:5].numpy())


def test_the_seed_of_reset_decides_the_sample_whatever_came_before():
    agent = ChunkedAgent(ToyPolicy())
    agent.act(obs(0.3))
    agent.reset(7)
    first = agent.act(obs(0.3))
    agent.reset(8)
    other = agent.act(obs(0.3))
    agent.reset(7)
    np.testing.assert_array_equal(agent.act(obs(0.3)), first)
    assert not np.array_equal(other, first)
    assert len(agent.chunks) == 1


def test_logged_energies_are_short_decimals_of_the_same_float32():
    agent = ChunkedAgent(ToyPolicy())
    agent.act(obs(0.3))
    energy = agent.chunks[0].energies[-1]
    again = agent.policy.predict_action(agent.policy.windows[0], generator=torch.Generator().manual_seed(0)).score()[0]
    assert np.float32(energy) == again.numpy() and len(repr(energy)) < 14


def test_non_finite_actions_are_refused_with_their_cause():
    agent = ChunkedAgent(ToyPolicy())
    with pytest.raises(FloatingPointError, match=r"non-finite in chunk 1: the observations \['position'\]"):
        agent.act(obs(np.nan))
    agent.reset(0)
    agent.policy.net.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the sampler diverged, lower its step size"):
        agent.act(obs(0.0))


def test_a_missing_observation_is_named():
    with pytest.raises(ValueError, match="expected observations .* got .*'target' is missing"):
        ChunkedAgent(ToyPolicy()).act({"position": np.zeros(2)})


def test_a_policy_without_energies_logs_none():
    agent = ChunkedAgent(ToyPolicy(energies=False))
    agent.act(obs(0.0))
    assert agent.chunks[0].energies == [] and agent.chunks[0].grad_norm is None


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_warm_agent_starts_from_the_rest_of_its_plan(strength, monkeypatch):
    agent, starts = ChunkedAgent(bowl_policy(speed=0.1), warm=strength), []
    plain = agent.policy.predict_action

    def watched(window, generator, start):
        starts.append((start, agent.chunk.plan if starts else None))
        return plain(window, generator=generator, start=start)

    monkeypatch.setattr(agent.policy, "predict_action", watched)
    here = {"position": np.zeros(2, np.float32), "target": np.zeros(2, np.float32)}
    for _ in range(7):
        agent.act(here)
    (cold, _), (start, plan), _ = starts
    done = agent.policy.horizon.execute
    rest = torch.cat([plan[:, done:], plan[:, -1:].repeat(1, done, 1)], dim=1)
    assert cold is None and (start - rest).std().item() == pytest.approx(strength, rel=0.5)
    with pytest.raises(ValueError, match=r"warm must be in \[0, 1000\], or null, got -1"):
        ChunkedAgent(ToyPolicy(), warm=-1)
