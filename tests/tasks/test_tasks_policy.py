"""One policy for every method: shapes, units, horizons, warm starts, added energies, and rows that do not mix."""

import pytest
import torch
from small_policies import METHODS, error, make_policy, overfit

from ebt_policy.baselines.mip import Mip
from ebt_policy.baselines.regression import Regression
from ebt_policy.core.energies import box, weight
from ebt_policy.core.model import set_act
from ebt_policy.tasks.robot import Horizon


@pytest.fixture(params=METHODS)
def policy(request, trained):
    if "diffusion" in request.param:
        set_act(trained[request.param].model, steps=10, sampler="ddim")
    return trained[request.param]


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_a_policy_learns_one_batch_by_heart(policy, batch):
    assert error(policy, batch) < 0.05


def test_the_published_recipe_learns_by_its_scaled_steps(store, batch):
    """Scaled by exp(E): of an energy that is a sum they vanish, and the error is 1.5."""
    policy = overfit(make_policy(store, "ebt_published"), store, updates=150, lr=2e-2)
    set_act(policy.model, steps=6)
    assert error(policy, batch) < 0.3  # that of a plan of zeros is 0.59


def test_actions_are_the_executed_part_of_the_plan_in_the_units_of_the_data(policy, batch):
    chunk = policy.predict_action(batch.obs, seeded())
    assert chunk.plan.shape == (8, 6, 7) and chunk.actions.shape == (8, 3, 7) and chunk.steps.shape == (8,)
    assert torch.equal(chunk.actions, chunk.plan[:, 1:4])
    assert (chunk.actions - batch.action[:, 1:4]).abs().mean() < 0.15


def test_the_horizon_says_what_is_executed_and_refuses_what_is_not_predicted():
    assert Horizon(2, 16, 8).run == slice(1, 9) and Horizon(1, 4, 4).run == slice(0, 4)
    with pytest.raises(ValueError, match="cannot execute 16 of 16 predicted steps, the first 1 are already past"):
        Horizon(2, 16, 16)
    with pytest.raises(ValueError, match="must be at least 1"):
        Horizon(0, 16, 8)


def test_the_same_seed_is_the_same_plan_and_another_one_is_not(policy, batch):
    plans = [policy.predict_action(batch.obs, seeded(seed)).plan for seed in (1, 1, 2)]
    assert torch.equal(plans[0], plans[1])
    deterministic = isinstance(policy.model, (Regression, Mip))
    assert torch.equal(plans[0], plans[2]) == deterministic


def test_a_row_is_the_same_alone_and_in_a_batch_of_eight(policy, batch):
    start = torch.randn(8, 6, 7, generator=seeded())
    together = policy.predict_action(batch.obs, start=start)
    for i in range(8):
        alone = policy.predict_action({k: v[i : i + 1] for k, v in batch.obs.items()}, start=start[i : i + 1])
        torch.testing.assert_close(alone.plan[0], together.plan[i], atol=1e-5, rtol=1e-4)


def test_an_ebt_starts_from_a_given_plan_in_env_units(trained, batch):
    policy = trained["ebt"]
    step, policy.model.log_step.data = policy.model.log_step.data, torch.tensor(1e-9).log()
    chunk = policy.predict_action(batch.obs, start=batch.action)
    policy.model.log_step.data = step
    torch.testing.assert_close(chunk.plan, batch.action, atol=1e-5, rtol=0)


def test_a_warm_start_at_the_answer_has_a_lower_energy_than_noise_and_stays_there(trained, batch):
    noise = trained["ebt"].predict_action(batch.obs, seeded())
    warm = trained["ebt"].predict_action(batch.obs, start=batch.action)
    assert warm.energies.shape == (2, 8) and warm.grad_norm.shape == (8,)
    assert (warm.energies[0] < noise.energies[0]).all()
    assert (warm.plan - batch.action).pow(2).mean() < 0.05


def test_the_energy_falls_and_the_plan_can_be_scored(trained, batch):
    chunk = trained["ebt"].predict_action(batch.obs, seeded())
    assert (chunk.energies[1] < chunk.energies[0]).all() and (chunk.score() < chunk.energies[0]).all()


