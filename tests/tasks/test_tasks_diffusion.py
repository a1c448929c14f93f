"""Diffusion Policy on the same trunk: its schedule, its samplers, and that they agree."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from small_policies import error

from ebt_policy.baselines.diffusion import DenoiseConfig, Diffusion
from ebt_policy.core import LinearTokens, Transformer
from ebt_policy.core.model import set_act


def toy(**settings):
    torch.manual_seed(0)
    return Diffusion(LinearTokens(3, 16), Transformer(16, 1, 2), DenoiseConfig(), **settings)


def squared_cosine(levels):
    """Nichol and Dhariwal's cumulative product, with beta capped at 0.999."""
    f = [math.cos((t / levels + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(levels + 1)]
    alphas = [max(f[t + 1] / f[t], 1 - 0.999) for t in range(levels)]
    return torch.tensor(alphas).cumprod(0)


def test_training_noises_by_the_squared_cosine_schedule_that_both_samplers_use():
    model = toy(levels=100)
    torch.testing.assert_close(model.abar, squared_cosine(100), atol=1e-5, rtol=1e-4)
    for sampler, kind in (("ddpm", DDPMScheduler), ("ddim", DDIMScheduler)):
        set_act(model, sampler=sampler)
        assert type(model._scheduler()) is kind
        assert torch.equal(model._scheduler().alphas_cumprod, model.abar)
    assert model.abar[0] > 0.99 and model.abar[-1] < 1e-3


def test_the_loss_is_the_squared_error_of_the_predicted_noise_or_of_the_predicted_sample():
    target, noise = torch.randn(2, 4, 5, 3)
    for predicts, asked in (("epsilon", noise), ("sample", target)):
        model = toy(predicts=predicts)
        torch.nn.init.zeros_(model.net.readout.weight), torch.nn.init.zeros_(model.net.readout.bias)
        loss = model.loss(target, torch.randn(4, 2, 16), noise)
        torch.testing.assert_close(loss.total, asked.pow(2).mean())
    with pytest.raises(ValueError, match="predicts must be epsilon or sample, got 'v'"):
        toy(predicts="v")


@pytest.fixture
def policy(trained):
    return trained["diffusion"]


def test_a_hundred_steps_of_ddpm_and_few_of_ddim_agree_on_what_was_learned(policy, batch):
    plans = {}
    for sampler, steps in (("ddpm", 100), ("ddim", 10), ("ddim", 16)):
        set_act(policy.model, sampler=sampler, steps=steps)
        chunk = policy.predict_action(batch.obs, torch.Generator().manual_seed(1))
        assert error(policy, batch) < 0.05 and chunk.steps.tolist() == [steps] * 8
        plans[sampler, steps] = policy.normalizer.action(chunk.plan)
    for plan in plans.values():
        assert (plan - plans["ddpm", 100]).pow(2).mean() < 0.05


def test_the_network_is_asked_once_a_step_and_the_context_is_encoded_once(policy, batch):
    set_act(policy.model, sampler="ddim", steps=10)
    lengths = []
    trunk = policy.model.net.trunk
    hooks = [trunk.blocks[0].norm1.register_forward_hook(lambda module, args, out: lengths.append(args[0].shape[1]))]
    policy.predict_action({k: v[:1] for k, v in batch.obs.items()})
    hooks[0].remove()
    assert sorted(lengths) == [2] + [6] * 10


def test_a_sampler_that_is_unknown_or_takes_more_steps_than_levels_is_refused(policy, batch):
    with pytest.raises(ValueError, match="sampler must be ddpm or ddim, got 'euler'"):
        DenoiseConfig(sampler="euler")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        DenoiseConfig(steps=0)
    set_act(policy.model, steps=101)
    with pytest.raises(ValueError, match="trained with 100 noise levels, cannot take 101 steps"):
        policy.predict_action(batch.obs)
