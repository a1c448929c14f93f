"""Power laws with known exponents: recovered, covered as often as promised, and told apart only when they differ."""

import numpy as np
import pytest

from ebt_policy.rollout.powerlaw import Difference, Floor, PowerLaw

SIZES = np.geomspace(1e3, 1e4, 5)


def cells(exponent, rng, sizes=SIZES, seeds=3, noise=0.01, bend=0.0, floor=0.0):
    """Losses of every seed: noise is of one cell, bend moves all seeds of a size together."""
    x = np.repeat(sizes, seeds)
    off = np.repeat(rng.normal(size=len(sizes)) * bend, seeds) + rng.normal(size=len(x)) * noise
    return x, (50 * x**-exponent + floor) * np.exp(off)


def test_a_law_without_noise_is_found_exactly():
    law = PowerLaw.of([8, 1, 4, 2, 2], [2 * x**-0.5 for x in (8, 1, 4, 2, 2)])
    assert law.x.tolist() == [1, 2, 4, 8]
    assert [law.exponent, law.scale, *law.interval] == pytest.approx([0.5, 2, 0.5, 0.5])
    assert law(np.array([16.0])) == pytest.approx(0.5)


def test_an_exponent_is_recovered_within_an_interval_that_is_the_same_again():
    laws = [PowerLaw.of(*cells(0.3, np.random.default_rng(0))) for _ in range(2)]
    low, high = laws[0].interval
    assert low < 0.3 < high < 1.2 * low and laws[1].interval == (low, high)
    low, high = laws[0].band(SIZES)
    assert (low < 50 * SIZES**-0.3).all() and (high > 50 * SIZES**-0.3).all()


@pytest.mark.parametrize("bend", [0.0, 0.02])
def test_intervals_cover_the_truth_about_as_often_as_they_say_also_if_seeds_share_their_errors(bend):
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        low, high = PowerLaw.of(*cells(0.1, rng, bend=bend)).interval
        covered += low <= 0.1 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_no_difference_is_found_where_there_is_none_and_a_large_one_is():
    rng, wrong, found = np.random.default_rng(2), 0, 0
    for _ in range(100):
        one, same, steeper = (PowerLaw.of(*cells(exponent, rng)) for exponent in (0.1, 0.1, 0.16))
        wrong += str(Difference.of(one, same)).startswith("differ")
        found += str(Difference.of(steeper, one)).startswith("differ: by 0.0")
    assert wrong <= 10 and found >= 90


def test_the_sizes_of_two_methods_need_not_be_the_same():
    rng = np.random.default_rng(3)
    one, other = PowerLaw.of(*cells(0.1, rng)), PowerLaw.of(*cells(0.2, rng, sizes=5 * SIZES))
    difference = Difference.of(one, other)
    assert difference.exponent == pytest.approx(-0.1, abs=0.02) and difference.interval[1] < 0


def test_a_floor_is_told_only_where_the_curve_shows_it():
    rng, sizes = np.random.default_rng(4), np.geomspace(1e3, 1e5, 8)
    bent = Floor.of(PowerLaw.of(*cells(0.3, rng, sizes, noise=0.003, floor=2.0)))
    assert bent.value == pytest.approx(2, abs=0.4) and bent.exponent == pytest.approx(0.3, abs=0.1)
    assert str(bent).startswith("floor ")
    straight = Floor.of(PowerLaw.of(*cells(0.3, rng, sizes)))
    assert straight.value is None and "no more than chance" in str(straight)


def test_three_sizes_give_an_exponent_but_no_interval_no_verdict_and_no_floor():
    law = PowerLaw.of([1, 2, 4], [4, 2.1, 1])
    assert law.exponent == pytest.approx(1, abs=0.01) and law.interval is None and law.band(SIZES) is None
    assert "not distinguishable with this many cells" in str(Difference.of(law, law))
    assert "fewer than 4 sizes" in str(Floor.of(law))


def test_what_has_no_slope_is_refused():
    with pytest.raises(ValueError, match=r"two sizes or more, got \[2.0\]"):
        PowerLaw.of([2, 2], [1, 1.1])
    for x, loss in (([1, 2], [1, float("nan")]), ([0, 2], [1, 2])):
        with pytest.raises(ValueError, match="positive sizes and losses"):
            PowerLaw.of(x, loss)
