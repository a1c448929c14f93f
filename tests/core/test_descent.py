"""Descent where the answer is known: bowls, quartics and walls."""

import itertools

import pytest
import torch

from ebt_policy.core import DescentConfig, descend, energy_and_grad, walk

TARGET = torch.tensor([[0.3, -0.7], [0.1, 0.9], [-0.5, 0.5]])


def bowl(y, k):
    return 0.5 * (y - TARGET[: len(y)]).pow(2).sum(-1)


def start(seed=0):
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(seed))


def test_descent_reaches_the_bottom_of_a_bowl_and_never_climbs():
    steps = descend(bowl, start(), 0.5, DescentConfig(steps=40))
    torch.testing.assert_close(steps[-1].y, TARGET, atol=1e-4, rtol=0)
    assert (torch.stack([s.energy for s in steps]).diff(dim=0) <= 0).all()


def test_nesterov_momentum_reaches_the_bottom_faster_than_plain_descent():
    def error(momentum):
        steps = descend(bowl, start(), 0.05, DescentConfig(steps=60, momentum=momentum))
        return (steps[-1].y - TARGET).norm()

    assert error(0.8) < 0.05 * error(0.0)


def test_the_result_of_a_sample_does_not_depend_on_its_batch_mates():
    cfg = DescentConfig(steps=5, state="unit_rms", momentum=0.5, energy_temp=8.0)
    together, alone = descend(bowl, start(), 0.1, cfg)[-1].y[:1], descend(bowl, start()[:1], 0.1, cfg)[-1].y
    assert torch.equal(together, alone)


@pytest.mark.parametrize("mode", ["last", "each", "through"])
def test_parameters_learn_through_the_gradient_of_the_energy(mode):
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    step_size = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def result(w, step_size):
        y0 = torch.full((2, 3), 0.5, dtype=torch.float64)
        cfg = DescentConfig(steps=3, momentum=0.3, backprop=mode, energy_temp=1.3)
        return descend(lambda y, k: (w * y.pow(4)).sum(-1), y0, step_size, cfg)[-1].y.sum()

    result(w, step_size).backward()
    assert w.grad != 0 and step_size.grad != 0
    if mode == "through":  # the others cut the graph between steps on purpose
        assert torch.autograd.gradcheck(result, (w, step_size))


def test_last_backpropagates_through_the_last_step_alone():
    w = torch.tensor(1.0, requires_grad=True)
    steps = descend(lambda y, k: w * y.pow(2).sum(-1), torch.ones(2, 3), 0.1, DescentConfig(steps=3, backprop="last"))
    assert [s.y.requires_grad for s in steps] == [False, False, True]
    steps[-1].y.sum().backward()  # y3 = y2 - 0.1 * 2 w y2 with y2 = 0.8^2 held constant
    torch.testing.assert_close(w.grad, torch.tensor(-6 * 0.2 * 0.64))


def test_none_builds_no_graph():
    w = torch.tensor(2.0, requires_grad=True)
    step = descend(lambda y, k: (w * y.pow(2)).sum(-1), torch.ones(2, 3), w, DescentConfig(steps=3))[-1]
    assert not step.y.requires_grad and not step.energy.requires_grad


def test_torch_func_gives_the_gradient_of_autograd_to_first_and_second_order():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 1)).double()
    y = torch.randn(5, 4, dtype=torch.float64)
    energy, grad = energy_and_grad(lambda y, k: net(y).squeeze(-1), y, 0, create_graph=True)
    second = torch.autograd.grad(grad.pow(2).sum(), net.parameters(), allow_unused=True)
    y_ = y.clone().requires_grad_()
    (grad_,) = torch.autograd.grad(net(y_).sum(), y_, create_graph=True)
    second_ = torch.autograd.grad(grad_.pow(2).sum(), net.parameters(), allow_unused=True)
    torch.testing.assert_close(energy, net(y).squeeze(-1))
    torch.testing.assert_close(grad, grad_)
    assert [a is None for a in second] == [b is None for b in second_]
    for a, b in zip(second, second_, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b)


def test_the_second_order_gradient_agrees_with_finite_differences():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
    y0, weight = torch.randn(4, 3, dtype=torch.float64), net[0].weight

    def loss():
        cfg = DescentConfig(steps=1, backprop="last")
        return descend(lambda y, k: net(y).squeeze(-1), y0, 0.7, cfg)[-1].y.pow(2).sum()

    (analytic,) = torch.autograd.grad(loss(), weight)
    numeric = torch.zeros_like(analytic)
    for place in itertools.product(*map(range, weight.shape)):
        with torch.no_grad():
            for sign in (1, -1):
                weight[place] += sign * 1e-6
                numeric[place] += sign * loss() / 2e-6
                weight[place] -= sign * 1e-6
    torch.testing.assert_close(analytic, numeric, atol=1e-7, rtol=1e-6)


