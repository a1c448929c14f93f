"""The normaliser: to [-1, 1] and back, quiet where the data hardly moved, part of the weights."""

import numpy as np
import pytest
import torch

from ebt_policy.data.episodes import Episode, from_episodes
from ebt_policy.data.normalizer import Normalizer
from ebt_policy.data.spec import ActionSpec, Spec


def fitted(data):
    return Normalizer(data.spec).fit(
        {k: torch.from_numpy(v) for k, v in data.obs.items()}, torch.from_numpy(data.action)
    )


def one_episode(obs, action):
    spec = Spec({k: v.shape[1:] for k, v in obs.items()}, ActionSpec(action.shape[1], low=-1e6, high=1e6))
    return from_episodes(spec, [Episode(obs, action)])


def test_the_data_fill_minus_one_to_one_in_every_dimension(data):
    normalizer = fitted(data)
    obs = normalizer.obs({k: torch.from_numpy(v) for k, v in data.obs.items()})
    for values in (*obs.values(), normalizer.action(torch.from_numpy(data.action))):
        torch.testing.assert_close(values.amin(0), torch.full(values.shape[1:], -1.0))
        torch.testing.assert_close(values.amax(0), torch.full(values.shape[1:], 1.0))


def test_unaction_inverts_action(data):
    normalizer = fitted(data)
    action = torch.randn(8, 16, 7) * 3  # also outside of the data
    torch.testing.assert_close(normalizer.unaction(normalizer.action(action)), action)


def test_a_known_range_is_mapped_as_by_hand():
    values = np.array([[0.0, 100.0], [1.0, 300.0], [2.0, 500.0]])
    normalizer = fitted(one_episode({"x": values}, values))
    wide = torch.tensor([4.0, 400.0])
    torch.testing.assert_close(normalizer.obs({"x": wide})["x"], torch.tensor([3.0, 0.5]))
    torch.testing.assert_close(normalizer.unaction(torch.tensor([0.0, 1.0])), torch.tensor([1.0, 500.0]))


def test_noise_in_a_constant_dimension_is_not_blown_up():
    rng = np.random.default_rng(0)
    noise = 0.8 + 1e-5 * rng.normal(size=50)  # the height of a cube at rest: 10 micrometres of noise
    values = np.stack([rng.uniform(-0.1, 0.1, 50), noise, np.full(50, 3.0)], 1)
    normalizer = fitted(one_episode({"x": values}, values))
    got = normalizer.obs({"x": torch.from_numpy(values).float()})["x"]
    assert got[:, 0].abs().max() > 0.99
    assert got[:, 1].abs().max() < 0.01
    assert got[:, 2].abs().max() == 0
    assert normalizer.obs({"x": torch.tensor([0.0, 0.8, 3.005])})["x"][2].item() == pytest.approx(1.0, abs=1e-3)


def test_a_gripper_of_850_leaves_the_metres_beside_it_their_range():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.uniform(-0.1, 0.1, (50, 3)), rng.choice([0.0, 850.0], 50)])
    normalizer = fitted(one_episode({"x": values}, values))
    for got in (normalizer.obs({"x": torch.from_numpy(values)})["x"], normalizer.action(torch.from_numpy(values))):
        torch.testing.assert_close(got.amax(0), torch.ones(4, dtype=got.dtype))
        torch.testing.assert_close(got.amin(0), -torch.ones(4, dtype=got.dtype))


def test_the_floor_grows_with_the_numbers_of_the_dimension_itself():
    values = np.stack([400 + np.linspace(0, 0.02, 9), np.linspace(0, 0.02, 9)], 1)  # mm: 0.02 of 400 is noise
    limits = fitted(one_episode({"x": values}, values)).get_submodule("obs/x")
    torch.testing.assert_close(limits.half_range, torch.tensor([0.20001, 0.01]))


def test_one_spike_does_not_blind_a_dimension():
    values = np.random.default_rng(0).uniform(-0.1, 0.1, (400, 2))
    values[17, 0] = 1000
    normalizer = fitted(one_episode({"x": values}, np.clip(values, -1, 1)))
    got = normalizer.obs({"x": torch.from_numpy(values)})["x"]
    assert got[:, 0].abs().sort().values[-2] > 0.95 and got[17, 0] > 1000


def test_a_switch_that_is_thrown_once_keeps_its_range():
    values = np.zeros((400, 1))
    values[17] = 1
    limits = fitted(one_episode({"x": values}, values)).get_submodule("obs/x")
    assert limits.center.item() == limits.half_range.item() == 0.5


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64, np.float64])
def test_what_is_no_image_has_the_range_of_its_numbers_whatever_its_type(dtype):
    values = np.eye(3)[np.arange(30) % 3].astype(dtype)  # one of three tasks
    normalizer = fitted(data := one_episode({"task": values}, np.ones((30, 2))))
    got = normalizer.obs({"task": torch.from_numpy(data.obs["task"])})["task"]
    assert sorted(set(got.ravel().tolist())) == [-1.0, 1.0]


@pytest.mark.parametrize("unit", [1e-4, 1.0, 850.0])
def test_actions_of_unknown_range_fill_minus_one_to_one_in_any_unit(unit):
    action = unit * np.random.default_rng(0).uniform(-1, 1, (50, 2))
    spec = Spec({}, ActionSpec(2, low=-np.inf, high=np.inf))
    normalised = Normalizer(spec).fit({}, torch.from_numpy(action)).action(torch.from_numpy(action))
    torch.testing.assert_close(normalised.abs().amax(0), torch.ones(2, dtype=normalised.dtype))


def test_keys_that_would_share_a_range_are_refused():
    with pytest.raises(ValueError, match="differ in more than a dot"):
        Normalizer(Spec({"a.b": (1,), "a_b": (1,)}, ActionSpec(1)))


def test_an_image_has_one_range():
    image = np.random.default_rng(0).integers(10, 200, (5, 4, 4, 3)).astype(np.uint8)
    normalizer = fitted(one_episode({"img": image}, np.ones((5, 2))))
    got = normalizer.obs({"img": torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 4, 4, 3)})[
        "img"
    ]
    assert got[0].eq(-1).all() and got[1].eq(1).all()


def test_an_unfitted_one_is_the_identity_and_takes_the_weights_of_a_fitted_one(data):
    full, empty = fitted(data), Normalizer(data.spec)
    action = torch.randn(3, 7)
    assert torch.equal(empty.action(action), action)
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.action(action), full.action(action))
    assert not list(full.parameters())


def test_keys_that_the_spec_lacks_are_dropped_and_missing_ones_named(data):
    normalizer = fitted(data)
    obs = {k: torch.from_numpy(v) for k, v in data.obs.items()}
    assert "extra" not in normalizer.obs(obs | {"extra": torch.zeros(1)})
    with pytest.raises(KeyError, match="'object'.* are missing"):
        normalizer.obs({k: v for k, v in obs.items() if k != "object"})
