"""Checkpoints are data: safetensors, YAML and JSON; nothing in them is executed, nothing is ever half written.

run/config.yaml            what was composed, with the spec of the data under `spec`
run/weights.safetensors    the averaged module, for acting
run/resume/<update>/       module, average, optimiser and progress, to go on training; replaced as a whole

Each file of tensors has a checksum, of which reading it makes sure. The same tensors are the same file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

FORMAT = 1
WEIGHTS = "weights.safetensors"
STAMP = "ebt_policy"  # the metadata of a file: JSON with its format and the checksum of its tensors
BEFORE = {"format", "kind", "update"}  # the metadata of files from before there were checksums
TYPES = {  # as safetensors names them
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"},
}
KEPT = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter: a number, and two of the parameter's shape
AGAIN = "take a fresh copy, or train again"


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged, or of another kind; the message says what to do."""


@dataclass
class Progress:
    update: int = 0
    seconds: float = 0.0  # of training
    wall: float = 0.0  # s in all, with evaluating and saving
    evaluating: float = 0.0  # s
    sums: dict[str, float] = field(default_factory=dict)  # of metrics since the last row of the log, and their `count`


@dataclass(frozen=True)
class TrainingState:
    module: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)


def save_training(run: Path, state: TrainingState) -> None:
    """Write weights and resume state; a crash or a full disk at any moment leaves the previous ones in place."""
    update = state.progress.update
    name = f"{update:09d}"
    temporary = run / "resume" / f".{name}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _save_tensors(temporary / "module.safetensors", state.module.state_dict())
        _save_tensors(temporary / "ema.safetensors", state.ema.state_dict())
        _save_tensors(temporary / "optimizer.safetensors", _optimizer_tensors(state.optimizer))
        write_whole(temporary / "progress.json", lambda path: path.write_text(json.dumps(asdict(state.progress))))
        shutil.rmtree(run / "resume" / name, ignore_errors=True)
        os.replace(temporary, run / "resume" / name)
        save_weights(run, state.ema.module)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"could not save update {update} in {run}: {error}. The save before it is intact"
        ) from error
    for old in (run / "resume").iterdir():
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def has_saved(run: Path) -> bool:
    """Whether training in `run` came as far as its first save."""
    return bool(_saves(run)) or (run / WEIGHTS).exists()


def latest_update(run: Path) -> int:
    """The update of the newest complete save of `run`."""
    return int(_newest_save(run).name)


def load_training(run: Path, state: TrainingState) -> None:
    """Put the newest complete save of `run` into `state`, in place; CheckpointError, what to do, if it is damaged."""
    folder = _newest_save(run)
    try:
        progress = _load_progress(folder / "progress.json", int(folder.name))
        _load_into(state.module, folder / "module.safetensors")
        _load_into(state.ema, folder / "ema.safetensors")
        _restore_optimizer(state.optimizer, folder / "optimizer.safetensors")
    except CheckpointError as error:
        before = [int(save.name) for save in _saves(run)[:-1]]
        choice = f", or remove {folder} to go on from update {before[-1]}" if before else ""
        raise CheckpointError(f"{error}{choice}") from error
    vars(state.progress).update(vars(progress))


def _newest_save(run: Path) -> Path:
    saves = _saves(run)
    if not saves:
        raise CheckpointError(
            f"expected a save in {run / 'resume'}, found none: the weights can only act; set run=<another folder>"
        )
    return saves[-1]


def _saves(run: Path) -> list[Path]:
    """Complete saves, oldest first."""
    saves = [path for path in (run / "resume").glob("*") if re.fullmatch("[0-9]{9,15}", path.name) and path.is_dir()]
    return sorted(saves, key=lambda path: int(path.name))


def _load_progress(path: Path, update: int) -> Progress:
    try:
        said = json.loads(path.read_text())
        progress = Progress(**said)
        if type(progress.update) is not int or progress.update != update:
            raise ValueError(f"update {progress.update!r:.40} in the save of update {update}")
        for seconds in (progress.seconds, progress.wall, progress.evaluating):
            if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
                raise ValueError(f"{seconds!r:.40} seconds")
        if type(progress.sums) is not dict or not {int, float}.issuperset(map(type, progress.sums.values())):
            raise ValueError(f"the sums {progress.sums!r:.40}")
        if not all(map(math.isfinite, progress.sums.values())) or progress.sums.get("count", 0) < 0:
            raise ValueError(f"the sums {progress.sums!r:.40}")
        return progress
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"expected the progress of a save in {path}, got {error}: train again") from error


def save_weights(run: Path, module: nn.Module) -> None:
    """The module for acting, without what only training needs."""
    _save_tensors(run / WEIGHTS, _acting(module))


def load_weights(run: Path, module: nn.Module) -> None:
    """Read `run/weights.safetensors` into `module`; CheckpointError if it is damaged, or not exactly that module's."""
    check_weights(run, module)
    module.load_state_dict(_load_tensors(run / WEIGHTS), strict=False)


