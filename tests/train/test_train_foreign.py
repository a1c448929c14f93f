"""A config.yaml from outside: it runs nothing, reads nothing, asks for no more than its weights, errs in one line."""

import random
import resource
import shutil
import sys

import pytest
import yaml
from omegaconf import OmegaConf
from tiny_runs import ROOT

from ebt_policy.train.build import check_targets, environment, load_config, load_policy, make
from ebt_policy.train.checkpoint import CheckpointError
from ebt_policy.train.config_file import LONGEST, read_config

COMMITTED = sorted(ROOT.glob("assets/checkpoints/*/config.yaml"))
FUZZED = ["ebt_avoid_equal", "diffusion_unet_push_t_equal", "ibc_square_equal", "ebt_can"]


@pytest.fixture
def foreign(run, tmp_path):
    """Puts a config beside the weights of a finished run: a changed copy of its own, or text; returns the folder."""

    def put(changes=None, text=None):
        folder = tmp_path / "foreign"
        folder.mkdir(exist_ok=True)
        shutil.copy(run / "weights.safetensors", folder)
        cfg = yaml.safe_load((run / "config.yaml").read_text())
        for name, value in (changes or {}).items():
            *parents, last = name.split(".")
            node = cfg
            for parent in parents:
                node = node[parent]
            if value is None:
                del node[last]
            else:
                node[last] = value
        (folder / "config.yaml").write_text(yaml.dump(cfg) if text is None else text.format(own=yaml.dump(cfg)))
        return folder

    return put


def complaint(folder):
    with pytest.raises((CheckpointError, ValueError)) as error:
        load_policy(folder)
    said = str(error.value)
    assert "\n" not in said
    return said


# text


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_configs_are_read_as_they_were(path):
    assert read_config(path) == OmegaConf.to_container(OmegaConf.load(path)) and "${" not in path.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{own}more: '${{oc.env:HOME}}'\n", "more refers to another value"),
        ('{own}more: "\\x24{{oc.env:HOME}}"\n', "more refers to another value"),
        ("{own}'${{oc.env:HOME}}': 1\n", "refers to another value"),
        ("{own}more: ???\n", "more refers to another value, '.{3}'"),
        ("{own}more: !!python/object/apply:os.system ['touch owned']\n", "tag:yaml.org,2002:python/object/apply"),
        ("{own}more: !!binary QUJD\n", "a value of type tag:yaml.org,2002:binary"),
        ("{own}more: &a [1]\nagain: *a\n", "got an alias"),
        ("{own}more: {{<<: {{a: 1}}}}\n", "a name of type tag:yaml.org,2002:merge"),
        ("{own}more: {{1: 2}}\n", "a name of type tag:yaml.org,2002:int"),
        ("{own}more: {{[1]: 2}}\n", "a name of type tag:yaml.org,2002:seq"),
        ("{own}run: again\n", "a name twice in one mapping"),
        ("{own}more: .nan\n", "more is no number"),
        ("{own}more: 99999999999999999999\n", "more is a number of more than 64 bits"),
        ("{own}more: " + "9" * 5000 + "\n", "4300 digits"),
        ("{own}more: 0x" + "f" * 5000 + "\n", "more is a number of more than 64 bits"),
        ("{own}more: " + "[" * 40 + "]" * 40 + "\n", "more than 32 levels"),
        ("{own}more: " + "[" * 20_000 + "\n", "more than 32 levels"),
        ("{own}more: \x00\n", "unacceptable character"),
        ("{own}\tmore: 1\n", "cannot start any token"),
        ("{own}---\n{own}", "expected a single document"),
        ("{own}# " + LONGEST * "x", f"longer than {LONGEST} bytes"),
    ],
)
def test_what_is_more_than_plain_data_is_refused(foreign, text, message):
    folder = foreign(text=text)
    with pytest.raises(CheckpointError, match=f"config.yaml is not plain YAML: take a fresh copy. .*{message}"):
        load_config(folder)


