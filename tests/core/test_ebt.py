"""The conditional model: training signal, sampling, and that samples, positions and energies do not mix."""

from dataclasses import replace

import pytest
import torch
from small_models import DIM, example, make

from ebt_policy.core import (
    ActConfig,
    DescentConfig,
    DotProduct,
    Mean,
    NoisedStates,
    PseudoHuber,
    Quadratic,
    ReplayBuffer,
    Residual,
    Scalar,
)
from ebt_policy.core.energies import along_path, box, continuity, in_units, keep_out, smoothness, weight
from ebt_policy.core.model import set_act


@pytest.mark.parametrize("mode", ["last", "each", "through"])
def test_every_parameter_and_the_context_get_a_gradient(kind, mode):
    model = make(kind, mode, head=Scalar, learn_step_size=True)
    target, ctx, y0 = example(kind)
    ctx.requires_grad_()
    model.loss(target, ctx, y0).total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert ctx.grad.abs().sum() > 0


def overfit(model, backprop_steps, updates=200):
    """Train on one batch of short chunks; returns target and context."""
    torch.manual_seed(0)
    target, ctx = torch.randn(8, 4, 7).clamp(-1, 1), torch.randn(8, 2, DIM)
    model.train_walk = DescentConfig(steps=backprop_steps, backprop="last")
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(updates):
        optimizer.zero_grad()
        model.loss(target, ctx, torch.randn_like(target)).total.backward()
        optimizer.step()
    return target, ctx


def error(model, target, ctx, steps):
    model.act = ActConfig(steps=steps)
    return (model.sample(ctx, torch.randn_like(target)).y - target).pow(2).mean() / target.pow(2).mean()


@pytest.mark.parametrize("head", [Scalar, Quadratic, DotProduct, Residual])
def test_every_head_overfits_one_batch_from_its_own_iterates(head):
    model = make("policy", head=head, step_size=1.0)
    target, ctx = overfit(model, 2)
    assert error(model, target, ctx, 2) < 0.2


def test_the_published_energy_is_a_mean_over_numbers_and_steps():
    head, h = Mean(7, DIM), torch.randn(3, 16, DIM)
    energy = head(torch.randn(3, 16, 7), h).sum(-1)
    torch.testing.assert_close(energy, head.readout(h).mean((1, 2)))
    twice = head(torch.randn(3, 32, 7), torch.cat([h, h], 1)).sum(-1)
    torch.testing.assert_close(twice, energy)  # whatever the horizon


@pytest.mark.parametrize("head", [Quadratic, DotProduct])
def test_a_landscape_of_noised_states_stays_good_with_more_steps_than_training_took(head):
    model = make("policy", head=head, objective=NoisedStates(), step_size=1.0)
    target, ctx = overfit(model, 1, updates=400)
    assert error(model, target, ctx, 20) < 1.5 * error(model, target, ctx, 2) < 0.15


def test_noised_states_start_between_the_target_and_noise():
    seen = []

    def walk(start):
        seen.append(start)
        return [DescentStep(start)]

    class DescentStep:
        def __init__(self, y):
            self.y = y.requires_grad_()
            self.grad_norm = torch.ones(len(y))

    target, y0 = torch.full((4000, 2, 2), 5.0), torch.randn(4000, 2, 2)
    NoisedStates(pure=0.25, strength=0.5)(None, target, y0, walk)
    pure = (seen[0] == y0).flatten(1).all(1)
    assert pure.float().mean().item() == pytest.approx(0.25, abs=0.03)
    share = ((seen[0] - target) / y0)[~pure]
    assert share.min() >= -1e-2 and share.max() <= 0.51


def test_a_candidate_gets_the_same_result_alone_and_in_a_batch(kind):
    model = make(kind, act=ActConfig(steps=4, momentum=0.2))
    _, ctx, y0 = example(kind)
    together, alone = model.sample(ctx, y0), model.sample(ctx[:1], y0[:1])
    torch.testing.assert_close(together.y[:1], alone.y, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.energies[:, :1], alone.energies, atol=1e-4, rtol=1e-4)


def test_the_context_is_encoded_once_however_many_steps_follow():
    model = make("policy", act=ActConfig(steps=5))
    _, ctx, y0 = example("policy")
    lengths = []
    model.net.trunk.blocks[0].register_forward_hook(lambda module, args, out: lengths.append(args[0].shape[1]))
    model.sample(ctx, y0)
    assert lengths.count(2) == 1 and lengths.count(16) == 5


