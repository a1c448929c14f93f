"""What a kind of task brings to a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from ebt_policy.train.fit import Eval, Examples


@dataclass(frozen=True)
class Work:
    facts: dict[str, dict]  # `spec` and `data` of config.yaml, on which a resumed run must agree
    examples: Examples
    build: Callable[[], nn.Module]  # the task module; called once the seed of its initial weights is set
    evals: tuple[Eval, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # name -> text, to lie beside config.yaml
