"""LocalPlanner: a policy's plans in numpy, joined to what is decided already, as far as the method can."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import ROOT

from ebt_policy.data.store import open_episodes
from ebt_policy.deploy.ladder import shadow
from ebt_policy.deploy.plan import PlanError, Request
from ebt_policy.deploy.planner import LocalPlanner
from ebt_policy.train.build import load_policy

CHECKPOINTS = ROOT / "assets" / "checkpoints"


@pytest.fixture(scope="module")
def lift():
    return load_policy(CHECKPOINTS / "ebt_lift")


@pytest.fixture(scope="module")
def demos():
    return open_episodes(ROOT / "assets" / "demos" / "lift.zarr.zip").select([0, 1])


def ask(demos, at=20, tail=None):
    episode = demos.episode(0)
    return Request(5, {k: v[at : at + 2] for k, v in episode.obs.items()}, 9.0, tail)


def test_a_plan_is_what_the_policy_predicts_from_the_last_observation_on(lift, demos):
    planner, request = LocalPlanner(lift, "cafe"), ask(demos)
    planner.reset(3)
    plan = planner(request)
    obs = {k: torch.from_numpy(request.obs[k][None]) for k in lift.spec.obs}
    chunk = lift.predict_action(obs, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(plan.actions, chunk.plan[0, 1:].numpy())
    np.testing.assert_allclose(plan.offsets, np.arange(15) / 20)
    assert (plan.id, plan.steps, plan.stop) == (5, 2, "steps")
    assert np.isfinite([plan.energy, plan.grad_norm, plan.seconds]).all()
    terms = planner.terms
    assert (terms.observe, terms.execute, terms.plan, terms.model) == (2, 8, 15, "cafe")


@pytest.mark.parametrize("joining", [{"continuity": 0.5}, {"warm": 0.0}, {"continuity": 0.5, "warm": 0.2}])
def test_joining_draws_a_plan_towards_what_is_decided(lift, demos, joining):
    tail = demos.episode(0).action[20:28] + 0.2

    def distance(**settings):
        planner = LocalPlanner(lift, **settings)
        plans = [planner(ask(demos, tail=tail)).actions[:7] for _ in range(4)]
        return np.mean([np.linalg.norm(plan - tail[1:]) for plan in plans])

    assert distance(**joining) < distance()


def test_what_a_method_cannot_do_and_observations_that_do_not_fit_are_refused(lift, demos):
    diffusion = load_policy(CHECKPOINTS / "diffusion_square")
    with pytest.raises(ValueError, match="expected a method with an energy for continuity=0.5, got Diffusion"):
        LocalPlanner(diffusion, continuity=0.5)
    with pytest.raises(ValueError, match="expected continuity in .0, 1., got 1.0: a unit step on more overshoots"):
        LocalPlanner(lift, continuity=1.0)
    planner = LocalPlanner(lift)
    with pytest.raises(PlanError, match="expected .B, 2, 10., got .1, 2, 9."):
        request = ask(demos)
        planner(Request(1, request.obs | {"object": request.obs["object"][:, :9]}, 9.0))
    with pytest.raises(PlanError, match="object"):
        planner(Request(1, {k: v for k, v in request.obs.items() if k != "object"}, 9.0))


def test_in_the_shadow_of_demonstrations_a_trained_policy_beats_standing_still(lift, demos):
    planner = LocalPlanner(lift)
    error, idle = shadow(planner, planner.terms, demos, [0])
    assert error[:3].mean() < 0.5 * idle[:3].mean()


def test_a_damaged_normaliser_is_found(lift, demos):
    planner = LocalPlanner(load_policy(CHECKPOINTS / "ebt_lift"))
    assert planner.round_trip(demos.action) < 1e-6
    planner.policy.normalizer.action_limits.half_range[2] = float("nan")
    with pytest.raises(ValueError, match="damaged weights"):
        planner.round_trip(demos.action)


@pytest.mark.parametrize("lowest", [False, True])
def test_a_plan_whose_energy_is_no_number_does_not_go_to_the_arm(demos, lowest):
    policy = load_policy(CHECKPOINTS / "ebt_lift", lowest=lowest)
    with torch.no_grad():
        policy.encoder.net[0].weight.fill_(float("nan"))
    with pytest.raises(PlanError, match="the plan or its energy is not finite"):
        LocalPlanner(policy)(ask(demos))


def test_nan_in_an_observation_is_a_refusal(lift, demos):
    request = ask(demos)
    request.obs["object"][1, 2] = np.nan
    with pytest.raises(PlanError, match="object: expected finite numbers"):
        LocalPlanner(lift)(request)


@pytest.mark.parametrize(("setting", "value"), [("warm", np.nan), ("warm", -1), ("warm", "a"), ("continuity", np.nan)])
def test_how_plans_are_joined_is_a_number(lift, setting, value):
    with pytest.raises(ValueError, match=f"policy.{setting} must be"):
        LocalPlanner(lift, **{setting: value})


def test_a_rate_that_the_data_does_not_say_can_be_stated():
    policy = load_policy(CHECKPOINTS / "ebt_lift")
    said, policy.spec = policy.spec, replace(policy.spec, hz=None)
    with pytest.raises(ValueError, match="whose data says its rate, got none: state it with policy.hz=<its Hz>"):
        LocalPlanner(policy)
    policy.spec = policy.spec.stating(20)
    assert policy.spec == said and LocalPlanner(policy).terms.spec["hz"] == 20
