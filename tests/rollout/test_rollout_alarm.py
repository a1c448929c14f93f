"""Rankings by hand and by scipy, phases, and alarms whose promise holds."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from ebt_policy.rollout.alarm import (
    LEAST,
    Phases,
    alarm,
    auroc,
    average_precision,
    by_phase,
    foretelling,
    needed,
    per_chunk,
    scores,
    threshold,
)


def episode(success, signal, step=8):
    """One whose signal x is given per chunk."""
    chunks = [{"elapsed": float(step * i), "x": float(x)} for i, x in enumerate(signal)]
    return {"success": success, "length": step * len(signal), "signals": chunks}


def noisy_episodes(rng, failures=20, successes=30, shift=0.0):
    """Failures are three times as long, and their signal is higher by `shift`."""
    yield from (episode(False, shift + rng.normal(size=30)) for _ in range(failures))
    yield from (episode(True, rng.normal(size=rng.integers(10, 14))) for _ in range(successes))


def test_auroc_counts_pairs_in_the_right_order_and_half_of_the_ties():
    assert auroc(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == pytest.approx(2.5 / 4)
    rng = np.random.default_rng(0)
    failed, succeeded = rng.integers(0, 9, 40).astype(float), rng.integers(0, 7, 30).astype(float)
    assert auroc(failed, succeeded) == pytest.approx(mannwhitneyu(failed, succeeded).statistic / (40 * 30))


def test_auprc_is_the_area_under_the_steps_of_precision_over_recall():
    assert average_precision(np.array([4.0, 2.0]), np.array([3.0, 1.0])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([2.0, 2.0]), np.array([2.0, 2.0])) == pytest.approx(0.5)
    assert average_precision(np.array([9.0, 8.0]), np.array([1.0])) == 1


def test_rankings_are_vectorised_over_resamples():
    failed, succeeded = np.random.default_rng(0).normal(size=(2, 5, 7))
    for statistic in (auroc, average_precision):
        np.testing.assert_allclose(
            statistic(failed, succeeded), [statistic(*p) for p in zip(failed, succeeded, strict=True)]
        )


def test_a_score_never_falls_and_waits_for_the_first_value():
    found = scores(np.array([[np.nan, 2.0, 1.0, np.nan], [np.nan] * 4]))
    np.testing.assert_array_equal(found, [[-np.inf, 2, 2, 2], [-np.inf] * 4])


def test_a_phase_takes_out_what_all_successes_share():
    drift = 10.0 * np.arange(6)
    values = drift + np.linspace(-1, 1, 9)[:, None]  # quartiles one apart
    phases = Phases.of(values)
    np.testing.assert_allclose(phases.median, drift)
    np.testing.assert_allclose(phases(drift + 2.0), np.full(6, 2.0))
    np.testing.assert_allclose(phases(np.full(8, 50.0))[6:], [0.0, 0.0])  # later chunks count to the last phase


def test_a_success_is_not_part_of_what_it_is_compared_with():
    values = np.concatenate([np.linspace(-1, 1, 9), [7.0, 7.0]])[:, None]
    success = np.array([True] * 10 + [False])
    found = by_phase(values, success)
    assert found[9, 0] == pytest.approx(7.0) and found[10, 0] < found[9, 0]


def test_phases_need_some_successes():
    with pytest.raises(ValueError, match=f"expected {LEAST} successful episodes to learn phases from, got 4"):
        Phases.of(np.zeros((4, 3)))


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.2, 0.1, 0.05, 0.01])
def test_the_least_number_of_successes_is_the_one_whose_greatest_score_keeps_the_promise(alpha):
    keeps = [n for n in range(1, 200) if 1 / (n + 1) <= alpha + 1e-12]  # P(the next one is the greatest of n + 1)
    assert needed(alpha) == keeps[0]
    threshold(np.zeros(needed(alpha)), alpha)


def test_too_few_successes_for_a_threshold_are_told_how_many_it_takes():
    assert threshold(np.arange(9.0), 0.1) == 8
    with pytest.raises(ValueError, match="rate of 0.1 needs 9 successful episodes to set its threshold, got 8"):
        threshold(np.arange(8.0), 0.1)
    for alpha in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"in \(0, 1\), got"):
            threshold(np.arange(8.0), alpha)


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_the_promised_rate_of_false_alarms_is_kept_for_any_distribution(alpha):
    drawn = np.random.default_rng(0).exponential(size=(20000, 20)) ** 3
    false = np.mean([row[-1] > threshold(row[:-1], alpha) for row in drawn])
    k = np.ceil(20 * (1 - alpha))
    assert false <= alpha + 0.005 and false == pytest.approx((20 - k) / 20, abs=0.01)


def test_an_alarm_is_raised_at_the_first_chunk_above_the_threshold():
    values = np.zeros((24, 5))
    values[:20, 0] = np.arange(20)  # successes; those that calibrate have scores of 0, 2, ... 18
    values[20:, 3] = [18.0, 19.0, 50.0, 50.0]
    values[23, 1] = 50.0
    left = np.tile(8.0 * np.arange(5, 0, -1), (24, 1))
    found = alarm(values, np.arange(24) < 20, left, alpha=0.1)
    assert found["threshold"] == 18 and found["calibrated_on"] == 10
    assert found["false_alarms"]["text"].startswith("1/10") and found["caught"]["text"].startswith("3/4")
    assert found["lead_steps"] == 16  # of 16, 16 and 32


def test_an_alarm_by_phase_learns_phases_and_threshold_from_different_successes():
    rng = np.random.default_rng(0)
    success = np.arange(60) < 50
    values = 10.0 * np.arange(8) + rng.normal(size=(60, 8))
    values[50:, 2] += 9.0  # lower than what is usual five chunks later
    left = np.tile(np.arange(8.0, 0, -1), (60, 1))
    raw, phase = (alarm(values, success, left, 0.1, by) for by in (False, True))
    assert raw["calibrated_on"] == 25 and phase["calibrated_on"] == 17
    assert raw["caught"]["rate"] < 0.5 and phase["caught"]["rate"] == 1 and phase["lead_steps"] == 6


def test_a_clock_ranks_whole_episodes_perfectly_and_says_nothing_over_equal_time():
    found = foretelling(list(noisy_episodes(np.random.default_rng(0))), resamples=100)
    assert found["elapsed"]["whole"]["auroc"] == [1, 1, 1]
    assert found["elapsed"]["equal_time"]["auroc"] == [0.5, 0.5, 0.5]
    value, low, high = found["x"]["equal_time"]["auroc"]
    assert low < 0.5 < high and low < value < high
    assert found["x"]["whole"]["auroc"][0] > 0.65  # of pure noise: a maximum over more chunks is greater


def test_a_signal_that_foretells_is_found_with_an_interval_above_chance():
    found = foretelling(list(noisy_episodes(np.random.default_rng(0), shift=1.5)), resamples=200)["x"]
    assert found["equal_time"]["auroc"][1] > 0.6 and found["equal_time_phase"]["auroc"][1] > 0.6
    assert found["equal_time"]["auprc"][0] > 20 / 50


def test_signals_that_some_chunks_lack_are_missing_there_alone():
    one = episode(True, [1.0, 2.0])
    del one["signals"][0]["x"]
    one["signals"][1]["y"] = None  # not finite, as JSON has it
    found = per_chunk([one, episode(False, [3.0])])
    np.testing.assert_array_equal(found["x"], [[np.nan, 2.0], [3.0, np.nan]])
    assert np.isnan(found["y"]).all()


def test_too_few_episodes_of_a_kind_are_refused_with_what_it_takes():
    rng = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match="2 failures and 27 successes .* 1 and 30: run more .* are 1 more failures .until"
    ):
        foretelling(list(noisy_episodes(rng, failures=1)))
    with pytest.raises(ValueError, match="until there are 2 more failures and 24 more successes"):
        foretelling(list(noisy_episodes(rng, failures=0, successes=3)))
    with pytest.raises(ValueError, match="2 failures and 57 successes for a false-alarm rate of 0.05, got 20 and 30"):
        foretelling(list(noisy_episodes(rng)), alpha=0.05)
    with pytest.raises(ValueError, match="expected signals in every episode"):
        per_chunk([{"success": True, "length": 3, "signals": []}])
