"""The training loop: it sees a module with `loss(batch)`, something that yields batches, and nothing else.

Every update draws its batch and its noise from (seed, update, process) alone, so a resumed run needs no random
state and repeats an uninterrupted one bit for bit on a CPU. One exception: with a budget in minutes the learning
rate follows the clock, and no two clocks agree. Of the rows of the log only times differ, and which evaluations are
left out because they took too long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ebt_policy import bounds
from ebt_policy.core.model import Loss
from ebt_policy.train.checkpoint import Progress, TrainingState
from ebt_policy.train.compiler import check_compiler

EVALUATING = 0.05  # of the training time at most, in the middle of it
CHEAP = 10.0  # s of evaluating that are always granted


@dataclass(frozen=True)
class FitConfig:
    updates: int | None = None  # budget: exactly one of updates and minutes
    minutes: float | None = None  # of training, compilation included; evaluating and saving come on top
    batch: int = 64  # over all processes
    lr: float = 1e-3  # peak, after `warmup` updates; then cosine to final_lr * lr
    final_lr: float = 0.0
    warmup: int = 100
    weight_decay: float = 1e-4
    clip: float = 1.0  # global gradient norm
    ema: float = 0.999  # ceiling of the decay 1 - (1 + n)^-0.75
    precision: Literal["fp32", "medium", "bf16"] = "fp32"  # "medium": bf16 inside fp32 matmuls; "bf16": autocast
    compile: bool = False  # one graph for the whole second-order update; pays on runs of more than a few minutes
    seed: int = 0
    log_every: int = 50  # updates
    eval_every: int = 1000  # updates; less often where evaluating would take over 5 % of the training time
    save_every: float = 60.0  # seconds

    def __post_init__(self):
        if (self.updates is None) == (self.minutes is None):
            raise ValueError(
                f"expected one budget, got fit.updates={self.updates} and fit.minutes={self.minutes}: set one to null"
            )
        bounds.whole("fit.updates", self.updates, "[1, inf) or null")
        bounds.number("fit.minutes", self.minutes, "(0, inf) or null")
        for name in ("batch", "log_every", "eval_every"):
            bounds.whole(f"fit.{name}", getattr(self, name), "[1, inf)")
        bounds.whole("fit.warmup", self.warmup, "[0, inf)")
        bounds.whole("fit.seed", self.seed, "[0, 1e18]")
        numbers = {"lr": "(0, inf)", "final_lr": "[0, 1]", "weight_decay": "[0, inf)", "clip": "(0, inf]"}
        for name, within in (numbers | {"ema": "[0, 1)", "save_every": "[0, inf]"}).items():
            bounds.number(f"fit.{name}", getattr(self, name), within)
        bounds.flag("fit.compile", self.compile)
        if self.precision not in ("fp32", "medium", "bf16"):
            raise ValueError(f"fit.precision must be fp32, medium or bf16, got {self.precision!r}")

    def done(self, update: int, seconds: float) -> float:
        """Share of the budget that is used up, 0 to 1."""
        return min(1.0, update / self.updates if self.updates else seconds / (60 * self.minutes))

    def rate(self, update: int, done: float) -> float:
        """Learning rate: linear warm-up over `warmup` updates, cosine over the budget."""
        cosine = self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * min(1.0, (update + 1) / max(self.warmup, 1)) * cosine


class Examples(Protocol):
    def __len__(self) -> int: ...
    def batch(self, indices: Tensor): ...  # anything with .to(device)


Eval = Callable[[nn.Module], dict[str, float]]


class Stopped(Exception):
    """A training that was told to stop, and is saved; its argument is the update."""


class Log(Protocol):
    def write(self, row: dict[str, float]) -> None: ...
    def progress(self, done: float, row: dict[str, float]) -> None: ...


def fit(
    module: nn.Module,
    examples: Examples,
    cfg: FitConfig,
    log: Log,
    save: Callable[[TrainingState], None] = lambda state: None,
    resume: Callable[[TrainingState], None] = lambda state: None,
    evals: tuple[Eval, ...] = (),
    stop: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Train `module` in place and return its exponential moving average, a copy of the whole module.

    stop: asked after every update; once it is true, in any process, all save and raise Stopped.
    Started by `torchrun` or `accelerate launch`, every process trains on its share of each batch; only the main one
    evaluates, logs and saves.
    """
    accelerator = _accelerator()
    if cfg.batch < accelerator.num_processes:
        raise ValueError(f"fit.batch={cfg.batch} leaves some of {accelerator.num_processes} processes without examples")
    module.to(accelerator.device)
    ema = AveragedModel(module, multi_avg_fn=_ema_update(cfg.ema))
    optimizer = torch.optim.AdamW(_groups(module, cfg.weight_decay), lr=cfg.lr, fused=True)
    state = TrainingState(module, ema, optimizer, Progress())
    resume(state)
    train, optimizer = _prepare(module, optimizer, cfg, accelerator)
    with _matmul_precision("medium" if cfg.precision == "medium" else "highest"):
        _loop(train, optimizer, examples, cfg, accelerator, state, log, save, evals, stop)
    return ema.module