def test_a_box_in_env_units_pulls_the_plan_into_it(trained, batch):
    policy = trained["ebt"]
    set_act(policy.model, steps=60)
    half_range = policy.normalizer.action_limits.half_range.max()
    policy.model.log_step.data -= 4.0  # a wall is steep: smaller steps, and more of them
    low, high = -0.2, 0.3
    free = policy.predict_action(batch.obs, seeded()).plan
    wall = weight(40.0 / half_range.item() ** 2, box(low, high))
    walled = policy.predict_action(batch.obs, seeded(), extra=[wall]).plan
    policy.model.log_step.data += 4.0
    set_act(policy.model, steps=2)
    assert free.min() < -0.6 and free.max() > 0.7
    assert walled.min() > low - 0.05 and walled.max() < high + 0.05


def test_diffusion_has_no_energy_and_takes_none(trained, batch):
    chunk = trained["diffusion"].predict_action(batch.obs, seeded())
    assert chunk.energies is None and chunk.score is None and chunk.grad_norm is None
    with pytest.raises(TypeError, match="extra"):
        trained["diffusion"].predict_action(batch.obs, extra=[box(-1.0, 1.0)])


def test_an_observation_of_another_shape_is_named_with_what_was_expected(policy, batch):
    short = {k: v[:, :1] for k, v in batch.obs.items()}
    with pytest.raises(ValueError, match=r"robot0_eef_pos: expected \(B, 2, 3\), got \(8, 1, 3\)"):
        policy.predict_action(short)
    wide = batch.obs | {"object": torch.zeros(8, 2, 15)}
    with pytest.raises(ValueError, match=r"object: expected \(B, 2, 14\), got \(8, 2, 15\)"):
        policy.predict_action(wide)


def test_a_missing_observation_is_named_with_what_there_is(policy, batch):
    rest = {k: v for k, v in batch.obs.items() if k != "object"}
    with pytest.raises(KeyError, match=r"the policy reads .*'object'\], the observation has \['robot0_eef_pos'"):
        policy.predict_action(rest)


def test_what_a_policy_does_not_read_may_be_there_too(policy, batch):
    more = batch.obs | {"wrist_image": torch.zeros(8, 2, 4, 4, 3)}
    assert torch.equal(policy.predict_action(more, seeded()).plan, policy.predict_action(batch.obs, seeded()).plan)


def test_quaternions_of_either_sign_are_one_observation(policy, batch):
    flipped = batch.obs | {"robot0_eef_quat": -batch.obs["robot0_eef_quat"]}
    plans = [policy.predict_action(obs, seeded()).plan for obs in (batch.obs, flipped)]
    torch.testing.assert_close(*plans, atol=1e-5, rtol=1e-4)


def test_acting_leaves_no_graph_and_no_gradient(policy, batch):
    chunk = policy.predict_action(batch.obs, seeded())
    assert not chunk.plan.requires_grad and all(p.grad is None or not p.requires_grad for p in policy.parameters())


@pytest.mark.parametrize("acting", [{}, {"lowest": True}, {"accept": True}, {"deadline": 1.0}])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e39])
def test_observations_that_are_no_numbers_in_float32_are_refused(trained, batch, acting, bad):
    policy = trained["ebt"]
    as_trained = policy.model.act
    set_act(policy.model, **acting)
    obs = {key: value.double() for key, value in batch.obs.items()}
    obs["object"][3, 1, 5] = bad
    with pytest.raises(ValueError, match="object: expected finite numbers, got NaN or infinite ones"):
        policy.predict_action(obs, seeded())
    with pytest.raises(ValueError, match="object: expected finite numbers"):
        policy.energy({key: value.float() for key, value in obs.items()}, batch.action)
    policy.model.act = as_trained


@pytest.mark.parametrize("acting", [{}, {"lowest": True}, {"accept": True}])
def test_a_plan_that_no_energy_judged_is_not_finite(store, batch, acting):
    policy = make_policy(store).eval()
    set_act(policy.model, steps=3, **acting)
    assert policy.predict_action(batch.obs, seeded()).finite.all()
    with torch.no_grad():
        policy.encoder.net[0].weight.fill_(float("nan"))
    assert not policy.predict_action(batch.obs, seeded()).finite.any()
