"""Checkpoints are data: safetensors, YAML and JSON; nothing in them is executed, nothing is ever half written.

run/config.yaml            what was composed, with the spec of the data under `spec`
run/weights.safetensors    the averaged module, for acting; its metadata names format and update
run/resume/<update>/       module, average, optimiser and progress, to go on training; replaced as a whole
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged, or of another kind; the message says what to do."""


@dataclass
class Progress:
    update: int = 0
    seconds: float = 0.0  # of training


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
        save_weights(run, state.ema.module, update)
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
    return bool(_saves(run)) or (run / "weights.safetensors").exists()


def latest_update(run: Path) -> int:
    """The update of the newest complete save of `run`."""
    return int(_newest_save(run).name)


def load_training(run: Path, state: TrainingState) -> None:
    """Put the newest complete save of `run` into `state`, in place."""
    folder = _newest_save(run)
    state.module.load_state_dict(_load_tensors(folder / "module.safetensors"))
    state.ema.load_state_dict(_load_tensors(folder / "ema.safetensors"))
    _restore_optimizer(state.optimizer, _load_tensors(folder / "optimizer.safetensors"))
    progress = _load_progress(folder / "progress.json")
    state.progress.update, state.progress.seconds = progress.update, progress.seconds


def _newest_save(run: Path) -> Path:
    saves = _saves(run)
    if not saves:
        raise CheckpointError(
            f"expected a save in {run / 'resume'}, found none: the weights can only act; set run=<another folder>"
        )
    return saves[-1]


def _saves(run: Path) -> list[Path]:
    """Complete saves, oldest first."""
    return sorted(p for p in (run / "resume").glob("*") if p.name.isdecimal())


def _load_progress(path: Path) -> Progress:
    try:
        return Progress(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"expected the progress of a save in {path}, got {error}: train again") from error


def save_weights(run: Path, module: nn.Module, update: int) -> None:
    """The module for acting, without what only training needs."""
    tensors = {k: v for k, v in module.state_dict().items() if not k.startswith("replay.")}
    metadata = {"format": str(FORMAT), "kind": "ebt_policy.weights", "update": str(update)}
    _save_tensors(run / "weights.safetensors", tensors, metadata)


def load_weights(run: Path, module: nn.Module) -> None:
    """Read `run/weights.safetensors` into `module`; CheckpointError if it is not exactly that module's."""
    path = run / "weights.safetensors"
    tensors = _load_tensors(path)
    own = {k: v for k, v in module.state_dict().items() if not k.startswith("replay.")}
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    wrong = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{path} does not fit its config.yaml: {len(missing)} tensors missing {missing[:2]}, {len(extra)} unknown "
            f"{extra[:2]}, {len(wrong)} of another shape {wrong[:2]}. Use the config.yaml it was saved with"
        )
    module.load_state_dict(tensors, strict=False)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise CheckpointError(f"expected {path}, which does not exist: give the folder of a training run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if int(metadata.get("format", FORMAT)) > FORMAT:
            raise CheckpointError(
                f"{path} has format {metadata['format']}, this version reads up to {FORMAT}: update ebt-policy"
            )
        return safetensors.torch.load_file(path)
    except (SafetensorError, ValueError) as error:
        kind = "a pickle or zip archive, which could run code" if _is_pickle(path) else f"damaged ({error})"
        raise CheckpointError(
            f"{path} is not a safetensors file but {kind}: take a fresh copy, or train again"
        ) from error


def _is_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(3)
    # a safetensors file begins with the length of its header, whose third byte is 0 up to 64 KB
    return head[:2] == b"PK" or (
        head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5") and head[2:] != b"\0"
    )


def _save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_whole(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))


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


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, name = key.split(".", 1)
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
