"""Language models from outside: what their config and tokeniser say is checked, and measuring them writes nothing."""

import json
import shutil

import numpy as np
import pytest
import yaml
from small_text import compose_text, write_folder

from ebt_policy.data.text import packed
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.kinds.text import held_out_text, load_language_model
from ebt_policy.train.run import train_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("corpus") / "texts")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run, which no test changes."""
    path = tmp_path_factory.mktemp("runs") / "run"
    train_run(compose_text(path, folder, "experiment=text_transformer", updates=1))
    return path


@pytest.fixture
def foreign(run, tmp_path):
    """A copy of the run with entries of its config changed: name -> value."""

    def put(**changes):
        shutil.copytree(run, tmp_path / "run")
        path = tmp_path / "run" / "config.yaml"
        cfg = yaml.safe_load(path.read_text())
        for name, value in changes.items():
            group, entry = name.split("__")
            cfg[group][entry] = value
        path.write_text(yaml.dump(cfg))
        return tmp_path / "run"

    return put


def test_held_out_text_is_what_training_held_out(run, folder):
    expected = packed(str(folder), None, 280, 0.25, folder.parent / "cache").held_out
    assert np.array_equal(held_out_text(run), expected)


def test_text_that_a_foreign_config_points_at_is_not_copied_anywhere(foreign, tmp_path):
    secret = write_folder(tmp_path / "secret", files=5)
    run = foreign(task__corpus=str(secret), task__cache=str(tmp_path / "shared"))
    with pytest.raises(CheckpointError, match="secret is not what .* was trained on"):
        held_out_text(run)
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("task__vocabulary", "many", "expected task.vocabulary to be a whole number of at least 1, got 'many'"),
        ("task__context", 0, "expected task.context to be a whole number of at least 1, got 0"),
        ("task__corpus", None, "expected task.corpus to be text, got None"),
        ("task__years", "1900", "expected task.years to be two years or null, got '1900'"),
        ("method__start", [1], r"expected method.start to be a number, got \[1\]"),
        ("task__vocabulary", 10**9, "does not fit its config.yaml"),
        ("net__depth", 100_000, "parameters, and its weights are far fewer"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(foreign, entry, value, message):
    run = foreign(**{entry: value})
    with pytest.raises(CheckpointError, match=message):
        load_language_model(run)


def test_a_tokeniser_of_another_run_or_none_is_named(foreign):
    run = foreign()
    path = run / "tokenizer.json"
    said = json.loads(path.read_text())
    merge = said["model"]["merges"].pop()
    del said["model"]["vocab"]["".join(merge)]
    path.write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match="tokenizer.json has 279 tokens, its run 280: take a fresh copy"):
        load_language_model(run)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="tokenizer.json: 'utf-8' codec"):
        load_language_model(run)
    path.unlink()
    with pytest.raises(CheckpointError, match="tokenizer.json, which does not exist: copy it along with the weights"):
        load_language_model(run)
