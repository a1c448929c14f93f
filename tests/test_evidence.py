"""What scripts/evidence.py keeps of runs that are too long to be repeated by it."""

import runpy

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tiny_runs import ROOT

from ebt_policy.rollout.evidence import Found, foretold

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "evidence.py"))


def monitored():
    """Eight episodes of 2 to 9 chunks, every other one fails."""
    episodes = [
        {
            "seed": i,
            "success": i % 2 == 0,
            "length": 8 * (2 + i),
            "energies": [[1.0]] * (2 + i),
            "signals": [
                {"elapsed": 8.0 * c, "energy": float((3 * i + c) % 7), "spread": float(i % 3), "overlap": 0.5}
                for c in range(2 + i)
            ],
        }
        for i in range(8)
    ]
    return {"summary": {}, "timing": {}, "episodes": episodes, "signals": {}}


def test_a_kept_monitor_answers_the_claim_as_the_whole_one_does():
    kept = SCRIPT["_slim"](monitored(), {"elapsed", "energy", "spread"})
    assert all(len(e["signals"]) == 2 and "energies" not in e for e in kept["episodes"]) and "timing" not in kept
    assert set(kept["episodes"][0]["signals"][0]) == {"elapsed", "energy", "spread"}
    claim = {"run": "ebt_{task}", "task": "square", "one": "energy", "other": "spread"}
    assert foretold(Found(monitors={"ebt_square": kept}), claim) == foretold(
        Found(monitors={"ebt_square": monitored()}), claim
    )


def test_the_signals_that_are_kept_are_those_that_claims_compare():
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("evidence"), resolve=True)
    assert SCRIPT["compared_signals"](cfg, "ebt_square") == {"elapsed", "energy", "spread"}
    assert SCRIPT["compared_signals"](cfg, "diffusion_square") == {"elapsed"}