def test_the_same_generator_seed_gives_the_same_walk_and_another_seed_does_not():
    cfg = DescentConfig(steps=3, extra_steps=3, noise=(0.2, 0.01), step_jitter=1.5)
    a, b, c = (descend(bowl, start(), 0.1, cfg, torch.Generator().manual_seed(s))[-1].y for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_the_number_of_steps_is_drawn_with_both_ends_included():
    cfg, g = DescentConfig(steps=2, extra_steps=2), torch.Generator().manual_seed(0)
    assert {len(descend(bowl, start(), 0.1, cfg, g)) for _ in range(50)} == {2, 3, 4}


def test_langevin_noise_falls_from_the_first_sigma_to_the_last():
    at = [
        s.at
        for s in walk(lambda y, k: 0 * y.sum(-1), torch.zeros(4000, 1), 1.0, DescentConfig(steps=3, noise=(1.0, 0.1)))
    ]
    spread = [x.std().item() for x in (at[0], at[1] - at[0], at[2] - at[1])]
    assert spread == pytest.approx([1.0, 0.55, 0.1], rel=0.06)


def test_step_jitter_is_one_factor_per_sample_within_its_bounds():
    y0 = torch.ones(4000, 3)
    y = descend(lambda y, k: y.sum(-1), y0, 1.0, DescentConfig(steps=1, step_jitter=2.0))[-1].y
    factor = (y0 - y)[:, 0]
    assert torch.equal(y[:, 0], y[:, 2]) and factor.min() >= 0.5 and factor.max() <= 2.0
    assert factor.mean().item() == pytest.approx(1.25, abs=0.03)


def test_a_sample_below_tolerance_stays_where_it_is_while_others_go_on():
    y0 = TARGET.clone()
    y0[1] += 1
    steps = descend(bowl, y0, 0.5, DescentConfig(steps=100, tol=1e-2))
    assert len(steps) < 100 and torch.equal(steps[-1].y[0], TARGET[0])
    assert torch.stack([s.moved for s in steps]).sum(0).tolist() == [1, len(steps), 1]


def test_unbounded_energy_scaling_does_not_diverge():
    for seed in range(100):
        cfg = DescentConfig(steps=6, energy_temp=2.0, momentum=0.5)
        assert descend(bowl, 3 * start(seed), 0.03, cfg)[-1].y.isfinite().all()


def test_accept_takes_back_steps_that_climbed():
    plain = descend(bowl, start(), 2.5, DescentConfig(steps=30))[-1].y
    guarded = descend(bowl, start(), 2.5, DescentConfig(steps=30, accept=True))
    assert (plain - TARGET).norm() > 1e3
    torch.testing.assert_close(guarded[-1].y, TARGET, atol=1e-3, rtol=0)
    assert (torch.stack([s.energy for s in guarded]).diff(dim=0) <= 0).all()


def test_the_simplex_state_is_a_distribution_wherever_the_gradient_is_taken():
    seen = []

    def energy(y, k):
        seen.append(y.detach().sum(-1))
        return y.pow(2).sum(-1)

    descend(energy, torch.randn(2, 5, 11), 0.1, DescentConfig(steps=2, state="simplex", noise=(1.0, 1.0)))
    for total in seen:
        torch.testing.assert_close(
            torch._C._functorch.get_unwrapped(total) if torch._C._functorch.is_gradtrackingtensor(total) else total,
            torch.ones(2, 5),
        )


def test_unit_rms_is_taken_per_sample():
    at = descend(bowl, 7 * start(), 0.1, DescentConfig(steps=1, state="unit_rms"))[-1].at
    torch.testing.assert_close(at.pow(2).mean(1), torch.ones(3), atol=1e-4, rtol=0)


def test_energies_add():
    def walled(y, k):
        return bowl(y, k) + 5.0 * (y[..., 0] - 1).pow(2)

    y = descend(walled, torch.zeros(3, 2), 0.1, DescentConfig(steps=200))[-1].y
    torch.testing.assert_close(y[:, 0], (TARGET[:, 0] + 10) / 11)


def test_the_caller_decides_when_to_stop():
    assert len(list(itertools.islice(walk(bowl, start(), 0.1, DescentConfig(steps=100)), 4))) == 4


def test_an_energy_of_the_wrong_shape_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"B=2, got \(2, 3, 4\)"):
        descend(lambda y, k: y, torch.randn(2, 3, 4), 0.1, DescentConfig())


@pytest.mark.parametrize(
    "bad",
    [
        dict(steps=0),
        dict(extra_steps=-1),
        dict(step_jitter=0.5),
        dict(energy_temp=0.0),
        dict(state="cube"),
        dict(backprop="some"),
        dict(tol=0.1, backprop="each"),
        dict(accept=True, backprop="last"),
    ],
)
def test_settings_that_mean_nothing_cannot_be_written(bad):
    with pytest.raises(ValueError):
        DescentConfig(**bad)
