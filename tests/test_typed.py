"""Names on a command line reach the script as they were typed."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from tiny_runs import ROOT

from ebt_policy.typed import as_typed

NAMES = [
    *("20240101", "2024_01", "007", "1e5", "true", "a(1)", "a=b", "~x", "a,b", "[a]", "{a: b}", "runs/übung", "日本"),
    *("a b", "it's", 'say "x"', "C:\\x\\", "a#b;c", "a[1]", "100%", "\\'", "-", "😀", "a|b"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["run", "out", "task.data", "+task.filter_key"])
def test_a_name_is_the_text_that_was_typed(name, key):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", as_typed([f"{'+' * (key == 'out')}{key}={name}"]))
    found = cfg
    for part in key.lstrip("+").split("."):
        found = found[part]
    assert found == name


def test_what_hydra_reads_as_it_was_meant_stays():
    words = ["run=runs/a", "out=null", "run='my run'", "fit.lr=1e-3", "task=lift", "~wandb", "task.obs=[a,b]", "--help"]
    assert as_typed(words) == words


def test_the_home_folder_is_where_it_is():
    assert as_typed(["run=~/x"]) == [f"run={Path.home()}/x"]


def test_names_in_a_list_are_to_be_quoted_one_by_one():
    with pytest.raises(ValueError, match=r"as in \"task.obs=\['gölem','q'\]\""):
        as_typed(["task.obs=[gölem,q]"])


def test_what_hydra_cannot_read_is_said_with_what_to_type():
    with pytest.raises(
        ValueError, match=r"horizon=a\(1\) cannot be read .*quote what is not plain, as in \"horizon='a\(1\)'\""
    ):
        as_typed(["horizon=a(1)"])
