"""Who comes to a policy server: heard one after the other, and everybody may say little before the hello.

The robot that is served shares an event loop with all who can open a socket. What a stranger costs, whatever it does,
is bounded here: how many are heard in a second, and the bytes and frames of each. Nobody who keeps silent keeps others
out, and who is not heard waits, so that it cannot come back at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection

PACE = 0.05  # s from one stranger that is heard to the next
WAITING = 512  # strangers that are not heard yet
HELLO_BYTES = 16 << 10  # that a stranger may send, the opening of the websocket included; a hello is some hundred
HELLO_FRAMES = 8  # likewise: an empty one takes as long as a full one
PIECE = 32  # bytes that are read before it is looked again


class Door:
    """Where strangers wait."""

    def __init__(self):
        self._unheard: list[Visitor] = []
        self._pause: asyncio.TimerHandle | None = None

    def enter(self, visitor: Visitor) -> None:
        """It is heard when it is its turn: the newest first, as the others may have given up."""
        visitor.transport.pause_reading()
        if len(self._unheard) == WAITING:
            self._unheard.pop(0).transport.abort()
        self._unheard.append(visitor)
        if self._pause is None:
            self._hear()

    def _hear(self) -> None:
        self._pause = None
        while self._unheard:
            transport = self._unheard.pop().transport
            if not transport.is_closing():
                transport.resume_reading()
                self._pause = asyncio.get_running_loop().call_later(PACE, self._hear)
                return


class Visitor(ServerConnection):
    """A connection that is a stranger until its hello was found good."""

    def __init__(self, door: Door, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.stranger = True
        self._door, self._bytes, self._frames = door, 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.enter(self)

    def data_received(self, data: bytes) -> None:
        if not self.stranger:
            super().data_received(data)
            return
        self._bytes += len(data)
        for start in range(0, len(data), PIECE):
            if self._bytes > HELLO_BYTES or self._frames > HELLO_FRAMES:
                self.transport.abort()
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + PIECE])

    def process_event(self, event: Any) -> None:
        self._frames += 1
        super().process_event(event)
