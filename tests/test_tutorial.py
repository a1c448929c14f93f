"""The tutorial runs, learns, and draws."""

import runpy

import imageio.v3 as imageio
import pytest
from tiny_runs import ROOT


@pytest.fixture(scope="module")
def tutorial():
    return runpy.run_path(str(ROOT / "scripts" / "tutorial.py"))


def test_a_little_training_already_finds_goals_and_more_steps_find_more(tutorial, tmp_path, capsys):
    shares = tutorial["main"](["--updates", "150", "--out", str(tmp_path / "new" / "picture.png")])
    on_goal, between = shares["on a goal"], shares["between them"]
    assert len(on_goal) == 20 and on_goal[19] > on_goal[0] + 0.1 and on_goal[19] > 0.8
    assert between[19] < between[0]
    assert "steps   on a goal   between them" in capsys.readouterr().out
    picture = imageio.imread(tmp_path / "new" / "picture.png")
    assert picture.shape[0] > 300 and picture.std() > 20


def test_help_says_what_it_is_about(tutorial, capsys):
    with pytest.raises(SystemExit):
        tutorial["main"](["--help"])
    assert "two valleys" in capsys.readouterr().out
