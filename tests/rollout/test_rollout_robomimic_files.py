"""Checkpoints of robomimic that are damaged, no such thing, or ask for too much: one message, and nothing is run."""

import copy
import io
import json
import random
import zipfile
from collections import OrderedDict

import pytest
import torch

from ebt_policy.rollout.robomimic_agent import RobomimicAgent, read_checkpoint


@pytest.fixture(scope="module")
def stored():
    """What robomimic writes of a small policy that was not trained."""
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.algo import algo_factory
    from robomimic.config import config_factory

    config = config_factory("bc")
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = ["tool"]
        config.algo.actor_layer_dims = (8,)
    obs_utils.initialize_obs_utils_with_config(config)
    shapes = OrderedDict(tool=[2])
    model = algo_factory("bc", config, obs_key_shapes=shapes, ac_dim=2, device=torch.device("cpu"))
    return {
        "model": model.serialize(),
        "config": config.dump(),
        "algo_name": "bc",
        "env_metadata": {"env_name": "Avoid-v0", "type": 2, "env_kwargs": {}},
        "shape_metadata": {"ac_dim": 2, "all_shapes": shapes, "all_obs_keys": ["tool"], "use_images": False},
    }


@pytest.fixture
def path(stored, tmp_path):
    """A file of it."""
    torch.save(stored, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def test_a_whole_checkpoint_is_built(path):
    agent = RobomimicAgent(path)
    assert agent.dim == 2 and agent.obs == {"tool": (2,)}
    assert agent.act({"tool": [0.1, 0.2]}).shape == (2,)


def setting(name, value):
    def change(stored):
        config = json.loads(stored["config"])
        config["algo"][name] = value
        stored["config"] = json.dumps(config)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(config="{"), "no whole checkpoint of robomimic"),
        (lambda s: s.update(config="[" * 100_000), "no whole checkpoint of robomimic"),
        (lambda s: s.update(config="[]"), "no whole checkpoint of robomimic"),
        (lambda s: s.update(config=7), "expected a checkpoint of robomimic with .*config .str."),
        (lambda s: s.pop("model"), "expected a checkpoint of robomimic with model .dict."),
        (lambda s: s.update(model=[1]), "expected a checkpoint of robomimic with model .dict."),
        (lambda s: s.update(model={}), "cannot build the policy of .*Missing key"),
        (lambda s: s.update(algo_name="nothing"), "cannot build the policy of"),
        (lambda s: s["shape_metadata"].pop("ac_dim"), "no whole checkpoint of robomimic"),
        (lambda s: s["shape_metadata"].update(all_shapes=[1]), "no whole checkpoint of robomimic"),
        (lambda s: s["shape_metadata"].update(ac_dim="two"), "no whole checkpoint of robomimic"),
        (lambda s: s["shape_metadata"].update(ac_dim=-1), "cannot build the policy of"),
        (lambda s: s["shape_metadata"].update(ac_dim=10**9), "cannot build the policy of .*size mismatch"),
        (lambda s: s["shape_metadata"].update(ac_dim=10**15), "cannot build the policy of"),
        (setting("actor_layer_dims", [10**9]), "cannot build the policy of .*size mismatch"),
        (setting("actor_layer_dims", "wide"), "cannot build the policy of"),
    ],
)
def test_content_that_is_none_of_robomimics_is_named(stored, tmp_path, change, message):
    changed = copy.deepcopy(stored)
    change(changed)
    torch.save(changed, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=message) as error:
        RobomimicAgent(tmp_path / "model.pth")
    assert "\n" not in str(error.value)


def test_a_flipped_bit_of_the_weights_is_noticed(path):
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    place = whole.index(archive_data(path, entry.filename), entry.header_offset)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(ValueError, match="it is damaged in .*data/0, take a fresh copy"):
        read_checkpoint(path)


def archive_data(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def test_an_archive_that_unfolds_is_refused(path):
    folded = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(folded, "w", zipfile.ZIP_DEFLATED) as other:
        for entry in archive.infolist():
            other.writestr(entry.filename, archive.read(entry))
    path.write_bytes(folded.getvalue())
    with pytest.raises(ValueError, match="it is compressed, which torch does not do"):
        read_checkpoint(path)


@pytest.mark.parametrize("new", [True, False])
def test_whatever_is_spoilt_in_a_checkpoint_is_read_or_named(tmp_path, new):
    small = {"model": OrderedDict(a=torch.ones(4)), "config": "{}", "algo_name": "bc", "env_metadata": {}}
    path, rng, named = tmp_path / "model.pth", random.Random(0), 0
    torch.save(small | {"shape_metadata": {}}, path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    for _ in range(200):
        spoilt = bytearray(whole)
        for _ in range(rng.choice([1, 3])):
            spoilt[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt[: rng.choice([len(whole), rng.randrange(len(whole))])])
        try:
            read_checkpoint(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            named += 1
    assert named > 100
