"""What is to be ended is told so by a signal; a training notes it, and ends where it can go on from."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Ctrl-C, a kill and a terminal that hangs up are noted as `number`, from the first time that `came` is asked.

    Before that there is nothing to save, and they end the process at once; so does the second one. Of several processes
    under a launcher it does not: the launcher passes signals on that all had already, and kills who takes too long.
    """

    def __init__(self, alone: bool = True):
        self.alone, self.number = alone, 0
        self._before: dict[int, object] | None = None

    def came(self) -> bool:
        if self._before is None:
            self._before = {number: signal.signal(number, self._note) for number in _heeded()}
        return bool(self.number)

    def __enter__(self) -> Interrupts:
        return self

    def __exit__(self, *error) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if self.alone:
            self.__exit__()


def _heeded() -> list[int]:
    """No other thread may say what is done with signals, and who is started by nohup is to live on."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
