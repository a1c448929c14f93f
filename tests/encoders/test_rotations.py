"""Quaternions become rotation matrices, the rest of an observation is passed on."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from ebt_policy.encoders.rotations import Rotations, two_columns


def test_the_columns_are_those_of_scipys_matrices_and_ignore_the_sign():
    quaternions = Rotation.random(50, random_state=0).as_quat()
    expected = Rotation.from_quat(quaternions).as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(50, 6)
    for sign in (1, -1):
        np.testing.assert_allclose(two_columns(sign * torch.from_numpy(quaternions)), expected, atol=1e-12)


def test_quaternions_are_replaced_in_place_and_other_columns_stay():
    rotations = Rotations({"object": (14,), "pos": (3,)}, {"object": [3, 10]})
    assert rotations.shapes == {"object": (18,), "pos": (3,)}
    x = torch.randn(2, 5, 14)
    out = rotations({"object": x, "pos": x[..., :3], "unused": x})
    assert set(out) == {"object", "pos"} and out["object"].shape == (2, 5, 18)
    assert torch.equal(out["object"][..., :3], x[..., :3]) and torch.equal(out["object"][..., 9:12], x[..., 7:10])
    assert torch.equal(out["object"][..., 12:], two_columns(x[..., 10:]))


def test_columns_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="no quaternions at columns"):
        Rotations({"object": (10,)}, {"object": [7]})
