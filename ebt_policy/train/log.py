"""What a run writes while it trains: `train.jsonl`, TensorBoard, a progress bar with the time left, wandb if asked."""

from __future__ import annotations

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ebt_policy.train.checkpoint import write_whole


class RunLog:
    """Appends to the log of a run; on resume it first drops the rows after update `since`, which will come again."""

    def __init__(self, run: Path, since: int = 0, wandb: bool = False, config: dict | None = None):
        self.path = run / "train.jsonl"
        rows = [row for row in read_log(self.path) if row.get("update", 0) <= since] if since else []
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_whole(self.path, lambda path: path.write_text(text))
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=since + 1 if since else None)
        self.wandb = _wandb(run, config) if wandb else None
        self.bar = tqdm(
            total=100.0, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar:30}| {elapsed}<{remaining} {postfix}"
        )
        self.bar.set_description("training")

    def write(self, row: dict[str, float]) -> None:
        """One row {update, seconds, name: value, ...}."""
        with open(self.path, "a") as file:
            file.write(json.dumps({k: _round(v) for k, v in row.items()}) + "\n")
        for name, value in row.items():
            self.board.add_scalar(name, value, row["update"])
        if self.wandb is not None:
            self.wandb.log(row, step=row["update"])

    def progress(self, done: float, row: dict[str, float]) -> None:
        """Moves the bar to `done` (0 to 1)."""
        self.bar.n = round(100 * done, 1)
        self.bar.set_postfix_str(f"update {row['update']}, loss {row['loss']:.4f}")

    def close(self) -> None:
        self.bar.close()
        self.board.close()
        if self.wandb is not None:
            self.wandb.finish()


class Silent:
    """The log of all processes but the main one."""

    def write(self, row: dict[str, float]) -> None:
        pass

    def progress(self, done: float, row: dict[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a train.jsonl; a last line that a crash cut short is dropped."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # no JSON, or no text
            break
    return rows


def _round(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _wandb(run: Path, config: dict | None):
    try:
        import wandb
    except ImportError as error:
        raise RuntimeError("log.wandb=true needs the wandb extra: pip install -e '.[wandb]'") from error
    return wandb.init(dir=str(run), name=run.name, config=config)
