"""Denoisers of both methods: known errors, patches there and back, learning from nothing, the level to start at."""

import pytest
import torch
from small_images import DIM, make, shades

from ebt_policy.core import PatchTokens
from ebt_policy.core.model import set_act
from ebt_policy.rollout.restore import measure, ssim
from ebt_policy.rollout.stats import bootstrap_interval
from ebt_policy.tasks.image import ImageBatch, add_noise, psnr, restore, squared_errors, to_unit
from ebt_policy.tasks.probe import features, read

METHODS = ("ebt", "dit")


def train(denoiser, pixels, updates=60):
    """The loss of the first update and the mean of the last ten."""
    optimizer, losses = torch.optim.AdamW(denoiser.parameters(), 1e-2, weight_decay=0.0), []
    for update in range(updates):
        optimizer.zero_grad()
        loss = denoiser.loss(ImageBatch(pixels), torch.Generator().manual_seed(update)).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], sum(losses[-10:]) / 10


def test_the_psnr_of_a_known_error_is_known():
    truth = torch.zeros(3, 1, 8, 8)
    images = truth + torch.tensor([0.2, 0.02, 5.0]).view(3, 1, 1, 1)  # of a range of 2; the last is clipped to 1
    errors = squared_errors(images, truth)
    torch.testing.assert_close(errors, torch.tensor([0.01, 1e-4, 0.25]))
    torch.testing.assert_close(psnr(errors), torch.tensor([20.0, 40.0, 6.0206]))


def test_the_mean_psnr_is_that_of_images_and_not_of_their_pooled_error():
    truth = to_unit(shades(2))
    rows = measure(make(), truth, [0.1], [1])
    assert [row["steps"] for row in rows] == [0, 1]
    each = psnr(squared_errors(add_noise(truth, 0.1), truth))
    assert rows[0]["psnr"]["mean"] == pytest.approx(each.mean().item())
    assert rows[0]["psnr_of_each"] == pytest.approx(each.tolist(), abs=1e-3)


def test_ssim_is_one_for_the_image_itself_and_less_for_any_other():
    truth = to_unit(torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    assert ssim(truth, truth) == pytest.approx([1, 1]) and (ssim(-truth, truth) < 0).all()


def test_the_interval_of_a_mean_holds_it_and_narrows_with_the_number_of_values():
    few, many = [0.0, 1.0] * 5, [0.0, 1.0] * 500
    (low, high), (lower, higher) = bootstrap_interval(few), bootstrap_interval(many)
    assert low < lower < 0.5 < higher < high and bootstrap_interval([3.0, 3.0]) == (3.0, 3.0)
    assert higher - lower == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.1)
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])


def test_patches_are_squares_row_by_row_and_join_to_the_image():
    tokens, y = PatchTokens(3, 4, DIM), torch.randn(2, 3, 8, 12)
    patches = tokens.split(y)
    assert patches.shape == (2, 6, 48) and torch.equal(patches[:, 4], y[:, :, 4:, 4:8].flatten(1))
    assert torch.equal(tokens.join(patches, y.shape), y)
    with pytest.raises(ValueError, match="sides must be multiples of the patch size 4"):
        tokens.split(torch.zeros(1, 3, 8, 10))


def test_denoising_starts_from_a_head_without_gradient_and_still_learns():
    denoiser, pixels = make(), shades()
    assert denoiser.model.net.head.readout.weight.abs().sum() == 0
    noised = add_noise(to_unit(pixels), 0.5)
    assert denoiser.denoise(noised, 0.5).y.abs().max() < 1e-6  # all that the bowl alone does
    first, last = train(denoiser, pixels)
    assert last < 0.2 * first


@pytest.mark.parametrize("method", METHODS)
def test_what_was_trained_removes_noise_and_an_image_alone_is_treated_as_in_a_batch(method):
    denoiser, pixels = make(method), shades()
    train(denoiser, pixels)
    truth = to_unit(pixels)
    noised = add_noise(truth, 0.5)
    restored = restore(denoiser, noised, 0.5, steps=2, batch=10)
    assert squared_errors(restored.images, truth).mean() < 0.5 * squared_errors(noised, truth).mean()
    assert restored.steps.tolist() == [2] * 32
    alone = restore(denoiser, noised[7:8], 0.5, steps=2)
    torch.testing.assert_close(alone.images[0], restored.images[7], atol=1e-4, rtol=1e-4)
    if method == "ebt":
        assert restored.energies.shape == (3, 32)
        torch.testing.assert_close(alone.energies[:, 0], restored.energies[:, 7], atol=1e-3, rtol=1e-4)


