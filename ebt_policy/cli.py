"""What every script does with an error that its user can mend: one line on stderr and exit status 1."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

MENDABLE = (ValueError, KeyError, OSError, FloatingPointError, RuntimeError, ImportError)


def fail_cleanly(main: Callable) -> Callable:
    """Decorate a script's main; set EBT_TRACEBACK=1 to see where an error came from."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        if os.environ.get("EBT_TRACEBACK"):
            return main(*args, **kwargs)
        try:
            return main(*args, **kwargs)
        except MENDABLE as error:
            text = error.args[0] if isinstance(error, KeyError) and error.args else error
            sys.exit(f"{type(error).__name__}: {text}")

    return wrapped