def test_a_bomb_of_aliases_is_refused_at_once(foreign):
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
    assert len(bomb) < 1000
    with pytest.raises(CheckpointError, match="got an alias"):
        load_config(foreign(text="{own}" + bomb))


def test_bytes_that_are_no_utf_8_are_refused(foreign):
    folder = foreign()
    (folder / "config.yaml").write_bytes("task: {name: é}\n".encode("utf-16"))
    with pytest.raises(CheckpointError, match="config.yaml is not plain YAML: .*'utf-8' codec"):
        load_config(folder)


def test_a_folder_in_place_of_the_config_is_no_config(tmp_path):
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(CheckpointError, match="expected .*config.yaml, which does not exist"):
        load_config(tmp_path)


def test_dates_are_text_and_numbers_may_have_exponents(foreign):
    cfg = load_config(foreign(text="{own}more: {{day: 2020-01-01, rate: 1e-3, far: -.inf, word: 'no'}}\n"))
    assert cfg.more == {"day": "2020-01-01", "rate": 1e-3, "far": -float("inf"), "word": "no"}


# entries


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("task", [1], "expected task to be a mapping, got [1]"),
        ("fit", "none", "expected fit to be a mapping, got 'none'"),
        ("net.dim", "text", "expected net.dim to be a whole number of at least 1, got 'text'"),
        ("net.dim", True, "expected net.dim to be a whole number of at least 1, got True"),
        ("net.heads", 0, "expected net.heads to be a whole number of at least 1, got 0"),
        ("net.depth", None, "expected net.depth to be a whole number of at least 1, got None"),
        ("horizon.observe", -1, "expected horizon.observe to be a whole number of at least 1, got -1"),
        ("horizon.predict", 2.5, "expected horizon.predict to be a whole number of at least 1, got 2.5"),
        ("spec.action", None, "expected spec.action to be a mapping, got None"),
        ("spec.obs", {"object": "wide"}, "expected spec.obs to be a mapping of names to shapes"),
        ("data.hash", 7, "expected data.hash to be text, got 7"),
        ("history", "foo", "expected history to be a list of {until: update, fit: {...}}, got 'foo'"),
        ("history", [{"until": 5}], "expected history to be a list of"),
        ("history", [{"until": 5, "fit": 3}], "expected history to be a list of"),
        ("task.robot", [1], "expected task.robot to be a mapping or null, got [1]"),
        ("method.model", None, "expected method.model to be a mapping, got None"),
        ("task.obs", "object", "expected task.obs to be a list of names, got 'object'"),
        ("task.data", 5, "expected task.data to be text, got 5"),
        ("task.kind", 5, "expected task.kind to be text or null, got 5"),
        ("horizon.execute", 9, "describes no model that can be built: cannot execute 9 of 4 predicted steps"),
        ("net.heads", 3, "describes no model that can be built: dim must be a multiple of heads"),
        ("spec.more", 1, "describes no model that can be built: Spec.__init__() got an unexpected keyword"),
        ("task.quaternions", {"object": ["x"]}, "expected task.quaternions to be a mapping of names to columns, four"),
        ("task.quaternions", {"object": [3, 3]}, "expected task.quaternions to be a mapping of names to columns, four"),
        ("task.quaternions", {"object": [90]}, "describes no model that can be built: no quaternions at columns"),
        ("method.model.act.steps", "two", "DescentConfig|ActConfig: expected steps to be int, got 'two'"),
        ("method.model.act.steps", 0, "ActConfig: steps must be at least 1"),
        ("method.model.act.noise", [1.0], "ActConfig: expected noise to be tuple[float, float], got [1.0]"),
        ("method.model.act.speed", 1, "ActConfig: ActConfig.__init__() got an unexpected keyword argument 'speed'"),
        ("method.model.act", 5, "EBT.on_trunk: expected act to be ActConfig, got 5"),
        ("method.model", {"_target_": "ebt_policy.core.ActConfig"}, "ActConfig.__init__() got an unexpected"),
        ("method.model", {"steps": 2}, "expected the _target_ of a whole object and its settings"),
        ("task.encoder._partial_", True, "expected the _target_ of a whole object and its settings"),
    ],
)
def test_an_entry_that_is_missing_or_something_else_is_named(foreign, name, value, message):
    said = complaint(foreign({name: value}))
    assert any(part in said for part in message.split("|")), said


