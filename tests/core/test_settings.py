"""Settings of models and nets: what is no number, or means nothing, is refused by its name where it enters."""

import math

import pytest
import torch

from ebt_policy import bounds
from ebt_policy.baselines.diffusion import DenoiseConfig, Diffusion
from ebt_policy.baselines.flow import EulerConfig
from ebt_policy.baselines.ibc import DerivativeFree
from ebt_policy.baselines.mip import Mip, TwoPasses
from ebt_policy.baselines.unet import ConditionalUnet
from ebt_policy.core import (
    EBT,
    ActConfig,
    ContrastiveDivergence,
    DenoisingScores,
    DescentConfig,
    EnergyTransformer,
    InfoNCE,
    LinearTokens,
    NoiseContrast,
    NoisedStates,
    OwnIterates,
    PseudoHuber,
    ReplayBuffer,
    RotaryTransformer,
    Scalar,
    Transformer,
)
from ebt_policy.core.transformer import MAX_TOKENS
from ebt_policy.tasks.robot import Horizon

NO_NUMBERS = [math.nan, -1.0, "0.5", True]
WHOLE, REAL, BELOW_1, OPTIONAL = "whole", "real", "below 1", "or null"
WRONG = {
    WHOLE: [*NO_NUMBERS, math.inf, 1.5, None],
    REAL: [*NO_NUMBERS, math.inf, None],
    BELOW_1: [*NO_NUMBERS, 1.1, None],
    OPTIONAL: [*NO_NUMBERS, math.inf],
}


def ebt(step_size=1.0, learn_step_size=False):
    walk = DescentConfig(steps=1, backprop="last")
    return EBT(torch.nn.Identity(), OwnIterates(), walk, ActConfig(), step_size, learn_step_size)


def diffusion(levels=100, **act):
    return Diffusion(LinearTokens(3, 16), Transformer(16, 1, 2), DenoiseConfig(**act), levels=levels)


def energy(landscapes):
    return EnergyTransformer(LinearTokens(3, 16), Transformer(16, 1, 2), Scalar(3, 16), landscapes)


def unet(context):
    return ConditionalUnet(LinearTokens(3, 16), Transformer(16, 1, 2), [8, 8], context)


def mip(t_star):
    return Mip(LinearTokens(3, 16), Transformer(16, 1, 2), TwoPasses(), t_star)


SETTINGS = [
    (DescentConfig, {"steps": WHOLE, "extra_steps": WHOLE, "momentum": BELOW_1, "step_jitter": REAL, "tol": REAL}),
    (DescentConfig, {"energy_temp": OPTIONAL}),
    (ActConfig, {"steps": WHOLE, "restarts": WHOLE, "deadline": OPTIONAL, "tol": REAL}),
    (ebt, {"step_size": REAL}),
    (energy, {"landscapes": WHOLE}),
    (InfoNCE, {"negatives": WHOLE, "walked": WHOLE, "swapped": WHOLE, "noised": WHOLE, "box": REAL, "blur": REAL}),
    (NoiseContrast, {"negatives": WHOLE, "box": REAL, "blur": REAL}),
    (ContrastiveDivergence, {"shrink": REAL, "blur": REAL}),
    (DenoisingScores, {"levels": WHOLE}),
    (PseudoHuber, {"width": REAL}),
    (NoisedStates, {"pure": BELOW_1, "strength": REAL}),
    (lambda **s: ReplayBuffer(**{"size": 4, "shape": (2,)} | s), {"size": WHOLE, "longest": WHOLE, "share": BELOW_1}),
    (
        lambda **s: Transformer(**{"dim": 16, "depth": 1, "heads": 2} | s),
        dict.fromkeys(("dim", "depth", "heads"), WHOLE),
    ),
    (
        lambda **s: RotaryTransformer(**{"dim": 16, "depth": 1, "heads": 2} | s),
        dict.fromkeys(("dim", "depth", "heads"), WHOLE),
    ),
    (DenoiseConfig, {"steps": WHOLE}),
    (diffusion, {"levels": WHOLE}),
    (EulerConfig, {"steps": WHOLE}),
    (TwoPasses, {"steps": WHOLE}),
    (mip, {"t_star": BELOW_1}),
    (DerivativeFree, {"steps": WHOLE, "candidates": WHOLE, "sigma": REAL, "shrink": BELOW_1, "box": REAL}),
    (unet, {"context": WHOLE}),
]
CASES = [(make, name, kind) for make, names in SETTINGS for name, kind in names.items()]