def test_energies_are_summed_over_tokens_not_averaged():
    model = make("policy", head=Quadratic)
    energy = model.net.bind(torch.zeros(1, 2, DIM))
    y = torch.randn(1, 16, 7)
    torch.testing.assert_close(energy(y, 0), 0.5 * y.pow(2).sum((1, 2)))  # the head's network starts at zero


def test_text_energy_equals_a_plain_causal_transformer_on_the_past_and_the_candidate():
    net = make("text").net
    _, ctx, y = example("text")
    energies, tokens, trunk = net.bind(ctx)(y, 0), net.tokenize(y), net.trunk
    for i in range(ctx.shape[1]):
        n = i + 2
        x = torch.cat([ctx[:, : i + 1], tokens[:, i : i + 1]], 1) + trunk.pos[:n]
        for block in trunk.blocks:
            x, _ = block(x, None, torch.ones(n, n, dtype=torch.bool).tril(), fused=False)
        torch.testing.assert_close(net.head(y[:, i], trunk.norm(x[:, -1])), energies[:, i], atol=1e-5, rtol=1e-4)


def test_no_position_of_text_leaks_into_another_through_the_gradient():
    net = make("text").net
    _, ctx, y = example("text")
    y.requires_grad_()
    (grad,) = torch.autograd.grad(net.bind(ctx)(y, 0)[:, 3].sum(), y)
    assert grad[:, 3].abs().sum() > 0 and grad[:, :3].abs().sum() == 0 == grad[:, 4:].abs().sum()


def test_the_future_of_a_text_changes_nothing_before_it():
    model = make("text", act=ActConfig(steps=3))
    _, ctx, y0 = example("text")
    other = ctx.clone()
    other[:, 5:] += 1
    a, b = model.sample(ctx, y0), model.sample(other, y0)
    assert torch.equal(a.y[:, :5], b.y[:, :5]) and torch.equal(a.score()[:, :5], b.score()[:, :5])
    assert not torch.allclose(a.y[:, 5:], b.y[:, 5:])


def test_best_of_n_is_the_lowest_of_its_walks_and_includes_the_single_one():
    model = make("policy", head=Scalar)
    _, ctx, y0 = example("policy")
    one = model.sample(ctx, y0)
    model.act = replace(model.act, restarts=8)
    best = model.sample(ctx, y0, torch.Generator().manual_seed(0))
    assert (
        best.y.shape == one.y.shape
        and (best.score() <= one.score() + 1e-5).all()
        and (best.score() < one.score() - 1e-3).any()
    )
    torch.testing.assert_close(model.net.bind(ctx)(best.y, 0), best.score(), atol=1e-4, rtol=1e-4)


def test_a_deadline_stops_after_the_step_that_passes_it_and_returns_the_best_so_far():
    times = iter([0.0, 0.01, 0.02, 0.03, 0.04])
    model = make("policy", head=Scalar, act=ActConfig(steps=100, deadline=0.025), clock=lambda: next(times))
    _, ctx, y0 = example("policy")
    sample = model.sample(ctx, y0)
    assert sample.steps.tolist() == [3] * 4
    assert (sample.score() <= sample.energies.min(0).values).all()


def test_the_lowest_state_on_the_path_is_returned_when_asked_for():
    model = make("policy", head=Quadratic, step_size=2.5, act=ActConfig(steps=4, lowest=True))  # 2.5 overshoots a bowl
    _, ctx, y0 = example("policy")
    assert torch.equal(model.sample(ctx, y0).y, y0)


def test_a_warm_start_is_where_the_walk_begins():
    model = make("policy", act=ActConfig(steps=1), step_size=1e-6)
    _, ctx, start = example("policy")
    torch.testing.assert_close(model.sample(ctx, start).y, start, atol=1e-3, rtol=0)


def test_steps_count_per_sample_until_its_tolerance():
    model = make("policy", head=Quadratic, act=ActConfig(steps=50, tol=1e-2))
    _, ctx, y0 = example("policy")
    y0[0] = 0  # at the bottom already
    assert model.sample(ctx, y0).steps[0] == 1 < model.sample(ctx, y0).steps[1]


