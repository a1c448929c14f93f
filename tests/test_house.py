"""The rules of the house: sizes, words that do not belong in a library, and who may import whom."""

import ast
import re
from pathlib import Path

import pytest
from tiny_runs import ROOT

PACKAGES = sorted([*ROOT.glob("ebt_policy/**/*.py"), *ROOT.glob("envs/**/*.py")])
SOURCES = PACKAGES + sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("tests/**/*.py")])
THIRD_PARTY = {  # top-level module -> where it may be imported
    "torch": r"ebt_policy/(?!data/(?!normalizer|windows)|deploy/(?!planner))",
    "hydra": r"ebt_policy/(train/(build|run|evaluate|parts)|typed)\.py",
    "omegaconf": r"ebt_policy/train/(build|run|evaluate)\.py",
    "accelerate": r"ebt_policy/train/",
    "safetensors": r"ebt_policy/train/checkpoint\.py",
    "diffusers": r"ebt_policy/baselines/",
    "zarr": r"ebt_policy/data/",
    "h5py": r"ebt_policy/data/",
    "tokenizers": r"ebt_policy/data/",
    "skimage": r"ebt_policy/rollout/",
    "gymnasium": r"ebt_policy/(rollout|train/evaluate)|envs/",
    "matplotlib": r"ebt_policy/rollout/",
    "statsmodels": r"ebt_policy/rollout/",
    "imageio": r"ebt_policy/rollout/",
    "imageio_ffmpeg": r"ebt_policy/deploy/sensors/",
    "pygame": r"ebt_policy/deploy/devices/",
    "pyspacemouse": r"ebt_policy/deploy/devices/",
    "easyhid": r"ebt_policy/deploy/devices/",
    "robosuite": r"envs/",
    "mujoco": r"envs/",
    "robomimic": r"ebt_policy/rollout/robomimic_agent",
}
LAYERS = {  # part of ebt_policy -> the parts it may import, besides itself
    "core": (),
    "baselines": ("core",),
    "encoders": ("core",),
    "data": (),
    "tasks": ("core", "encoders", "data"),
    "rollout": ("tasks",),
    "train": ("core", "encoders", "data", "tasks", "rollout"),
    "deploy": ("core", "data", "tasks"),
    "bounds": (),
    "cli": ("typed",),
    "typed": (),
}


def tree(path):
    return ast.parse(path.read_text())


def imports(path):
    """Dotted names of all that a file imports, wherever in the file, but for types alone."""
    module = tree(path)
    checks = [n for n in ast.walk(module) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    for_types = {inner for check in checks for inner in ast.walk(check)}
    for node in ast.walk(module):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: absolute imports only"
            yield from (f"{node.module}.{n.name}" for n in node.names) if node.module == "ebt_policy" else [node.module]


def where(path, node=None):
    return f"{path.relative_to(ROOT)}" + (f":{node.lineno}" if node else "")


def names(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=names)
def test_files_have_at_most_400_lines_and_functions_60(path):
    assert len(path.read_text().splitlines()) <= 400
    functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [where(path, n) for n in functions if n.end_lineno - n.lineno + 1 > 60] == []


def offences(node):
    """What a library does not do: it neither prints nor executes text, hides no state and swallows no error."""
    match node:
        case ast.Call(func=ast.Name(id="print" | "eval" | "exec" | "breakpoint" as name)):
            return f"{name}()"
        case ast.Global():
            return "global"
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            return "import *"
        case ast.ExceptHandler(type=None):
            return "bare except"
        case ast.ImportFrom(module="pickle", names=[ast.alias(name="UnpicklingError")]):
            return None  # what reading another's file may raise
        case ast.Call(func=ast.Attribute(attr="load")) if "weights_only=True" in ast.unparse(node):
            return None  # makes tensors and plain containers, and calls nothing
        case ast.Import() | ast.ImportFrom() if "pickle" in ast.unparse(node) or "dill" in ast.unparse(node):
            return "pickle"
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" | "manual_seed" as name)):
            return f"torch.{name}"
        case ast.Call(func=ast.Attribute(attr="register_new_resolver")):
            return "a resolver"
    return None


SEEDED = {  # they own the random numbers, or run what draws from nothing else
    "ebt_policy/train/fit.py",
    "ebt_policy/train/run.py",
    "ebt_policy/bench.py",
    "ebt_policy/rollout/robomimic_agent.py",
}


@pytest.mark.parametrize("path", PACKAGES, ids=names)
def test_packages_print_nothing_hide_nothing_and_execute_no_text(path):
    found = [(where(path, n), said) for n in ast.walk(tree(path)) if (said := offences(n))]
    assert [f for f in found if not (f[1] == "torch.manual_seed" and names(path) in SEEDED)] == []


@pytest.mark.parametrize("path", PACKAGES, ids=names)
def test_only_the_core_takes_gradients_of_energies(path):
    text = path.read_text()
    taken = re.findall(r"autograd\.grad\(|func\.grad\(|create_graph=True", text)
    assert not taken or names(path).startswith("ebt_policy/core/")


@pytest.mark.parametrize("path", PACKAGES, ids=names)
def test_libraries_are_imported_only_where_they_belong(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert {m for m in used if m in THIRD_PARTY and not re.match(THIRD_PARTY[m], names(path))} == set()


@pytest.mark.parametrize("path", PACKAGES, ids=names)
def test_packages_import_only_what_lies_below_them(path):
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    used = [name.split(".") for name in imports(path)]
    if package == "envs":
        assert [n for n in used if n[0] in ("ebt_policy", "torch")] == []
        return
    assert [n for n in used if n[0] == "envs"] == []
    part = rest[0]
    if part in LAYERS:
        ours = {n[1] for n in used if n[0] == "ebt_policy" and len(n) > 1}
        assert ours <= {part, *LAYERS[part], "bounds"}


def test_the_core_needs_nothing_but_torch():
    standard = set(__import__("sys").stdlib_module_names)
    for path in (ROOT / "ebt_policy" / "core").glob("*.py"):
        assert {name.split(".")[0] for name in imports(path)} <= standard | {"torch", "ebt_policy"}


def test_every_module_says_what_it_is_for():
    assert [names(p) for p in PACKAGES if p.read_text().strip() and not ast.get_docstring(tree(p))] == []


def test_test_files_have_names_of_their_own():
    """Without packages, pytest imports by base name: two alike cannot be collected together."""
    stems = [p.stem for p in (ROOT / "tests").rglob("*.py") if p.name != "conftest.py"]
    assert sorted(stems) == sorted(set(stems))
    for path in (ROOT / "tests").rglob("*.py"):
        assert "conftest" not in set(imports(path)), f"{path}: which conftest depends on what was collected"


def test_what_is_shipped_needs_no_folder_of_the_author():
    text = [p for p in SOURCES if p.name != Path(__file__).name and re.search(r"/(work|home|root)/", p.read_text())]
    assert [names(p) for p in text] == []
