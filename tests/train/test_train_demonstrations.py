"""What training says of demonstrations before it learns from them."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_runs import SPEC, compose_train, make_store

from ebt_policy.data.episodes import DataError
from ebt_policy.data.store import open_episodes, write_data
from ebt_policy.train.kinds.robot import demonstrations, prepare

UNKNOWN = replace(SPEC, action=replace(SPEC.action, low=-np.inf, high=np.inf))


def prepared(tmp_path, change=lambda data: data, *more, spec=SPEC):
    path = make_store(tmp_path / "a.zarr.zip", spec)
    write_data(path, change(with_quaternions(open_episodes(path))))
    return prepare(compose_train(tmp_path / "run", path, *more))


def with_quaternions(data):
    """Unit ones where configs/task/lift.yaml says that they are."""
    obs = {key: values.copy() for key, values in data.obs.items()}
    for four in (obs["robot0_eef_quat"], obs["object"][:, 3:7]):
        four /= np.linalg.norm(four, axis=1, keepdims=True)
    return replace(data, obs=obs)


def spiked(name):
    def change(data):
        values = (data.action if name == "action" else data.obs[name]).copy()
        values[9, 1] = 1000
        return replace(data, action=values) if name == "action" else replace(data, obs=data.obs | {name: values})

    return change


def test_plain_demonstrations_need_no_word(tmp_path, recwarn):
    prepared(tmp_path)
    assert not [w for w in recwarn if w.category is UserWarning]


def test_an_outlier_among_observations_is_said_and_widens_nothing(tmp_path):
    with pytest.warns(UserWarning, match="object: dimension 1 is 1000 at episode 1, step 3 .*taken without them"):
        policy = prepared(tmp_path, spiked("object")).build()
    assert policy.normalizer.get_submodule("obs/object").half_range.max() < 2


def test_an_outlier_among_labels_is_refused_until_its_range_is_stated(tmp_path):
    with pytest.raises(DataError, match="action: dimension 1 is 1000 at episode 1, step 3 .*Leave the episode out or"):
        prepared(tmp_path, spiked("action"), spec=UNKNOWN)
    prepared(tmp_path, spiked("action"), "task.action={low: -1000, high: 1000}", spec=UNKNOWN)


def test_quaternions_that_lie_elsewhere_than_the_task_says_are_another_layout(tmp_path):
    def rolled(data):
        return replace(data, obs=data.obs | {"object": np.roll(data.obs["object"], 3, axis=1)})

    with pytest.raises(DataError, match=r"quaternions begin at columns \[3\] of object, .*has some at \[6\]: set 't"):
        prepared(tmp_path, rolled)
    prepared(tmp_path, rolled, "task.quaternions={robot0_eef_quat: [0], object: [6]}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.obs=object", "task.obs must be a list of names"),
        ("task.obs=[12]", "task.obs must be a list of names, each once, such as .* got .12."),
        ("task.obs=[]", "task.obs must be a list of names"),
        ("task.quaternions={object: 0}", "task.quaternions must be null or have a list of first columns, four apart"),
        ("task.quaternions={object: [3.0]}", "task.quaternions must"),
        ("task.quaternions={object: [0, 0]}", "task.quaternions must"),
        ("task.quaternions=object", "task.quaternions must"),
        ("task.origin=tool", "task.origin must be null or have key and scale"),
        ("task.origin={key: object, scale: abc}", "task.origin.scale must be"),
        ("task.origin={key: object, scale: 1e30}", "task.origin.scale must be"),
        ("task.action=absolute", "expected action={mode: absolute} or the like, got 'absolute'"),
    ],
)
def test_settings_of_another_kind_are_named(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, lambda data: data, setting)


def test_an_unknown_rate_is_said_while_it_can_still_be_stated(tmp_path):
    spec = replace(SPEC, hz=None)
    with pytest.warns(UserWarning, match="cannot be served: state task.hz=<Hz>"):
        prepared(tmp_path, spec=spec)
    assert prepared(tmp_path, lambda data: data, "task.hz=20", spec=spec).facts["spec"]["hz"] == 20


def test_what_is_stated_goes_with_the_data_wherever_a_run_opens_it(tmp_path):
    path = make_store(tmp_path / "a.zarr.zip", UNKNOWN)
    cfg = compose_train(tmp_path / "run", path, "task.action={mode: absolute, frame: joint}", "task.hz=5")
    for data in (demonstrations(cfg), demonstrations(cfg, str(path))):
        assert (data.spec.action.mode, data.spec.action.frame, data.spec.hz) == ("absolute", "joint", 5.0)


def test_rewards_do_not_make_it_other_data(tmp_path):
    path = make_store(tmp_path / "a.zarr.zip")
    data = open_episodes(path)
    with_rewards = replace(data, log={"rewards": np.ones(len(data.action)), "time": np.zeros(len(data.action))})
    write_data(tmp_path / "b.zarr.zip", with_rewards)
    cfg = compose_train(tmp_path / "run", tmp_path / "b.zarr.zip")
    assert list(demonstrations(cfg).log) == ["time"]
    assert (
        demonstrations(cfg).content_hash == replace(with_rewards, log={"time": with_rewards.log["time"]}).content_hash
    )
