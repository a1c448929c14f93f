"""Plans relative to where the robot was seen last: units, limits, and that nothing else of a policy notices."""

import numpy as np
import pytest
import torch
from small_policies import error, make_policy, overfit, windows

from ebt_policy.core.energies import box
from ebt_policy.data.episodes import Episode
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.store import write_store
from ebt_policy.tasks.relative import RelativePlans

SPEC = Spec(obs={"tool": (2,), "goal": (2,)}, action=ActionSpec(dim=2, mode="absolute"))
TASK = ["task=avoid", "task.obs=[tool,goal]", "+task.origin={key:tool,scale:4.0}"]  # avoid: without quaternions


@pytest.fixture(scope="module")
def reaching(tmp_path_factory):
    """Demonstrations that go straight to a goal, in tenths of the way; 1 m is 4 action units."""
    rng, episodes = np.random.default_rng(0), []
    for _ in range(8):
        start, goal = rng.uniform(-0.2, 0.2, (2, 2))
        tool = start + np.linspace(0, 1, 11)[:, None] * (goal - start)
        seen = {"tool": tool[:-1].astype(np.float32), "goal": np.tile(goal, (10, 1)).astype(np.float32)}
        episodes.append(Episode(obs=seen, action=(4 * tool[1:]).astype(np.float32)))
    path = tmp_path_factory.mktemp("reaching") / "reaching.zarr.zip"
    write_store(path, SPEC, episodes)
    return path


@pytest.fixture(scope="module", params=["ebt", "flow"])
def policy(request, reaching):
    return overfit(make_policy(reaching, request.param, *TASK), reaching, updates=150)


def moved(batch, by):
    return {key: value + by for key, value in batch.obs.items()}


def test_each_place_of_a_plan_has_the_range_of_its_own(reaching):
    policy, batch = make_policy(reaching, "ebt", *TASK), windows(reaching)
    reach = policy.relative.limits.half_range
    assert reach.shape == (6, 2) and (reach[5] > 4 * reach[1]).all()  # 6 planned, of which the second is now
    normalised = policy.relative(batch.action, batch.obs)
    assert normalised.abs().max() <= 1 + 1e-5
    torch.testing.assert_close(policy.relative.inverse(normalised, batch.obs), batch.action)


def test_a_policy_learns_one_batch_by_heart_and_its_plans_are_in_env_units(policy, reaching):
    batch = windows(reaching)
    assert error(policy, batch) < 0.01
    assert (policy.predict_action(batch.obs).actions - batch.action[:, 1:4]).abs().mean() < 0.1


def test_what_is_seen_elsewhere_moves_the_same_plan_there(reaching):
    """The normalised plan depends on observations, its origin alone on where the tool is."""
    policy, batch = make_policy(reaching, "ebt", *TASK), windows(reaching)
    plan = policy.relative.inverse(torch.zeros(8, 6, 2), batch.obs)
    torch.testing.assert_close(policy.relative.inverse(torch.zeros(8, 6, 2), moved(batch, 0.1)), plan + 0.4)


def test_an_ebt_scores_starts_and_bounds_plans_in_env_units(reaching):
    policy, batch = overfit(make_policy(reaching, "ebt", *TASK), reaching, updates=50), windows(reaching)
    chunk = policy.predict_action(batch.obs, torch.Generator().manual_seed(0))
    torch.testing.assert_close(policy.energy(batch.obs, chunk.plan), chunk.score(), rtol=1e-4, atol=1e-4)
    policy.model.log_step.data = torch.tensor(1e-9).log()
    kept = policy.predict_action(batch.obs, start=batch.action).plan
    torch.testing.assert_close(kept, batch.action, atol=1e-5, rtol=0)
    outside = policy.predict_action(batch.obs, start=batch.action + 5, extra=[box(-1.0, 1.0)])
    inside = policy.predict_action(batch.obs, start=batch.action * 0, extra=[box(-1.0, 1.0)])
    assert (outside.energies[0] > inside.energies[0] + 1).all()


def test_noise_on_a_warm_start_is_as_wide_as_its_place(reaching):
    policy = make_policy(reaching, "ebt", *TASK)
    noise = policy.warm_start(torch.zeros(512, 6, 2), 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.std(0), policy.relative.limits.half_range, rtol=0.2, atol=0.01)


@pytest.mark.parametrize("spec", [SPEC, Spec(SPEC.obs, ActionSpec(dim=2, mode="delta"))])
def test_an_origin_that_actions_are_not_targets_of_is_refused(spec):
    with pytest.raises(ValueError, match="set task.origin=null"):
        RelativePlans(spec, 6, "elbow" if spec is SPEC else "tool")
