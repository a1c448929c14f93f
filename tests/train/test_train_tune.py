"""Trials: as many for every method, each trained and rolled out once, and the best of them said."""

import json
import shutil

import pytest
from tiny_runs import TINY, script

from ebt_policy.train.log import read_log


@pytest.fixture
def tune(tmp_path):
    """Starts scripts/tune.py on four trials of a second each."""
    small = ["experiment=equal", "fit.compile=false", "fit.precision=fp32", "fit.updates=2", *TINY]
    listed = ",".join(f"'{setting}'" for setting in small)
    where = [f"folder={tmp_path}", f"out='{tmp_path}/tuning_{{task}}.json'"]
    what = ["tasks=[avoid]", "~methods.diffusion", "~methods.mip", "trials=['fit.lr=1e-3','fit.lr=1e-2']"]
    return lambda *more: script("tune", *what, *where, f"settings=[{listed}]", "episodes=2", "processes=1", *more)


def test_every_method_gets_every_trial_and_none_twice(tune, tmp_path, capsys):
    tune()
    result = json.loads((tmp_path / "tuning_avoid.json").read_text())
    cells = {(row["method"], row["trial"]): row for row in result["trials"]}
    assert len(cells) == len(result["trials"]) == 4
    assert len({row["weights"] for row in cells.values()}) == 4
    row = cells["ebt", "fit.lr=1e-3"]
    assert (row["update"], row["summary"]["episodes"]) == (2, 2) and row["val_error"] > 0
    least = min((cells["flow", trial] for trial in ("fit.lr=1e-3", "fit.lr=1e-2")), key=lambda r: r["val_error"])
    assert result["best"]["flow"] == least["trial"]  # nobody succeeds
    assert read_log(tmp_path / "avoid" / "flow_fit.lr_1e-3" / "train.jsonl")[0]["lr"] > 0
    killed = tmp_path / "avoid" / "ebt_fit.lr_1e-2"  # before it had written anything but its config
    for path in killed.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    capsys.readouterr()
    tune("episodes=0")
    said = capsys.readouterr().out
    assert said.count("train.py") == 1 and f"train.py {killed}" in said
    assert json.loads((tmp_path / "tuning_avoid.json").read_text())["trials"][0]["summary"]["episodes"] == 0


def test_no_trials_are_refused(tune):
    with pytest.raises(SystemExit, match="expected tasks, methods and trials, got .* \\[\\]"):
        tune("trials=[]")