def test_a_null_entry_is_named(foreign):
    folder = foreign(text="{own}")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("spec:\n", "spec: null\nrest:\n"))
    with pytest.raises(CheckpointError, match="expected spec to be a mapping, got None"):
        load_config(folder)


# sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net.depth": 100_000}, "parameters, and its weights are far fewer"),
        ({"task.encoder.layers": 100_000}, "parameters, and its weights are far fewer"),
        ({"net.dim": 65_536, "net.heads": 1}, "does not fit its config.yaml"),
        ({"spec.obs.object": [1 << 40, 1 << 40]}, "describes no model that can be built"),
        ({"spec.action.dim": 1 << 40}, "does not fit its config.yaml|describes no model that can be built"),
        ({"net.depth": 10**9}, "net.depth is 1000000000, expected at most 100000"),
        ({"task.encoder.layers": 10**12}, "task.encoder.layers is 1000000000000, expected at most 100000"),
    ],
)
def test_a_net_that_its_weights_are_not_of_costs_no_memory(foreign, changes, message):
    folder = foreign(changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = complaint(folder)
    assert any(part in said for part in message.split("|")), said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


# names


@pytest.mark.parametrize(
    "env", ["os:Lift-v0", "evil.module:Lift-v0", "envs.lift:Lift-v0", "envs:a:b", "envs:Lift-v0\n", ":Lift-v0", "", "é"]
)
def test_an_environment_that_is_not_of_this_package_has_to_be_named_by_the_user(env):
    with pytest.raises(CheckpointError, match="which this package does not have: if you trust it, name it yourself"):
        environment(OmegaConf.create({"task": {"env": env}}))


def test_an_environment_of_this_package_is_taken_and_one_without_a_module(foreign):
    assert environment(OmegaConf.create({"task": {"env": "ToyArm-v0"}})) == "ToyArm-v0"
    assert environment(OmegaConf.create({"task": {"env": "envs:PushT-v0"}})) == "envs:PushT-v0"
    assert environment(load_config(COMMITTED[0].parent)).startswith("envs:")
    with pytest.raises(CheckpointError, match="names no environment: name one yourself"):
        environment(OmegaConf.create({"task": {"env": None}}))
    with pytest.raises(CheckpointError, match="names the environment x:Y, which .* name it yourself with env=x:Y"):
        environment(load_config(foreign({"task.env": "x:Y"})))


def test_a_module_that_a_config_names_is_not_imported(foreign, tmp_path, monkeypatch):
    (tmp_path / "sly.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = load_config(foreign({"task.env": "sly:Lift-v0"}))
    with pytest.raises(CheckpointError, match="names the environment sly:Lift-v0"):
        environment(cfg)
    assert "sly" not in sys.modules
    assert "'sly.Thing' is not allowed" in complaint(foreign({"task.encoder._target_": "sly.Thing"}))


INDIRECT = [
    "ebt_policy.core.EBT.__subclasses__",
    "ebt_policy.core.EBT.__init__",
    "ebt_policy.core.EBT.mro",
    "ebt_policy.core.EBT.forward",
    "ebt_policy.core.EBT._bind",
    "ebt_policy.core.EBT.register_buffer",
    "ebt_policy.core.EBT.on_trunk.__func__",
    "ebt_policy.core.EBT.on_trunk.__self__",
    "ebt_policy.core.EBT.dump_patches",
    "ebt_policy.core.ebt.Tensor",
    "ebt_policy.core.ebt.dataclass",
    "ebt_policy.core..EBT",
    "ebt_policy.core.EBT.",
    ".ebt_policy.core.EBT",
]


@pytest.mark.parametrize("target", INDIRECT)
def test_what_hangs_on_a_class_is_no_class(target):
    for node in ({"_target_": target}, {"_target_": "ebt_policy.core.EBT.on_trunk", "head": {"_target_": target}}):
        with pytest.raises(ValueError, match="is not allowed: expected a class of ebt_policy.core"):
            check_targets(OmegaConf.create({"method": {"model": node}}))
        with pytest.raises(ValueError, match="is not allowed: expected a class of ebt_policy.core"):
            make(OmegaConf.create(node))


@pytest.mark.parametrize(
    ("name", "value"),
    [("_args_", [1]), ("_recursive_", False), ("_convert_", "none"), ("_partial_", "os.system"), ("_partial_", 1)],
)
def test_a_config_does_not_say_how_to_call(name, value):
    with pytest.raises(ValueError, match=f"{name}.* is not allowed"):
        make(OmegaConf.create({"_target_": "ebt_policy.core.ActConfig", name: value}))


def test_constructors_and_partial_classes_are_made():
    assert make(OmegaConf.create({"_target_": "ebt_policy.core.ActConfig", "steps": 3})).steps == 3
    settings = {"noise": [0.1, 0.0], "energy_temp": None, "step_jitter": 2}
    walk = make(OmegaConf.create({"_target_": "ebt_policy.core.DescentConfig"} | settings))
    assert walk.noise == [0.1, 0.0] and walk.energy_temp is None and walk.step_jitter == 2
    with pytest.raises(ValueError, match="ActConfig: expected steps to be int, got True"):
        make(OmegaConf.create({"_target_": "ebt_policy.core.ActConfig", "steps": True}))


# chance

VALUES = [None, True, 0, -1, 3, 10**5, 10**18, 10**30, 0.5, float("nan"), float("inf"), "", "text", "${oc.env:HOME}"]
VALUES += [[], [1, 2], {}, {"a": 1}, [[[[]]]], "a" * 3000, list(range(500)), "\x1b[31m", "2020-01-01", "漢"]
VALUES += [{"_target_": f"ebt_policy.core.{name}"} for name in ("Scalar", "ActConfig", "ebt.torch.load")]
SCRAPS = ["!!python/name:os.system", "&a [*a]", "<<: {a: 1}", "\t", "\0", "? [a]", "{", "'", "\ufeff", "---\n", "*x"]


def places(node):
    """Every (container, key) of a config."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield node, key
        yield from places(value)


def mutated(text, rng):
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice([rng.choice(SCRAPS), "", chr(rng.randrange(1, 300))]) + text[at + 1 :]
    cfg = yaml.safe_load(text)
    for _ in range(rng.choice([1, 1, 2])):
        node, key = rng.choice(list(places(cfg)))
        if rng.random() < 0.3:
            del node[key]
        elif isinstance(node, dict) and rng.random() < 0.2:
            node[rng.choice(["_args_", "_partial_", "_target_", "steps", "kind"])] = rng.choice(VALUES)
        else:
            node[key] = rng.choice(VALUES)
    return yaml.dump(cfg, allow_unicode=True)


@pytest.mark.parametrize("name", FUZZED)
def test_whatever_is_changed_in_a_config_it_loads_or_errs_in_one_line(tmp_path, name):
    committed, rng = ROOT / "assets" / "checkpoints" / name, random.Random(0)
    text = (committed / "config.yaml").read_text()
    (tmp_path / "weights.safetensors").symlink_to(committed / "weights.safetensors")
    refused = 0
    for _ in range(100):
        (tmp_path / "config.yaml").write_text(mutated(text, rng))
        try:
            load_policy(tmp_path)
        except (CheckpointError, ValueError) as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30