def test_added_energies_pull_the_result_and_count_in_its_energy():
    model = make("policy", head=Quadratic, act=ActConfig(steps=100), step_size=0.2)
    _, ctx, y0 = example("policy")
    wall = weight(4.0, box(0.5, 1.0))  # minimum of y^2/2 + 4 (0.5 - y)^2/2 is 0.4
    sample = model.sample(ctx, y0, extra=[wall])
    torch.testing.assert_close(sample.y, torch.full_like(y0, 0.4), atol=1e-3, rtol=0)
    torch.testing.assert_close(sample.score(), model.net.bind(ctx)(sample.y, 0) + wall(sample.y))


def test_added_energies_with_data_per_sample_work_with_restarts():
    model = make("policy", head=Quadratic, act=ActConfig(steps=60, restarts=3), step_size=0.2)
    _, ctx, y0 = example("policy")
    tail = torch.randn(4, 5, 7)
    y = model.sample(ctx, y0, extra=[weight(4.0, continuity(tail))]).y
    torch.testing.assert_close(y[:, :5], 0.8 * tail, atol=1e-2, rtol=0)


def test_the_energies_to_add_have_known_values():
    y = torch.zeros(1, 3, 3)
    y[0, :, 0] = torch.tensor([0.0, 1.0, 4.0])
    assert smoothness()(y).item() == pytest.approx(0.5 * 2.0**2)
    assert keep_out(torch.tensor([1.0, 0.0, 0.0]), 2.0)(y).item() == pytest.approx(0.5 * (1 + 4 + 0), abs=1e-4)
    assert box(-1.0, 1.0)(y).item() == pytest.approx(0.5 * 9)
    assert in_units(box(-1.0, 1.0), lambda y: y / 4)(y).item() == 0
    path = along_path(box(-1.0, 2.0), start=torch.tensor([[1.0, 0.0, 0.0]]), scale=0.5)(y)  # 1, 1.5, 3.5 along x
    assert path.item() == pytest.approx(0.5 * 1.5**2)


def test_a_step_size_is_saved_and_learned_inside_the_module():
    model = make("policy", learn_step_size=True)
    assert "log_step" in model.state_dict() and model.log_step.requires_grad


def test_unknown_sampling_settings_are_refused_with_the_known_ones():
    model = make("policy")
    with pytest.raises(ValueError, match="no setting sampler; it has steps"):
        set_act(model, sampler="ddim")


def test_an_ebt_that_would_learn_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing would be learned"):
        make("policy", "none")


def test_kept_candidates_come_back_for_their_own_example_until_they_are_too_old():
    buffer = ReplayBuffer(10, (2,), share=1.0, longest=2)
    index, fresh = torch.tensor([3, 5]), torch.full((2, 2), 9.0)
    assert torch.equal(buffer.mix(index, fresh), fresh)  # nothing kept yet
    buffer.store(index, torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    assert torch.equal(buffer.mix(index.flip(0), fresh), torch.tensor([[2.0, 2.0], [1.0, 1.0]]))
    buffer.store(index.flip(0), fresh)
    assert torch.equal(buffer.mix(index, 0 * fresh), 0 * fresh)  # two walks long: starts afresh


def test_a_walk_goes_on_from_kept_candidates_whatever_its_objective_starts_from():
    model = make("policy", "last", head=Quadratic, objective=NoisedStates(pure=1.0), step_size=1.0)
    target, ctx, y0 = example("policy")
    kept = torch.full_like(y0, 0.5)
    started = model.loss(target, ctx, kept, torch.Generator().manual_seed(0))
    went_on = model.loss(target, ctx, y0, torch.Generator().manual_seed(0), go_on=lambda start: kept)
    assert torch.equal(went_on.final, started.final)


def test_pseudo_huber_squares_small_errors_and_counts_large_ones_once():
    criterion, zero = PseudoHuber(0.1), torch.zeros(())
    assert criterion(torch.tensor(0.001), zero).item() == pytest.approx(0.001**2 / 0.2, rel=1e-2)
    assert criterion(torch.tensor(-10.0), zero).item() == pytest.approx(10 - 0.1, rel=1e-2)
    with pytest.raises(ValueError, match="width must be positive"):
        PseudoHuber(0.0)
