"""Statistics against answers from tables, from other libraries, from enumeration and from simulation."""

from itertools import combinations, product
from math import comb, isnan

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from ebt_policy.rollout.compare import holm, letters, paired
from ebt_policy.rollout.plots import success_violins
from ebt_policy.rollout.sample_size import paired_power, sample_size
from ebt_policy.rollout.stats import Spread, SuccessRate


def outcomes(both, only_one, only_other, neither):
    one = [True] * (both + only_one) + [False] * (only_other + neither)
    return one, [True] * both + [False] * only_one + [True] * only_other + [False] * neither


def test_the_posterior_of_three_of_four_is_beta_4_2():
    x = np.linspace(0, 1, 1001)
    density = SuccessRate(3, 4).posterior(x)
    np.testing.assert_allclose(density, 20 * x**3 * (1 - x), atol=1e-9)
    assert density.mean() == pytest.approx(1, abs=2e-3)


def test_violins_have_one_body_for_each_policy_and_their_dots_at_the_rates():
    axes = success_violins({"EBT": SuccessRate(9, 10), "DDIM": SuccessRate(0, 10)}).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["EBT, 9/10", "DDIM, 0/10"]
    assert [line.get_xdata()[0] for line in axes.lines] == [90.0, 0.0]


def test_mcnemar_counts_the_states_on_which_the_policies_differ():
    test = paired(*outcomes(50, 10, 2, 38))
    assert (test.both, test.only_one, test.only_other, test.neither) == (50, 10, 2, 38)
    assert test.difference == pytest.approx(0.08)
    assert test.p == pytest.approx(2 * sum(comb(12, k) for k in range(3)) / 2**12)  # 0.0386, as in textbooks
    assert test.p == pytest.approx(scipy_stats.binomtest(2, 12).pvalue)
    assert paired(*outcomes(5, 0, 0, 5)).p == 1.0


def test_mcnemar_agrees_with_all_ways_the_differences_could_have_fallen():
    """Under the hypothesis each state that differs goes either way: enumerated for every split of up to 9 of them."""
    for m in range(1, 10):
        ways = np.array([sum(way) for way in product([0, 1], repeat=m)])
        for k in range(m + 1):
            as_far = np.mean(abs(ways - m / 2) >= abs(k - m / 2))
            assert paired(*outcomes(3, k, m - k, 2)).p == pytest.approx(min(as_far, 1))


@pytest.mark.parametrize("one, other", [([True], [True, False]), ([], [])])
def test_outcomes_must_be_of_the_same_states(one, other):
    with pytest.raises(ValueError, match="expected outcomes on the same initial states, got"):
        paired(one, other)


def test_holm_agrees_with_the_textbook_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1]) and holm([]) == []
    p = np.random.default_rng(0).uniform(size=20)
    steps = np.maximum.accumulate(np.sort(p) * np.arange(20, 0, -1)).clip(max=1)
    np.testing.assert_allclose(np.sort(holm(p)), steps)
    assert (np.array(holm(p)) <= multipletests(p, method="bonferroni")[1] + 1e-12).all()


def test_letters_of_piephos_kind_of_example():
    assert letters("abc", []) == {"a": "a", "b": "a", "c": "a"}
    assert letters("abc", list(combinations("abc", 2))) == {"a": "a", "b": "b", "c": "c"}
    assert letters("abc", [("a", "c")]) == {"a": "a", "b": "ab", "c": "b"}
    assert letters("abcd", [("d", "a"), ("a", "c"), ("b", "d")]) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}


def test_two_names_share_a_letter_exactly_if_they_do_not_differ_for_every_graph_of_four():
    names, pairs = "wxyz", list(combinations("wxyz", 2))
    for chosen in product([False, True], repeat=len(pairs)):
        different = {pair for pair, taken in zip(pairs, chosen, strict=True) if taken}
        shown = letters(names, different)
        assert all(bool(set(shown[a]) & set(shown[b])) == ((a, b) not in different) for a, b in pairs)


def test_letters_know_their_names():
    with pytest.raises(ValueError, match="expected pairs of a, b, got c"):
        letters("ab", [("a", "c")])


