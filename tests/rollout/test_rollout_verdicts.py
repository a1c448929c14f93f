"""The rule of the verdicts, the intervals that it judges, and the number of episodes that it asks for."""

import numpy as np
import pytest
from test_rollout_stats import outcomes

from ebt_policy.rollout.compare import difference, mean, success_difference
from ebt_policy.rollout.sample_size import to_decide
from ebt_policy.rollout.verdicts import NOT_RUN, NOT_SUPPORTED, SUPPORTED, UNDERPOWERED, combined, verdict


@pytest.mark.parametrize(
    "interval, better, not_worse",
    [
        ((0.01, 0.2), SUPPORTED, SUPPORTED),
        ((0.01, 0.03), SUPPORTED, SUPPORTED),  # shown, if small
        ((-0.01, 0.03), NOT_SUPPORTED, SUPPORTED),  # a gain that matters is ruled out
        ((-0.01, 0.2), UNDERPOWERED, SUPPORTED),
        ((-0.04, -0.01), NOT_SUPPORTED, SUPPORTED),  # worse, but by less than matters
        ((-0.2, -0.01), NOT_SUPPORTED, NOT_SUPPORTED),
        ((-0.2, 0.01), NOT_SUPPORTED, UNDERPOWERED),
        ((-0.2, 0.2), UNDERPOWERED, UNDERPOWERED),
        (None, NOT_RUN, NOT_RUN),
    ],
)
def test_verdicts_follow_from_where_the_interval_lies(interval, better, not_worse):
    assert verdict("better", 0.05, interval) == better
    assert verdict("not worse", 0.05, interval) == not_worse


def test_an_interval_narrower_than_the_margin_always_decides():
    for low in np.linspace(-0.2, 0.2, 81):
        assert {verdict(c, 0.05, (low, low + 0.049)) for c in ("better", "not worse")} <= {SUPPORTED, NOT_SUPPORTED}


def test_a_hypothesis_is_all_of_its_claims():
    assert combined([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert combined([SUPPORTED, UNDERPOWERED]) == UNDERPOWERED
    assert combined([SUPPORTED, UNDERPOWERED, NOT_RUN]) == NOT_RUN
    assert combined([SUPPORTED, UNDERPOWERED, NOT_RUN, NOT_SUPPORTED]) == NOT_SUPPORTED
    assert combined([]) == NOT_RUN


@pytest.mark.parametrize("claim, margin", [("best", 0.05), ("better", 0.0)])
def test_a_claim_without_a_meaning_is_refused(claim, margin):
    with pytest.raises(ValueError, match="expected a claim of better, not worse and a margin above 0, got"):
        verdict(claim, margin, None)


@pytest.mark.parametrize("counts", [(50, 10, 2, 38), (80, 12, 5, 103), (100, 0, 0, 0)])
def test_the_interval_of_one_run_each_is_that_of_bonett_and_price(counts):
    _, b, c, _ = counts
    n = sum(counts)
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = 1.96 * np.sqrt((p + q - (p - q) ** 2) / (n + 2))
    found = success_difference(*[[side] for side in outcomes(*counts)])
    assert found.estimate == pytest.approx((b - c) / n) and found.n == n
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half), abs=0.012)


def test_the_interval_covers_the_truth_near_the_ceiling_where_methods_hardly_differ():
    rng, covered = np.random.default_rng(0), []
    for _ in range(150):
        one, other = rng.random((2, 1, 100)) < [[[0.98]], [[0.95]]]
        found = success_difference(one, other, draws=1000)
        covered.append(found.low <= 0.03 <= found.high)
    assert np.mean(covered) >= 0.93


def test_training_runs_that_differ_widen_the_interval_and_more_episodes_do_not_narrow_that():
    """Rates of 0.7, 0.8, 0.9: a standard error of 0.1 / sqrt(3) of their mean, however many episodes."""
    for n in (200, 2000):
        one = [np.arange(n) < rate * n for rate in (0.7, 0.8, 0.9)]
        found = difference(one, [np.zeros(n)], mean, draws=2000)
        extra = np.sqrt((found.high - found.low) ** 2 - found.of_episodes**2) / 3.92
        assert extra == pytest.approx(0.1 / np.sqrt(3), rel=0.15)


def test_two_ways_to_act_of_the_same_training_runs_differ_by_what_they_differ_by_in_each():
    """The one is 10 points better in every run: how far the runs lie apart says nothing about that."""
    rates = (0.5, 0.7, 0.9)
    one, other = ([np.arange(1000) < (rate + more) * 1000 for rate in rates] for more in (0.1, 0.0))
    apart, together = (success_difference(one, other, same_runs=same) for same in (False, True))
    assert together.estimate == apart.estimate == pytest.approx(0.1)
    assert together.high - together.low < 0.03 < 0.3 < apart.high - apart.low
    with pytest.raises(ValueError, match="expected the same training runs on both sides, got 3 and 2"):
        success_difference(one, other[:2], same_runs=True)


def test_a_bootstrap_wants_the_same_initial_states():
    with pytest.raises(ValueError, match=r"same initial states, got \[2, 3\]"):
        difference([np.zeros(3)], [np.zeros(2)])


def test_four_times_the_episodes_halve_an_interval():
    assert to_decide(100, width=0.1, of_episodes=0.1, margin=0.05) == 400
    assert to_decide(100, width=0.05, of_episodes=0.03, margin=0.05) == 100  # 0.04 stays, 0.03 is left for episodes
    assert to_decide(100, width=0.1, of_episodes=0.05, margin=0.05) is None  # training runs alone spread by 0.087


def test_as_many_episodes_as_asked_for_decide():
    rng = np.random.default_rng(0)
    few = success_difference(rng.random((1, 100)) < 0.8, rng.random((1, 100)) < 0.8)
    needed = to_decide(100, few.high - few.low, few.of_episodes, 0.1)
    many = success_difference(rng.random((1, needed)) < 0.8, rng.random((1, needed)) < 0.8)
    assert needed > 100 and many.high - many.low == pytest.approx(0.1, rel=0.15)
