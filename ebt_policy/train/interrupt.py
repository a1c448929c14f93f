"""What is to be ended is told so by a signal; a training notes it, and ends where it can go on from."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Within it Ctrl-C, a kill and a terminal that hangs up are noted as `number`; the second one ends at once.

    Of several processes under a launcher none ends at once: the launcher passes signals on that all had already, and
    kills who takes too long.
    """

    def __init__(self, alone: bool = True):
        self.alone, self.number = alone, 0
        self._before: dict[int, object] = {}

    def came(self) -> bool:
        return bool(self.number)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # no other may
            heeded = [s for s in SIGNALS if s == signal.SIGINT or signal.getsignal(s) != signal.SIG_IGN]  # as of nohup
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *error) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if self.alone:
            self.__exit__()
