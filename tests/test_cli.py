"""What a user of the scripts reads: help with comments, one line for an error."""

import warnings

import pytest
from tiny_runs import ROOT, script

from ebt_policy.cli import fail_cleanly

SCRIPTS = (
    *("train", "eval", "recover", "monitor", "collect", "results"),
    *("deploy", "record", "serve", "generate", "denoise", "probe"),
)


@pytest.fixture
def help_of(capsys):
    """help_of(name) -> what scripts/<name>.py --help shows."""

    def shown(name):
        with pytest.raises(SystemExit) as stopped:
            script(name, "--help")
        assert not stopped.value.code
        return capsys.readouterr().out

    return shown


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_shows_every_setting_with_its_comment(name, help_of):
    shown = help_of(name)
    written = (ROOT / "configs" / f"{name}.yaml").read_text()
    settings = [line for line in written.splitlines() if line.startswith(("run:", "episodes:", "fit:", "  batch:"))]
    assert settings and all(line in shown for line in settings)
    assert "hydra:" not in shown and "defaults:" not in shown


def test_help_shows_the_settings_that_scripts_share(help_of):
    shown = help_of("eval")
    assert "  sampler: null # diffusion: ddpm | ddim" in shown and "run: ??? # folder" in shown


def test_help_shows_the_groups_and_what_they_default_to(help_of):
    shown = help_of("train")
    assert "method=ebt # one of: diffusion, " in shown and "  learn_step_size: false" in shown
    assert "experiment=null # one of: demo" in shown


def test_ctrl_c_is_one_line(capsys):
    @fail_cleanly
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130 and capsys.readouterr().err == "stopped\n"


def test_a_warning_is_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    fail_cleanly(lambda: None)()
    assert (
        warnings.formatwarning(UserWarning("look at this"), UserWarning, "file.py", 7) == "UserWarning: look at this\n"
    )


def test_an_error_that_the_user_can_mend_is_one_line():
    @fail_cleanly
    def main():
        raise ValueError("expected this, got that: do so")

    with pytest.raises(SystemExit, match="^ValueError: expected this, got that: do so$"):
        main()
