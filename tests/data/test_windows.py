"""Windows against a loop that anyone can check by hand."""

import time

import numpy as np
import pytest
import torch

from ebt_policy.data.episodes import Episode, from_episodes
from ebt_policy.data.spec import ActionSpec, Spec
from ebt_policy.data.windows import WindowDataset


def brute_force(data, observe, predict):
    windows = []
    for i in range(len(data)):
        episode = data.episode(i)
        for t in range(len(episode)):
            steps = [min(max(t - observe + 1 + n, 0), len(episode) - 1) for n in range(predict)]
            obs = {key: values[steps[:observe]] for key, values in episode.obs.items()}
            windows.append((obs, episode.action[steps]))
    return windows


@pytest.mark.parametrize(("observe", "predict"), [(1, 1), (1, 4), (2, 2), (2, 16), (5, 7)])
def test_windows_equal_a_loop_over_steps(data, observe, predict):
    windows = WindowDataset(data, observe, predict)
    expected = brute_force(data, observe, predict)
    assert len(windows) == len(expected) == 30
    order = np.random.default_rng(0).integers(0, 30, 100)
    batch = windows.batch(order)
    assert batch.action.shape == (100, predict, 7) and batch.obs["object"].shape == (100, observe, 10)
    for n, i in enumerate(order):
        np.testing.assert_array_equal(batch.action[n], expected[i][1])
        for key, values in expected[i][0].items():
            np.testing.assert_array_equal(batch.obs[key][n], values)


def test_the_last_observation_of_window_t_is_step_t(data):
    windows = WindowDataset(data, 2, 8)
    batch = windows.batch(torch.arange(len(windows)))
    np.testing.assert_array_equal(batch.obs["object"][:, -1], data.obs["object"])
    np.testing.assert_array_equal(batch.action[:, 1], data.action)  # executed from index To-1 on
    assert batch.index.tolist() == list(range(30))


def test_a_batch_moves_between_devices(data):
    batch = WindowDataset(data, 2, 8).batch([0, 1]).to("meta")
    assert {batch.action.device.type, batch.index.device.type, batch.obs["object"].device.type} == {"meta"}


def test_horizons_that_make_no_sense_are_refused(data):
    for observe, predict in ((0, 4), (3, 2)):
        with pytest.raises(ValueError, match="1 <= observe <= predict"):
            WindowDataset(data, observe, predict)


def test_a_batch_costs_microseconds(data):
    windows, indices = WindowDataset(data, 2, 16), torch.randint(30, (64,))
    seconds = []
    for _ in range(100):
        start = time.perf_counter()
        windows.batch(indices)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3  # about 60 us on an idle core; the least, for the machine may be busy


def test_actions_after_a_disturbance_that_the_plan_could_not_foresee_are_marked():
    action = np.zeros((8, 2), np.float32)
    executed = action.copy()
    executed[3] = 1  # disturbed once, at step 3
    spec = Spec({"x": (1,)}, ActionSpec(2))
    episode = Episode({"x": np.zeros((8, 1), np.float32)}, action, executed=executed)
    windows = WindowDataset(from_episodes(spec, [episode, episode]), observe=2, predict=5)
    foreseen = windows.batch(np.arange(16)).foreseen
    assert torch.equal(foreseen[:8], foreseen[8:])
    # window t holds actions t-1 .. t+3, window 0 the first one twice; the label of step 3 itself is still good
    expected = {0: "11111", 1: "11110", 2: "11100", 3: "11000", 4: "11111", 7: "11111"}
    for t, row in expected.items():
        assert "".join(str(int(x)) for x in foreseen[t]) == row, t