def check_weights(run: Path, module: nn.Module) -> None:
    """CheckpointError unless the weights of `run` have the names, shapes and types of `module`'s, which may be meta."""
    _check_fit(run / WEIGHTS, _acting(module))


def tensors_in(run: Path) -> dict[str, str]:
    """What the weights of `run` are, by name: their types and shapes. Reads nothing but the head of their file."""
    return _read_head(run / WEIGHTS)[1]


def _acting(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in module.state_dict().items() if not k.startswith("replay.")}


def _load_into(module: nn.Module, path: Path) -> None:
    _check_fit(path, module.state_dict())
    module.load_state_dict(_load_tensors(path))


def _check_fit(path: Path, own: Mapping[str, Tensor]) -> None:
    """CheckpointError unless a file has just these tensors, by name, shape and type."""
    held = _read_head(path)[1]
    missing, extra = sorted(set(own) - set(held)), sorted(set(held) - set(own))
    wrong = [k for k in own if k in held and _described(own[k]) != held[k]]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{path} does not fit its config.yaml: {len(missing)} tensors missing {missing[:2]}, {len(extra)} unknown "
            f"{extra[:2]}, {len(wrong)} of another shape {wrong[:2]}. Use the config.yaml it was saved with"
        )


def _load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; CheckpointError if one is not what was saved, or not finite."""
    stamp, _ = _read_head(path)
    with _damage_told(path):
        tensors = safetensors.torch.load_file(path)
    if stamp is not None and stamp != _stamp(tensors):
        raise CheckpointError(f"{path} is damaged, its tensors are not what was saved: {AGAIN}")
    if name := _not_finite(tensors):
        raise CheckpointError(f"{path} is damaged, {name} holds values that are not finite: {AGAIN}")
    return tensors


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor with NaN or infinity in it, None if there is none."""
    return next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)


def _read_head(path: Path) -> tuple[str | None, dict[str, str]]:
    """The stamp of a file, None of one from before there were any, and type and shape of its tensors by name."""
    if not path.is_file():
        raise CheckpointError(f"expected {path}, which does not exist: give the folder of a training run")
    with _damage_told(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        stamp = metadata.get(STAMP)
        form = int((metadata if stamp is None else json.loads(stamp)).get("format", FORMAT))
        if form <= FORMAT and not (metadata.keys() <= BEFORE or metadata.keys() == {STAMP}):
            raise ValueError(f"metadata {sorted(metadata)}")
        names = file.keys()
        slices = {name: file.get_slice(name) for name in names}
        held = {name: f"{part.get_dtype()} {part.get_shape()}" for name, part in slices.items()}
    if form > FORMAT:
        raise CheckpointError(f"{path} has format {form}, this version reads up to {FORMAT}: update ebt-policy")
    return stamp, held


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise  # which says what is wrong with the path
    except Exception as error:  # a broken file is anything to its reader
        kind = "a pickle or zip archive, which could run code" if _is_pickle(path) else f"damaged ({error})"
        raise CheckpointError(f"{path} is not a safetensors file but {kind}: {AGAIN}") from error


def _is_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(3)
    # a safetensors file begins with the length of its header, whose third byte is 0 up to 64 KB
    return head[:2] == b"PK" or (
        head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5") and head[2:] != b"\0"
    )


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """The same tensors are the same bytes: one entry of metadata, as several would be written in any order."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    if name := _not_finite(tensors):
        raise CheckpointError(f"did not save {path}: {name} holds values that are not finite; lower fit.lr")
    metadata = {STAMP: _stamp(tensors)}
    write_whole(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))


def _stamp(tensors: Mapping[str, Tensor]) -> str:
    """The format, and a checksum of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(json.dumps([name, _described(tensors[name])]).encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy())
    return json.dumps({"format": FORMAT, "sha256": digest.hexdigest()})


def _described(tensor: Tensor) -> str:
    """Type and shape, as safetensors writes them."""
    return f"{TYPES.get(tensor.dtype, tensor.dtype)} {list(tensor.shape)}"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write through a temporary neighbour, flushed to the disk, then renamed."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """CheckpointError unless the file is what AdamW keeps of this optimiser's parameters, of each all or nothing."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    whole = [{f"{i}.{k}": "F32 []" if k == "step" else _described(p) for k in KEPT} for i, p in enumerate(parameters)]
    held = _read_head(path)[1]
    kept = {key: said for each in whole if each.keys() & held.keys() for key, said in each.items()}
    if not held and parameters:
        raise CheckpointError(f"{path} has nothing of this optimiser: {AGAIN}")
    if wrong := sorted(key for key in kept.keys() | held.keys() if kept.get(key) != held.get(key)):
        raise CheckpointError(
            f"{path} is not of this optimiser: {len(wrong)} tensors missing, unknown or of another shape, {wrong[:2]}: "
            f"{AGAIN}"
        )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _load_tensors(path).items():
        i, name = key.split(".", 1)
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
