"""What a user of the scripts reads: help with comments, one line for an error."""

import runpy
import sys

import pytest
from tiny_runs import ROOT

from ebt_policy.cli import fail_cleanly

SCRIPTS = (
    *("train", "eval", "recover", "monitor", "collect", "results"),
    *("deploy", "record", "serve", "generate", "denoise", "probe"),
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_every_setting_with_its_comment(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
    assert not stopped.value.code
    shown = capsys.readouterr().out
    written = (ROOT / "configs" / f"{script}.yaml").read_text()
    settings = [line for line in written.splitlines() if line.startswith(("run:", "episodes:", "fit:", "  batch:"))]
    assert settings and all(line in shown for line in settings)
    assert "hydra:" not in shown and "defaults:" not in shown


def test_help_shows_the_settings_that_scripts_share(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["eval.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "scripts" / "eval.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "  sampler: null # diffusion: ddpm | ddim" in shown and "run: ??? # folder" in shown


def test_help_shows_the_groups_and_what_they_default_to(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "scripts" / "train.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "method=ebt # one of: diffusion, " in shown and "  learn_step_size: false" in shown
    assert "experiment=null # one of: demo" in shown


def test_an_error_that_the_user_can_mend_is_one_line():
    @fail_cleanly
    def main():
        raise ValueError("expected this, got that: do so")

    with pytest.raises(SystemExit, match="^ValueError: expected this, got that: do so$"):
        main()
