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
    try:
        (run / "resume").mkdir(parents=True, exist_ok=True)
        temporary = run / "resume" / f".{name}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _save_tensors(temporary / "module.safetensors", state.module.state_dict())
        _save_tensors(temporary / "ema.safetensors", state.ema.state_dict())
        _save_tensors(temporary / "optimizer.safetensors", _optimizer_tensors(state.optimizer))
        _write(temporary / "progress.json", lambda path: path.write_text(json.dumps(asdict(state.progress))))
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


def latest_update(run: Path) -> int:
    """The update of the newest complete save of `run`."""
    return int(_newest_save(run).name)


def load_training(run: Path, state: TrainingState) -> None:
    """Put the newest complete save of `run` into `state`, in place."""
    folder = _newest_save(run)
    state.module.load_state_dict(_load_tensors(folder / "module.safetensors"))
    state.ema.load_state_dict(_load_tensors(folder / "ema.safetensors"))
    _restore_optimizer(state.optimizer, _load_tensors(folder / "optimizer.safetensors"))
    for name, value in json.loads((folder / "progress.json").read_text()).items():
        setattr(state.progress, name, value)


def _newest_save(run: Path) -> Path:
    saves = sorted(p for p in (run / "resume").glob("*") if not p.name.startswith("."))
    if not saves:
        raise CheckpointError(f"expected a save in {run / 'resume'}, found none: delete {run} and start again")
    return saves[-1]


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
        head = path.read_bytes()[:2]
        kind = (
            "a pickle or zip archive, which could run code" if head in (b"PK", b"\x80\x02", b"\x80\x04") else "damaged"
        )
        raise CheckpointError(
            f"{path} is not a safetensors file but {kind} ({error}): take a fresh copy, or train again"
        ) from error


def _save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    _write(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))


def _write(path: Path, write: Callable[[Path], None]) -> None:
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
