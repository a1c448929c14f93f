"""Densities whose truth is known, and the script that measures objectives on them."""

import json
import runpy

import imageio.v3 as imageio
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT

from ebt_policy.data.densities import DENSITIES, Density, Square

SQUARE = Square(100)


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "densities.py"))


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_has_nearly_all_of_its_mass_in_the_square_and_its_samples_have_it_there_too(name):
    density, rng = DENSITIES[name](), np.random.default_rng(0)
    p = np.exp(density.log_prob(SQUARE.points)) * (2 / SQUARE.n) ** 2
    assert p.sum() == pytest.approx(1, abs=1e-3)
    samples = density.sample(20000, rng)
    quarter = (SQUARE.points[:, 0] > 0) & (SQUARE.points[:, 1] > 0.2)
    found = (samples[:, 0] > 0) & (samples[:, 1] > 0.2)
    assert found.mean() == pytest.approx(p[quarter].sum(), abs=0.015)


def test_the_value_of_one_gaussian_is_known():
    one = Density(np.array([[[0.5, 0.0]]]), std=0.1)
    assert one.log_prob(np.array([[0.5, 0.1]])) == pytest.approx(-0.5 - np.log(2 * np.pi * 0.01))


def test_quadrature_gives_the_divergence_of_two_gaussians_whatever_their_constants():
    p, q = Density(np.zeros((1, 1, 2)), 0.1), Density(np.array([[[0.1, 0.0]]]), 0.2)
    logs = [density.log_prob(SQUARE.points) for density in (p, q)]
    answer = 2 * (np.log(2) + 0.5 / 4 - 0.5) + 0.5 * 0.01 / 0.04  # over both dimensions
    assert SQUARE.kl(logs[0] + 3, logs[1] - 5) == pytest.approx(answer, rel=1e-3)
    assert SQUARE.kl(logs[0], logs[0]) == pytest.approx(0, abs=1e-12)


def test_samples_of_the_truth_cover_it_and_a_lost_mode_is_told(script):
    density, rng = DENSITIES["eight_gaussians"](), np.random.default_rng(0)
    good = script["measure"](density, density.sample(1000, rng), seed=0)
    assert good["modes"] == good["of_modes"] == 8 and min(good["on_data"], good["covered"]) > 0.95
    half = Density(density.centres[:4], density.std)
    lost = script["measure"](density, half.sample(1000, rng), seed=0)
    assert lost["modes"] == 4 and lost["covered"] < 0.6 and lost["distance"] > 10 * good["distance"]
    middle = script["measure"](density, np.zeros((1000, 2)), seed=0)
    assert middle["modes"] == 0 == middle["on_data"]


def test_every_objective_trains_is_measured_and_drawn(script, tmp_path, capsys):
    files = ["--out", str(tmp_path / "out.json"), "--picture", str(tmp_path / "out.png")]
    sizes = ["--net", "{dim: 16, depth: 1, heads: 2}", "--batch", "16", "--points", "32", "--samples", "20"]
    script["main"](["--densities", "moons", "--rates", "1e-3", "--updates", "2", *sizes, *files])
    result = json.loads((tmp_path / "out.json").read_text())
    rows = {row["objective"]: row for row in result["rows"]}
    assert set(rows) == {*script["OBJECTIVES"], "data"}
    for name, objective in script["OBJECTIVES"].items():
        assert (rows[name]["kl"] is None) == (objective.temperature is None)
        assert rows[name]["distance"] > rows["data"]["distance"]
    assert "torch" in result["versions"] and result["settings"]["seed"] == "0"
    assert "persistent CD, moons" in capsys.readouterr().out
    assert imageio.imread(tmp_path / "out.png").std() > 10

    script["main"](["--objectives", "NCE", "--densities", "moons", "--rates", "1e-3", "--updates", "2", *sizes, *files])
    assert {row["objective"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]} == {"NCE", "data"}


@pytest.mark.parametrize("method", ["ebt_nce", "ebt_cd", "ebt_pcd", "ibc_langevin"])
def test_langevin_dynamics_of_contrastive_methods_begins_at_temperature_one(method):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        model = compose("train", [f"method={method}"]).method.model
    assert model.act.noise[0] ** 2 / (2 * model.step_size) == pytest.approx(1)
    assert model.train_walk.get("noise", model.act.noise)[0] == model.act.noise[0]
    assert model.act.state == "box"