def _loop(
    train, optimizer, examples, cfg: FitConfig, accelerator, state: TrainingState, log, save, evals, stop
) -> None:
    progress, watch, sums = state.progress, _Stopwatch(state.progress), _Means(state.progress.sums)
    done, stopped, last_save = cfg.done(progress.update, progress.seconds), False, time.monotonic()

    def keep() -> None:
        progress.sums, progress.wall = sums.so_far(), watch.wall
        save(state)

    while done < 1 and not stopped:
        rate = cfg.rate(progress.update, done)
        index = _indices(len(examples), cfg, progress.update, accelerator)
        sums.add(_update(train, examples, index, optimizer, rate, cfg, accelerator, progress.update))
        state.ema.update_parameters(state.module)
        progress.update += 1
        progress.seconds, stopped = _agreed(watch.seconds, stop(), accelerator)
        done = cfg.done(progress.update, progress.seconds)
        if not accelerator.is_main_process:
            continue
        with watch.paused():
            row = {"update": progress.update, "seconds": progress.seconds, "wall": 0.0, "lr": rate}
            if progress.update % cfg.log_every == 0 or done == 1:
                row |= sums.take()
                log.progress(done, row)
            if stopped:  # before an evaluation: who kills does not wait for long
                keep()
            row |= _measured(evals, state.ema.module, cfg, progress, done)
            if len(row) > 4:
                log.write(row | {"wall": watch.wall})
            if not stopped and (done == 1 or time.monotonic() - last_save > cfg.save_every):
                keep()
                last_save = time.monotonic()
    if stopped:
        raise Stopped(progress.update)


def _accelerator() -> Accelerator:
    # each process keeps its own replay buffer: data-parallel wrappers would overwrite it with the main one's
    own_buffers = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[own_buffers])


@contextmanager
def _matmul_precision(precision: str):
    """For training alone: a policy acts the same in the process that trained it and in another."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _agreed(seconds: float, stop: bool, accelerator: Accelerator) -> tuple[float, bool]:
    """The main process's clock, and whether any is to stop: those that stopped at different updates would hang."""
    if accelerator.num_processes == 1:
        return seconds, stop
    own = [seconds if accelerator.is_main_process else 0.0, float(stop)]
    seconds, stops = reduce(torch.tensor(own, dtype=torch.float64, device=accelerator.device)).tolist()
    return seconds, stops > 0


def _prepare(module: nn.Module, optimizer, cfg: FitConfig, accelerator: Accelerator):
    train = _LossOnly(module)
    if cfg.compile:
        check_compiler(accelerator.device, "fit.compile")
        # compiled graphs draw the same random numbers as eager code, so that both can be compared
        train.compile(options={"fallback_random": True})
    return accelerator.prepare(train, optimizer)


