"""What `torch.compile` needs of the machine, said before it is needed."""

from __future__ import annotations

import os
import shutil
import sys

import torch


def check_compiler(device: torch.device, setting: str) -> None:
    """ValueError if `setting` (e.g. fit.compile) cannot be had on `device`: on a CPU it takes a C++ compiler."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise ValueError(
            f"{setting}=true needs a C++ compiler, {compiler} is not there: install it, or set {setting}=false"
        )
