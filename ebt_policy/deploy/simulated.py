"""What robot=sim is in a task: configs/robot/sim.yaml, over it the task's YAML, over it what is set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

OF_THE_TASK = ("motion", "limits", "delays")  # a run may come from anyone: it names no arm, and no environment


def in_task(robot: Mapping[str, Any], task: Mapping[str, Any] | None, file: Path) -> dict[str, Any]:
    """robot: as composed from `file`, a YAML, and from what was set by hand, which is what differs from the file.
    task: what of motion, limits and delays is otherwise in the task, None: nothing; ValueError for anything else.
    Another kind of robot than sim is no matter of the task.
    """
    if robot.get("kind") != "sim":
        return dict(robot)
    fits = isinstance(task or {}, Mapping) and all(isinstance(part, Mapping) for part in (task or {}).values())
    if not fits or set(task or {}) - set(OF_THE_TASK):
        raise ValueError(f"task.robot may have {', '.join(OF_THE_TASK)}, each with settings, got {str(task)[:80]}")
    return _over(yaml.safe_load(file.read_text()), task or {}, robot)


def _over(default: Any, task: Any, here: Any) -> Any:
    if not (isinstance(task, Mapping) and isinstance(here, Mapping)):
        return task if here == default else here
    default = default if isinstance(default, Mapping) else {}
    more = {key: value for key, value in task.items() if key not in here and key not in default}
    return {k: _over(default.get(k), task[k], v) if k in task else v for k, v in here.items()} | more
