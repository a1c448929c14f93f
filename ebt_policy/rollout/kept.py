"""Episodes on disk as they end, so that a run that is killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ebt_policy.rollout.result import EpisodeLog


class Kept:
    """The episodes in `folder` that were played under `facts`, by seed: a line of JSON each, in a file of their own.

    facts: everything that an episode depends on besides its seed, JSON-compatible. Other facts have another file.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        text = json.dumps(facts, sort_keys=True, default=str)
        self.path = folder / f"episodes_{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.read_bytes() if self.path.exists() else b""
        whole = written[: written.rfind(b"\n") + 1]  # a kill may have cut the last line
        logs = (EpisodeLog(**json.loads(line)) for line in whole.splitlines())
        self.logs = {log.seed: log for log in logs}
        self._file = self.path.open("ab")
        os.ftruncate(self._file.fileno(), len(whole))

    def add(self, log: EpisodeLog) -> None:
        """In the file before it returns."""
        self.logs[log.seed] = log
        self._file.write(json.dumps(asdict(log), default=str).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error) -> None:
        self._file.close()