def told_levels(denoiser, sigma):
    """Which levels the network is told on the way, and how noisy it finds its first input if there is only noise."""
    told, evaluate = [], denoiser.model._evaluate
    denoiser.model._evaluate = lambda field, y, t: told.append((int(t[0]), y.std().item())) or evaluate(field, y, t)
    denoiser.denoise(sigma * torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), sigma)
    return [level for level, _ in told], told[0][1]


@pytest.mark.parametrize(("sigma", "steps"), [(0.3, 1), (0.3, 4), (1.0, 7), (3.0, 4)])
def test_diffusion_starts_at_the_level_of_the_noise_and_goes_down_to_none_in_so_many_steps(sigma, steps):
    denoiser = make("dit", steps=steps)
    levels, std = told_levels(denoiser, sigma)
    abar = denoiser.model.abar
    ratio = ((1 - abar) / abar).sqrt()
    assert len(levels) == steps and levels == sorted(levels, reverse=True)
    assert levels[0] == (ratio - sigma).abs().argmin() and levels[-1] <= (levels[0] + 1) // steps
    assert std == pytest.approx((1 - abar[levels[0]]).sqrt().item(), rel=0.1)


def test_diffusion_takes_no_more_steps_than_there_are_levels_below():
    denoiser = make("dit", steps=40)
    levels, _ = told_levels(denoiser, 0.3)
    assert levels == list(range(levels[0], -1, -1))


@pytest.mark.parametrize(("sampler", "predicts"), [("ddim", "epsilon"), ("ddpm", "epsilon"), ("ddim", "sample")])
def test_with_the_true_answer_diffusion_comes_back_to_the_image(sampler, predicts):
    """In one stride or in many, from any level: the schedule of the strides fits that of the levels."""
    truth = to_unit(shades(4))
    for sigma, steps in ((0.3, 1), (1.0, 5), (2.0, 30)):
        denoiser = make("dit", predicts=predicts, sampler=sampler, steps=steps)
        abar = denoiser.model.abar
        nearest = abar[((1 - abar) / abar - sigma**2).abs().argmin()]
        exact = ((1 - nearest) / nearest).sqrt().item()

        def answer(field, y, t, abar=abar):
            a = abar[t].view(-1, 1, 1, 1)
            return truth if predicts == "sample" else (y - a.sqrt() * truth) / (1 - a).sqrt()

        denoiser.model._evaluate = answer
        restored = denoiser.denoise(add_noise(truth, exact), exact, torch.Generator().manual_seed(0))
        torch.testing.assert_close(restored.y, truth, atol=1e-3, rtol=0)


def test_an_image_of_another_shape_is_refused_with_the_expected_one():
    with pytest.raises(ValueError, match="expected images of 3 channels and 8 x 8 pixels, got .1, 8, 8."):
        make(channels=3).denoise(torch.zeros(2, 1, 8, 8), 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_features_are_those_of_the_first_evaluation_for_the_noised_image(method):
    denoiser = make(method)
    set_act(denoiser.model, steps=3)
    images = to_unit(torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    blocks = features(denoiser, images, 0.1, batch=2)
    assert [tuple(block.shape) for block in blocks] == [(5, DIM)] * 2
    noised, net = add_noise(images, 0.1), denoiser.model.net
    hidden = []
    hook = net.trunk.norm.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0].detach().mean(1)))
    denoiser.denoise(noised, 0.1)
    hook.remove()
    torch.testing.assert_close(blocks[-1], hidden[0], atol=1e-5, rtol=1e-4)


def test_the_probe_reads_what_is_linear_and_guesses_what_is_not():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 5, generator=generator)
    linear, parity = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long(), (x.prod(1) > 0).long()
    reading = read(x[:400], linear[:400], x[400:], linear[400:])
    assert reading.correct / reading.held_out > 0.85 and reading.held_out == 200
    assert read(x[:400], parity[:400], x[400:], parity[400:]).correct / 200 < 0.65
