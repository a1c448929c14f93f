"""Thinking of denoisers: the best of N by a known energy, and gains whose growth with the noise is known."""

import json

import pytest
import torch
from small_images import SIZE, compose_image, make, shades, write_folder
from tiny_runs import script

from ebt_policy.core import EBT, ActConfig, DescentConfig, NoisedStates
from ebt_policy.rollout.restore import gains, measure
from ebt_policy.tasks.image import Denoiser, add_noise, restore, to_unit
from ebt_policy.train.run import train_run

TRUTH = to_unit(shades(3))


class Near(torch.nn.Module):
    """The energy of an image is its squared distance from one that is given."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def bind(self, ctx):
        return lambda y, k: (y - self.target).pow(2).flatten(1).sum(1)


def near(target, step_size=1e-9) -> Denoiser:
    walk = DescentConfig(steps=1, backprop="last")
    return Denoiser(1, SIZE, 4, EBT(Near(target), NoisedStates(), walk, ActConfig(), step_size))


def test_of_many_walks_the_one_that_ends_lowest_is_kept_image_by_image():
    noised = add_noise(TRUTH, 0.5)
    starts = torch.stack([noised] + [add_noise(noised, 0.2, seed) for seed in (1, 2)])
    wanted = starts[[2, 0, 1], [0, 1, 2]]
    found = restore(near(wanted), noised, 0.5, steps=2, candidates=3, spread=0.4)
    torch.testing.assert_close(found.images, wanted, atol=1e-5, rtol=0)
    assert found.energies.shape == (3, 3) and found.energies.abs().max() < 1e-6 and found.steps.tolist() == [6] * 3
    alone = restore(near(wanted), noised, 0.5, steps=2)
    torch.testing.assert_close(alone.images, noised, atol=1e-5, rtol=0)


def test_candidates_without_an_energy_to_choose_by_are_refused():
    with pytest.raises(ValueError, match="4 candidates need an energy to choose by, which this method lacks"):
        restore(make("dit"), TRUTH, 0.5, steps=2, candidates=4)


def test_more_steps_down_to_the_truth_gain_more_where_there_is_more_noise():
    rows = measure(near(TRUTH, step_size=0.25), TRUTH, [0.1, 0.2, 0.4, 0.8], [1, 2], [1, 2], spread=0.0)
    assert [(r["steps"], r["candidates"]) for r in rows[:5]] == [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2)]
    found = gains(rows)
    assert [(r["steps"], r["candidates"], r["over_steps"]) for r in found] == [(1, 2, 1), (2, 1, 1), (2, 2, 1)]
    assert [x["value"] for x in found[0]["gain_db"].values()] == [0] * 4  # candidates that start alike are alike
    halved = found[1]["gain_db"]["0.1"]  # each step halves the error but for the pixels that are clipped
    assert halved["value"] == pytest.approx(6.02, abs=0.5)


def test_the_growth_of_gains_with_the_noise_is_told_with_its_doubt():
    rows = [
        {
            "sigma": sigma,
            "steps": steps,
            "candidates": 1,
            "psnr_of_each": [20 + sigma * (steps - 1) + i for i in (0, 1)],
        }
        for sigma in (0.5, 1.0, 1.5, 2.0, 2.5)
        for steps in (1, 3)
    ]
    (found,) = gains(rows)
    assert [x["value"] for x in found["gain_db"].values()] == pytest.approx([1, 2, 3, 4, 5])
    assert found["spearman"] == pytest.approx(1) and found["interval_of_these_sets"] == pytest.approx([1, 1])
    assert found["interval_of_any_such_sets"][0] < 0.5


def test_a_run_is_measured_with_the_best_of_its_candidates_beside_one(tmp_path, capsys):
    folder = write_folder(tmp_path / "folder")
    train_run(compose_image(tmp_path / "run", folder, "experiment=image_ebt_tiles", updates=1))
    settings = ("inside=[0.5]", "outside=[2.0]", "steps=[1,2]", "candidates=[1,3]", "pictures=1")
    script("denoise", f"run={tmp_path / 'run'}", *settings)
    result = json.loads((tmp_path / "run" / "denoise" / "denoise.json").read_text())
    assert [row["network_evaluations"] for row in result["rows"] if row["steps"] == 2] == [2, 6, 2, 6]
    assert len(result["gains"]) == 3 and "dB over 1 step" in capsys.readouterr().out
