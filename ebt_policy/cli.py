"""What every script does for its user: --help with the comments of its config, and one line for a mendable error."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from ebt_policy.typed import as_typed

CONFIGS = Path(__file__).parents[1] / "configs"
MENDABLE = (ValueError, KeyError, OSError, FloatingPointError, RuntimeError, ImportError)


def explain(config: str, purpose: str) -> None:
    """Answer --help, if asked for, with the YAML files that a script reads: their comments say what values mean. What
    was typed is else made readable for hydra, see `typed`."""
    if not {"--help", "-h"} & set(sys.argv):
        try:
            sys.argv[1:] = as_typed(sys.argv[1:])
        except ValueError as error:
            sys.exit(str(error))
        return
    top = (CONFIGS / f"{config}.yaml").read_text()
    shared = [(CONFIGS / f"{name}.yaml").read_text() for name in re.findall(r"^  - ([a-z]\w*)$", top, re.MULTILINE)]
    settings = "\n".join(map(_settings, [top, *shared]))
    parts = [purpose.strip(), "Every setting, as name=value or group.name=value:", settings]
    for group, default in re.findall(r"^  - (\w+): (\w+)$", top, re.MULTILINE):
        choices = ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))
        parts.append(f"{group}={default} # one of: {choices}")
        if default != "null":
            parts[-1] += "\n" + _settings((CONFIGS / group / f"{default}.yaml").read_text(), indent="  ")
    sys.stdout.write("\n\n".join(parts) + "\n")
    sys.exit()


def _settings(text: str, indent: str = "") -> str:
    """A config without hydra's own entries."""
    own = re.sub(r"^(defaults|hydra):\n(?:(?:[ -].*)?\n)+", "", text, flags=re.MULTILINE)
    return "\n".join(indent + line for line in own.strip().splitlines())


def leave_on_signals() -> None:
    """From now on Ctrl-C, a kill and a terminal that hangs up unwind the stack, which stops an arm, and say nothing."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, frame: sys.exit(128 + number))


def _in_a_line(message: Warning | str, category: type[Warning], *where) -> str:
    return f"{category.__name__}: {message}\n"


def fail_cleanly(main: Callable) -> Callable:
    """Decorate a script's main: Ctrl-C and errors that can be mended end it with one line instead of a traceback.

    Set EBT_TRACEBACK=1 to see where an error came from.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        warnings.formatwarning = _in_a_line
        if os.environ.get("EBT_TRACEBACK"):
            return main(*args, **kwargs)
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            sys.stderr.write("stopped\n")
            sys.exit(128 + signal.SIGINT)
        except MENDABLE as error:
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            sys.exit(f"{type(error).__name__}: {text}")

    return wrapped
