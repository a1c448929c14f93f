"""What distinguishes the rivals: their losses at known answers, their passes, what they refuse."""

import math

import pytest
import torch
from small_policies import error

from ebt_policy.baselines.field import Field
from ebt_policy.baselines.flow import EulerConfig, Flow
from ebt_policy.baselines.ibc import DerivativeFree, ImplicitBC
from ebt_policy.baselines.mip import Mip, TwoPasses
from ebt_policy.baselines.regression import OnePass, Regression
from ebt_policy.baselines.unet import ConditionalUnet
from ebt_policy.core import DescentConfig, InfoNCE, LinearTokens, Scalar, Transformer
from ebt_policy.core.model import set_act


def parts():
    torch.manual_seed(0)
    return LinearTokens(3, 16), Transformer(16, 1, 2)


def silent(model):
    """The model with a readout of zeros."""
    torch.nn.init.zeros_(model.net.readout.weight), torch.nn.init.zeros_(model.net.readout.bias)
    return model


def example():
    return torch.randn(4, 6, 3), torch.randn(4, 2, 16), torch.randn(4, 6, 3)


def test_a_flow_that_says_nothing_loses_the_whole_way_from_noise_to_data():
    target, ctx, noise = example()
    loss = silent(Flow(*parts(), EulerConfig())).loss(target, ctx, noise)
    torch.testing.assert_close(loss.total, (target - noise).pow(2).mean())


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_flow_follows_a_straight_line_to_its_end_in_any_number_of_steps(steps):
    model = Flow(*parts(), EulerConfig(steps))
    target, ctx, noise = example()
    model._bind = lambda ctx: lambda y, t: target - noise
    torch.testing.assert_close(model.sample(ctx, noise).y, target)


def test_mip_weighs_its_two_regressions_as_published():
    target, ctx, noise = example()
    loss = silent(Mip(*parts(), TwoPasses(), t_star=0.9)).loss(target, ctx, noise)
    torch.testing.assert_close(loss.total, target.pow(2).mean() * (1 / 0.9**2 + 1 / 0.1**2))


def test_the_second_pass_of_mip_reads_the_first_ones_answer():
    model, seen = Mip(*parts(), TwoPasses()), []

    def field(y, t):
        seen.append((y, t))
        return y + 1

    model._bind = lambda ctx: field
    sample = model.sample(torch.randn(4, 2, 16), torch.randn(4, 6, 3))
    assert [t[0].item() for _, t in seen] == pytest.approx([0, 90])
    assert seen[0][0].eq(0).all() and seen[1][0].eq(1).all() and sample.y.eq(2).all()
    assert sample.steps.tolist() == [2] * 4


def test_regression_answers_without_noise():
    target, ctx, noise = example()
    model = Regression(*parts(), OnePass())
    assert torch.equal(model.sample(ctx, noise).y, model.sample(ctx, 0 * noise).y)
    torch.testing.assert_close(silent(model).loss(target, ctx, noise).total, target.pow(2).mean())


@pytest.mark.parametrize("network", [Field, lambda *parts: ConditionalUnet(*parts, widths=[8, 16], context=2)])
def test_what_a_field_answers_depends_on_candidate_level_and_context(network):
    net = network(*parts())
    y, ctx, _ = example()
    t = torch.full((4,), 50.0)
    answer = net.bind(ctx)(y, t)
    assert answer.shape == y.shape
    for other in (net.bind(ctx)(y + 1, t), net.bind(ctx)(y, t / 2), net.bind(ctx + 1)(y, t)):
        assert not torch.allclose(answer, other)


def test_more_euler_steps_than_two_follow_what_was_learned(trained, batch):
    policy = trained["flow"]
    set_act(policy.model, steps=50)
    assert error(policy, batch) < 0.05


def test_settings_without_meaning_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        EulerConfig(0)
    with pytest.raises(ValueError, match="MIP takes 1 or 2 steps, got 3"):
        TwoPasses(3)
    with pytest.raises(ValueError, match="t_star must be in"):
        Mip(*parts(), TwoPasses(), t_star=1.0)
    with pytest.raises(ValueError, match="multiples of 8, got \\[8, 12\\]"):
        ConditionalUnet(*parts(), widths=[8, 12], context=2)
    net = ConditionalUnet(*parts(), widths=[8, 16], context=2)
    with pytest.raises(ValueError, match="expected a multiple of 2 steps, got 5"):
        net.bind(torch.randn(4, 2, 16))(torch.randn(4, 5, 3), torch.zeros(4))
    with pytest.raises(ValueError, match="Regression has no setting steps"):
        set_act(Regression(*parts(), OnePass()), steps=2)


def learned_by_contrast(updates):
    """A model that has learned by InfoNCE where in a square each of 16 contexts points to; targets and contexts."""
    torch.manual_seed(0)
    model = ImplicitBC.on_trunk(
        LinearTokens(2, 32),
        Transformer(32, 1, 2),
        Scalar,
        objective=InfoNCE(8),
        train_walk=DescentConfig(steps=1, backprop="last"),
        act=DerivativeFree(),
    )
    target = 1.6 * torch.rand(16, 1, 2) - 0.8
    ctx = torch.cat([target, target.pow(2)], dim=-1) @ torch.randn(4, 32)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(updates):
        optimizer.zero_grad()
        model.loss(target, ctx, torch.randn_like(target)).total.backward()
        optimizer.step()
    return model.requires_grad_(False), target, ctx


def test_implicit_behavioural_cloning_finds_what_it_learned():
    model, target, ctx = learned_by_contrast(updates=300)
    sample = model.sample(ctx, torch.randn_like(target), torch.Generator().manual_seed(0))
    assert (sample.y - target).norm(dim=-1).median() < 0.15
    assert sample.score().shape == (16,) and sample.energies.shape == (3, 16)


def test_what_a_target_does_not_say_is_no_contrast():
    model, target, ctx = learned_by_contrast(updates=0)
    nothing = model.loss(target, ctx, torch.randn_like(target), weight=torch.zeros(16, 1, 1))
    assert nothing.total.item() == pytest.approx(math.log(9), abs=1e-5)  # nine equal candidates
