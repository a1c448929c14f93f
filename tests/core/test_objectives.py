"""What each objective learns where the answer is known: Gaussians, and one batch by heart."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from ebt_policy.core import (
    EBT,
    ActConfig,
    AnnealedEBT,
    ContrastiveDivergence,
    DenoisingScores,
    DescentConfig,
    EnergyTransformer,
    InfoNCE,
    LinearTokens,
    NoiseContrast,
    ReplayBuffer,
    Scalar,
    Transformer,
    descend,
)

MEAN, STD = 0.1, 0.2
PRECISION = 1 / STD**2


class Bowl(nn.Module):
    """E = 1/2 * precision * (y - mean)^2 of y (B, 1), with both to be learned."""

    def __init__(self, mean=0.0, precision=4.0):
        super().__init__()
        self.mean, self.log_precision = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(precision).log())

    def forward(self, y, k):
        return 0.5 * self.log_precision.exp() * (y - self.mean).pow(2).sum(1)


def draw(count=1024):
    return MEAN + STD * torch.randn(count, 1)


def langevin(energy_fn, start, steps=10, step_size=0.002):
    """At temperature 1."""
    sigma = math.sqrt(2 * step_size)
    cfg = DescentConfig(steps=steps, noise=(sigma, sigma), state="box")
    with torch.no_grad():
        return descend(energy_fn, start, step_size, cfg)


def fitted(objective, updates=250, lr=0.05, go_on=lambda start: start, keep=lambda loss: None):
    """A bowl fitted to draws of a Gaussian; go_on and keep: chains that persist."""
    torch.manual_seed(0)
    bowl = Bowl()
    learned = [*bowl.parameters(), *(objective.parameters() if isinstance(objective, nn.Module) else ())]
    optimizer = torch.optim.Adam(learned, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)

    def walk(start):
        return langevin(bowl, go_on(start))

    for _ in range(updates):
        optimizer.zero_grad()
        target = draw()
        loss = objective(bowl, target, torch.randn_like(target), walk)
        keep(loss)
        loss.total.backward()
        optimizer.step()
        schedule.step()
    return bowl.requires_grad_(False)


def close_to_the_truth(bowl, tolerance=0.1):
    assert bowl.mean.item() == pytest.approx(MEAN, abs=0.02)
    assert bowl.log_precision.exp().item() == pytest.approx(PRECISION, rel=tolerance)  # so its gradient is the score


def test_noise_contrast_learns_the_score_and_the_normaliser():
    objective = NoiseContrast(negatives=4)
    close_to_the_truth(fitted(objective))
    assert objective.log_z.item() == pytest.approx(math.log(STD * math.sqrt(2 * math.pi)), abs=0.05)


def test_info_nce_learns_the_score():
    close_to_the_truth(fitted(InfoNCE(negatives=4)))


def test_contrastive_divergence_from_the_data_learns_the_score():
    close_to_the_truth(fitted(ContrastiveDivergence("data", shrink=0.0)))


def test_contrastive_divergence_from_noise_learns_the_score_if_its_walks_go_on():
    replay, all_of_them = ReplayBuffer(1024, (1,), share=1.0, longest=10**6), torch.arange(1024)
    kept = dict(go_on=partial(replay.mix, all_of_them), keep=lambda loss: replay.store(all_of_them, loss.final))
    close_to_the_truth(fitted(ContrastiveDivergence("noise", shrink=0.0), **kept))


def test_contrastive_divergence_rests_at_the_truth_and_leaves_the_level_to_the_squares():
    torch.manual_seed(0)
    bowl, level = Bowl(MEAN, PRECISION), torch.tensor(3.0, requires_grad=True)

    def energy(y, k):
        return bowl(y, k) + level

    objective = ContrastiveDivergence("data", shrink=0.001)
    objective(energy, draw(20000), None, partial(langevin, energy, steps=3)).total.backward()
    assert bowl.log_precision.grad.abs() < 0.05 and bowl.mean.grad.abs() < 0.2
    assert 0.01 < level.grad.item() < 0.02  # 4 * shrink * energy, where the difference alone says nothing


@pytest.mark.parametrize("sigma", [1.0, 0.1])
def test_denoising_scores_are_those_of_the_noised_gaussian(sigma):
    """-dE/dy / sigma = -(y - mean) / (std^2 + sigma^2): precision sigma / (std^2 + sigma^2)."""
    torch.manual_seed(0)
    answer = sigma / (STD**2 + sigma**2)
    objective, target = DenoisingScores(levels=1, noise=(sigma, sigma)), draw(100000)
    bowl, wrong = Bowl(MEAN, answer), Bowl(MEAN, 1.3 * answer)
    losses = [objective(b, target, torch.randn_like(target), None).total for b in (bowl, wrong)]
    losses[0].backward()
    assert bowl.log_precision.grad.abs() < 0.02 and bowl.mean.grad.abs() < 0.02
    assert losses[0].item() == pytest.approx(STD**2 / (STD**2 + sigma**2), rel=0.02)  # what cannot be known
    assert losses[1] > losses[0]


def test_levels_fall_from_the_first_to_the_last_and_each_sample_has_its_own():
    objective, seen = DenoisingScores(levels=5, noise=(1.0, 0.1)), []
    assert [objective.sigma(k) for k in (0, 2, 4)] == pytest.approx([1.0, 0.55, 0.1])

    def energy(y, k):
        seen.append(k)
        return y.pow(2).sum(1)

    objective(energy, torch.zeros(1000, 1), torch.ones(1000, 1), None, torch.Generator().manual_seed(0))
    assert seen[0].bincount().tolist() == pytest.approx([200] * 5, abs=50)


def test_landscapes_of_several_samples_are_those_of_each_alone():
    torch.manual_seed(0)
    net = EnergyTransformer(LinearTokens(2, 16), Transformer(16, 1, 2), Scalar(2, 16), landscapes=3)
    nn.init.normal_(net.landscape)
    y, energy_fn = torch.randn(4, 1, 2), net.bind(torch.zeros(4, 1, 16))
    k = torch.tensor([0, 2, 7, 1])  # beyond the last: the last
    together = energy_fn(y, k)
    each = torch.stack([energy_fn(y, int(level))[i] for i, level in enumerate(k)])
    torch.testing.assert_close(together, each)
    assert not torch.allclose(each, energy_fn(y, 0))


def test_annealed_langevin_dynamics_reaches_the_data_from_noise():
    model = tiny(AnnealedEBT, DenoisingScores(20, (1.0, 0.02)), ActConfig(steps=100, noise=(1.0, 0.02)), step_size=0.5)
    sigmas = torch.tensor([model.objective.sigma(k) for k in range(20)])

    class Truth(nn.Module):
        def bind(self, ctx):
            return lambda y, k: 0.5 * sigmas[k] / (STD**2 + sigmas[k] ** 2) * (y - MEAN).pow(2).sum((1, 2))

    model.net = Truth()
    y = model.sample(torch.zeros(4000, 1, 16), torch.randn(4000, 1, 2), torch.Generator().manual_seed(0)).y
    assert y.mean().item() == pytest.approx(MEAN, abs=0.02) and y.std().item() == pytest.approx(STD, rel=0.1)


def test_reflected_langevin_dynamics_keeps_to_the_box_and_to_its_density():
    torch.manual_seed(0)
    steps = langevin(lambda y, k: 0 * y.sum(1), torch.randn(4000, 1), steps=300, step_size=0.02)
    at = steps[-1].at
    assert all(s.at.abs().max() <= 1 for s in steps)
    assert at.mean().abs() < 0.04 and at.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.04)  # uniform
    at = langevin(Bowl(MEAN, PRECISION), torch.randn(4000, 1), steps=300)[-1].at
    assert at.mean().item() == pytest.approx(MEAN, abs=0.02) and at.std().item() == pytest.approx(STD, rel=0.06)


COLD = dict(noise=(0.1, 0.0), state="box")
WALK = dict(steps=5, noise=(0.1, 0.1), state="box")
LEARNERS = {  # what is trained -> class, objective, how it walks in training, how it acts, step size, updates
    "NCE": (EBT, lambda: NoiseContrast(4, blur=0.1), {"steps": 1}, ActConfig(steps=300, **COLD), 0.005, 200),
    "InfoNCE": (EBT, lambda: InfoNCE(4, walked=1, blur=0.1), WALK, ActConfig(steps=300, **COLD), 0.005, 200),
    "InfoNCE, hard": (
        EBT,
        lambda: InfoNCE(4, swapped=1, noised=2, blur=0.1),
        {"steps": 1},
        ActConfig(steps=300, **COLD),
        0.005,
        200,
    ),
    "CD": (EBT, lambda: ContrastiveDivergence("noise", 0.1, blur=0.1), WALK, ActConfig(steps=300, **COLD), 0.005, 400),
    "DSM": (
        AnnealedEBT,
        lambda: DenoisingScores(10, (1.0, 0.05)),
        {"steps": 1},
        ActConfig(10, noise=(1, 0.05)),
        0.5,
        250,
    ),
}


def tiny(cls, objective, act, train_walk=None, step_size=0.1, dim=16):
    torch.manual_seed(0)
    return cls.on_trunk(
        LinearTokens(2, dim),
        Transformer(dim, 1, 2),
        Scalar,
        objective=objective,
        train_walk=DescentConfig(**(train_walk or {"steps": 1}), backprop="last"),
        act=act,
        step_size=step_size,
    )


@pytest.fixture(scope="module", params=LEARNERS)
def learned(request):
    """A model that has learned where in the square each of 16 contexts points to; targets and contexts."""
    cls, objective, train_walk, act, step_size, updates = LEARNERS[request.param]
    model = tiny(cls, objective(), act, train_walk, step_size, dim=32)
    target = 1.6 * torch.rand(16, 1, 2) - 0.8
    ctx = torch.cat([target, target.pow(2)], dim=-1) @ torch.randn(4, 32)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    replay = ReplayBuffer(64, (1, 2), share=1.0, longest=1000) if request.param == "CD" else None
    index = torch.arange(64)
    for _ in range(updates):
        optimizer.zero_grad()
        go_on = {} if replay is None else {"go_on": partial(replay.mix, index)}
        loss = model.loss(target.repeat(4, 1, 1), ctx.repeat(4, 1, 1), torch.randn(64, 1, 2), **go_on)
        if replay is not None:
            replay.store(index, loss.final)
        loss.total.backward()
        optimizer.step()
        schedule.step()
    return model.requires_grad_(False), target, ctx


def test_one_batch_is_learned_by_heart_and_found_by_its_walks(learned):
    model, target, ctx = learned
    y = model.sample(ctx, torch.randn(16, 1, 2), torch.Generator().manual_seed(0)).y
    assert (y - target).norm(dim=-1).median() < 0.15  # by chance 0.8


def test_a_sample_is_the_same_alone_and_among_others(learned):
    model, _, ctx = learned
    act, model.act = model.act, ActConfig(steps=5, state=model.act.state)  # without noise, which is drawn for all
    y0 = torch.randn(16, 1, 2)
    together, alone = model.sample(ctx, y0), model.sample(ctx[3:4], y0[3:4])
    model.act = act
    torch.testing.assert_close(together.y[3:4], alone.y, atol=1e-5, rtol=1e-4)


def test_chains_and_the_normaliser_are_in_the_state_that_a_checkpoint_keeps():
    def fresh():
        model = tiny(EBT, ContrastiveDivergence("noise"), ActConfig(), WALK)
        return nn.ModuleDict({"model": model, "replay": ReplayBuffer(8, (1, 2), share=1.0, longest=1000)})

    def update(module, seed):
        generator, target = torch.Generator().manual_seed(seed), torch.full((8, 1, 2), 0.5)
        go_on = partial(module["replay"].mix, torch.arange(8), generator=generator)
        loss = module["model"].loss(target, torch.zeros(8, 1, 16), torch.zeros(8, 1, 2), generator, go_on=go_on)
        module["replay"].store(torch.arange(8), loss.final)
        return loss

    before, after = fresh(), fresh()
    update(before, 1)
    after.load_state_dict(before.state_dict())
    went_on, resumed, anew = update(before, 2), update(after, 2), update(fresh(), 2)
    assert torch.equal(went_on.final, resumed.final) and torch.equal(went_on.total, resumed.total)
    assert not torch.allclose(went_on.final, anew.final)
    assert "objective.log_z" in tiny(EBT, NoiseContrast(), ActConfig()).state_dict()


@pytest.mark.parametrize("objective", [NoiseContrast(2), InfoNCE(3, 1, 1, 1), ContrastiveDivergence("noise")])
def test_where_a_target_says_nothing_its_rivals_do_not_differ_from_it(objective):
    def wide(y, k):
        return y[:, 0].pow(2)

    target, weight = torch.rand(8, 2), torch.tensor([[0.0, 1.0]]).expand(8, 2)
    loss = objective(wide, target, torch.randn(8, 2), partial(langevin, wide), weight=weight)
    assert loss.metrics["energy_gap"].abs() < 1e-6


def test_settings_without_meaning_are_refused():
    for counts in (dict(walked=5), dict(walked=2, swapped=2, noised=1)):
        with pytest.raises(ValueError, match="no fewer than walked . swapped . noised"):
            InfoNCE(negatives=4, **counts)
    with pytest.raises(ValueError, match="negatives must be at least 1 and whole, got 0"):
        NoiseContrast(negatives=0)
    with pytest.raises(ValueError, match="start must be data or noise, got 'middle'"):
        ContrastiveDivergence("middle")
    with pytest.raises(ValueError, match="expected noise that falls"):
        DenoisingScores(noise=(0.1, 1.0))
    model = tiny(AnnealedEBT, DenoisingScores(3), ActConfig(lowest=True))
    with pytest.raises(ValueError, match="energies of different levels do not compare"):
        model.sample(torch.zeros(1, 1, 16), torch.zeros(1, 1, 2))