class _LossOnly(nn.Module):
    """`forward` is the loss, because data-parallel wrappers only hook `forward`."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss: Loss = self.module.loss(batch)
        return loss.total, loss.metrics


def _update(train, examples, index, optimizer, rate, cfg: FitConfig, accelerator, update: int) -> dict[str, Tensor]:
    batch = examples.batch(index).to(accelerator.device)
    for group in optimizer.param_groups:
        group["lr"] = rate
    with _seeded(cfg.seed, update, accelerator), _autocast(cfg, accelerator):
        total, metrics = train(batch)
    accelerator.backward(total)
    norm = accelerator.clip_grad_norm_(train.parameters(), cfg.clip)
    if not torch.isfinite(norm + total.detach()):  # a loss may be infinite where its gradient is 0
        raise FloatingPointError(_autopsy(train, total, update, index))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": total.detach(), "grad_norm": norm.detach()} | metrics


def _autopsy(train: nn.Module, total: Tensor, update: int, index: Tensor) -> str:
    bad = [name for name, p in train.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    return (
        f"update {update}: loss {total.item():.4g}, gradient not finite in {len(bad)} parameters, first {bad[:1]}; "
        f"batch of examples {index.tolist()}. The weights are still those of the update before. Look at these "
        f"examples, lower fit.lr or fit.clip, or use fit.precision=fp32; the last checkpoint is intact (resume=true)"
    )


def _indices(count: int, cfg: FitConfig, update: int, accelerator: Accelerator) -> Tensor:
    """Which examples this process reads in this update: a fresh permutation per epoch, cut into batches."""
    batch, world = min(cfg.batch, count), accelerator.num_processes
    per_epoch = count // batch
    epoch, place = divmod(update, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_mix(cfg.seed, epoch, 0)))
    return order[place * batch : (place + 1) * batch][accelerator.process_index :: world]


@contextmanager
def _seeded(seed: int, update: int, accelerator: Accelerator):
    """Random numbers of this update, whatever came before; the global state is restored afterwards."""
    devices = [accelerator.device] if accelerator.device.type != "cpu" else []
    with torch.random.fork_rng(devices=devices, device_type=accelerator.device.type if devices else "cuda"):
        torch.manual_seed(_mix(seed, update, accelerator.process_index + 1))
        yield


def _mix(*numbers: int) -> int:
    mixed = 0
    for n in numbers:
        mixed = (mixed * 0x9E3779B97F4A7C15 + n + 0x632BE59BD9B4E019) % (1 << 63)
    return mixed


def _autocast(cfg: FitConfig, accelerator: Accelerator):
    # no cache: a weight that was cast in a step without graph would be reused, without its graph, in one that needs it
    return torch.autocast(accelerator.device.type, torch.bfloat16, enabled=cfg.precision == "bf16", cache_enabled=False)


def _groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices decay; gains, biases and the step size do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    matrices, rest = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _ema_update(ceiling: float):
    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], n: Tensor) -> None:
        decay = min(ceiling, 1 - (1 + n.item()) ** -0.75)
        torch._foreach_lerp_(averages, values, 1 - decay)

    return update


def _measured(evals, module: nn.Module, cfg: FitConfig, progress: Progress, done: float) -> dict[str, float]:
    """What evaluations say of the average, as often as they are asked for and may be afforded, and at the end."""
    affordable = progress.evaluating <= max(CHEAP, EVALUATING * progress.seconds)
    if done < 1 and (progress.update % cfg.eval_every or not affordable):
        return {}
    begun, found = time.monotonic(), {}
    for evaluate in evals:
        found |= evaluate(module)
    progress.evaluating += time.monotonic() - begun
    return found


class _Means:
    """Means of the metrics since the last `take`, of this session or the one before."""

    def __init__(self, so_far: dict[str, float]):
        self.sums: dict[str, Tensor | float] = {name: x for name, x in so_far.items() if name != "count"}
        self.count = int(so_far.get("count", 0))

    def so_far(self) -> dict[str, float]:
        """Numbers to go on from, without rounding."""
        return {name: float(total) for name, total in self.sums.items()} | {"count": self.count}

    def add(self, metrics: dict[str, Tensor]) -> None:
        self.count += 1
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()

    def take(self) -> dict[str, float]:
        means = {name: float(total / self.count) for name, total in self.sums.items()}
        self.__init__({})
        return means


class _Stopwatch:
    """Seconds of training, over all sessions of a run, without the pauses; `wall` is with them."""

    def __init__(self, before: Progress):
        now = time.monotonic()
        self.start, self.begun = now - before.seconds, now - max(before.wall, before.seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    @property
    def wall(self) -> float:
        return time.monotonic() - self.begun

    @contextmanager
    def paused(self):
        begun = time.monotonic()
        yield
        self.start += time.monotonic() - begun