@pytest.mark.parametrize("make, name, kind", CASES, ids=[f"{name}-{i}" for i, (_, name, _) in enumerate(CASES)])
def test_a_setting_that_is_no_such_number_is_refused_by_its_name(make, name, kind):
    for value in WRONG[kind]:
        with pytest.raises(ValueError, match=f"^{name} must be "):
            make(**{name: value})


@pytest.mark.parametrize("make", [Transformer, RotaryTransformer])
@pytest.mark.parametrize("size", [{"dim": 0}, {"depth": 0}, {"heads": 0}, {"depth": -2}])
def test_a_net_without_width_blocks_or_heads_is_refused(make, size):
    name = next(iter(size))
    with pytest.raises(ValueError, match=f"^{name} must be at least 1 and whole, got"):
        make(**{"dim": 16, "depth": 1, "heads": 2} | size)


@pytest.mark.parametrize("step_size", [0, 0.0, -1.0, 1e30, 1e7])
def test_a_step_that_moves_nothing_or_leaps_out_of_a_float_is_refused(step_size):
    with pytest.raises(ValueError, match=r"^step_size must be in \(0, 1e6\], got"):
        ebt(step_size)
    assert ebt(1).log_step.item() == 0.0 and ebt(10_000.0).log_step.exp().item() == pytest.approx(1e4)


@pytest.mark.parametrize(
    "noise", [(0.1,), (0.1, 0.1, 0.1), 0.1, "ab", (math.nan, 0.0), (-0.1, 0.0), (math.inf, 0.0), None]
)
def test_noise_is_two_numbers(noise):
    for kind in (DescentConfig, DenoisingScores):
        with pytest.raises(ValueError, match="^noise"):
            kind(noise=noise)


@pytest.mark.parametrize("flag", ["no", 1, None])
def test_what_is_on_or_off_is_true_or_false(flag):
    for make in (lambda: DescentConfig(accept=flag), lambda: ActConfig(lowest=flag), lambda: ebt(learn_step_size=flag)):
        with pytest.raises(ValueError, match="must be true or false, got"):
            make()


def test_more_denoising_steps_than_levels_are_refused_before_training():
    with pytest.raises(ValueError, match="trained with 50 noise levels, cannot take 100 steps"):
        diffusion(50)
    assert diffusion(50, steps=50).levels == 50


@pytest.mark.parametrize("name", ["observe", "predict", "execute"])
@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, "4", True, None])
def test_a_horizon_is_of_whole_steps(name, value):
    with pytest.raises(ValueError, match=f"^horizon.{name} must be at least 1 and whole, got"):
        Horizon(**{"observe": 2, "predict": 16, "execute": 8} | {name: value})


def test_a_horizon_that_no_net_can_read_is_refused_by_its_name_with_what_can_be_read():
    with pytest.raises(ValueError, match="^horizon.predict=600 beside horizon.observe=2 .* at most 510"):
        Horizon(2, 600, 8)
    assert Horizon(2, MAX_TOKENS - 2, 8).predict == 510


def test_bounds_are_said_in_words():
    for within, value, words in (
        ("[1, inf)", 0, "at least 1 and finite, got 0"),
        ("(0, inf)", math.inf, "above 0 and finite, got inf"),
        ("(0, inf]", -1, "above 0, got -1"),
        ("[0, 1)", 1, r"in \[0, 1\), got 1"),
        ("(-inf, inf)", math.nan, "finite, got nan"),
        ("[0, inf) or null", -1, "at least 0 and finite, or null, got -1"),
    ):
        with pytest.raises(ValueError, match=f"^x must be {words}$"):
            bounds.number("x", value, within)
    bounds.number("x", math.inf, "(0, inf]")
    bounds.number("x", None, "[0, 1) or null")