def test_ten_points_at_080_take_199_episodes_each_as_in_the_tables():
    """(1.96 sqrt(2 * .85 * .15) + 0.8416 sqrt(.8 * .2 + .9 * .1))^2 / 0.1^2 = 198.96 (Fleiss)."""
    size = sample_size(0.8, 0.1)
    assert size.unpaired == 199
    assert str(size).startswith(
        "to see a difference of 10 points at 0.8 with 80 % power (level 0.05, two-sided) you need"
    )


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_the_power_of_the_paired_test_is_that_of_simulated_experiments(correlation):
    rate, other, n = 0.7, 0.85, 80
    both = rate * other + correlation * np.sqrt(rate * (1 - rate) * other * (1 - other))
    shares = [both, rate - both, other - both, 1 - rate - other + both]
    tables = np.random.default_rng(1).multinomial(n, shares, size=4000)
    known = {(b, c): paired(*outcomes(1, b, c, 0)).p for b, c in {(b, c) for _, b, c, _ in tables.tolist()}}
    rejected = np.mean([known[b, c] < 0.05 for _, b, c, _ in tables.tolist()])
    assert paired_power(n, rate, other, correlation=correlation) == pytest.approx(rejected, abs=0.025)


def test_the_planned_numbers_have_the_power_and_one_less_has_not():
    size = sample_size(0.6, 0.25, correlation=0.2)
    power = [paired_power(n, 0.6, 0.85, correlation=0.2) for n in (size.paired - 1, size.paired)]
    assert power[0] < 0.8 <= power[1]


def test_policies_that_fail_on_the_same_states_need_fewer_of_them():
    independent, alike = (sample_size(0.8, 0.1, correlation=c).paired for c in (0.0, 0.5))
    assert alike < 0.7 * independent


@pytest.mark.parametrize(
    "settings, complaint",
    [
        ({"rate": 0.95, "difference": 0.1}, "two different rates between 0 and 1, got 0.95 and 1.05"),
        ({"rate": 0.8, "difference": 0.0}, "two different rates"),
        ({"rate": 0.8, "difference": 0.1, "power": 1.0}, "0 < alpha < power < 1"),
        ({"rate": 0.1, "difference": 0.7, "correlation": 0.9}, "cannot have a correlation of 0.9"),
        ({"rate": 0.5, "difference": 0.001}, "more than 100000 episodes"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        sample_size(**settings)


def test_spread_over_training_seeds_is_kept_apart_from_spread_over_episodes():
    """Rates of 0.8, 0.9, 1.0 on 100 episodes: variance 0.01, of which (0.16 + 0.09) / 3 / 99 is sampling."""
    spread = Spread.of([SuccessRate(k, 100) for k in (80, 90, 100)])
    assert spread.rate == pytest.approx(0.9)
    assert spread.within == pytest.approx(np.sqrt(0.25 / 3 / 99))
    assert spread.between == pytest.approx(np.sqrt(0.01 - 0.25 / 3 / 99))
    assert str(spread) == "90.0 %; standard deviation 9.6 over 3 training seeds, 2.9 over 100 episodes"


def test_seeds_that_differ_no_more_than_episodes_do_have_no_spread_of_their_own():
    rng = np.random.default_rng(0)
    drawn = [Spread.of([SuccessRate(int(k), 50) for k in rng.binomial(50, 0.8, 3)]) for _ in range(400)]
    assert np.mean([s.between**2 for s in drawn]) < 0.25 * 0.8 * 0.2 / 50 * 3
    assert np.mean([s.within**2 for s in drawn]) == pytest.approx(0.8 * 0.2 / 50, rel=0.05)
    assert isnan(Spread.of([SuccessRate(3, 4)]).between)


def test_the_spread_between_seeds_is_found_where_there_is_one():
    rng = np.random.default_rng(0)
    rates = np.clip(rng.normal(0.7, 0.1, 3000), 0, 1)
    assert Spread.of([SuccessRate(int(k), 40) for k in rng.binomial(40, rates)]).between == pytest.approx(0.1, abs=0.01)


def test_training_runs_must_be_measured_alike():
    with pytest.raises(ValueError, match=r"as many episodes each, two or more, got \[10, 20\]"):
        Spread.of([SuccessRate(1, 10), SuccessRate(2, 20)])
