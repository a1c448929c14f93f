"""What strangers and robots do to a policy server that they should not, each over a socket of its own.

python tests/deploy/attacks.py "nested maps" ws://127.0.0.1:8765 4 and, for each attack, a line with its seconds
"""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from socket import create_connection, socket
from urllib.parse import urlsplit

import msgpack
from toy_server import SPEC
from websockets.frames import Frame, Opcode

from ebt_policy.deploy import protocol

LARGE = 16 << 20
OPENING = (
    b"GET / HTTP/1.1\r\nHost: toy\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def framed(data: bytes, opcode: Opcode = Opcode.BINARY, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def hello(**changes) -> dict:
    return {"protocol": 1, "token": "sesame", "spec": SPEC.to_dict(), "seed": 0} | changes


def said(**changes) -> bytes:
    return framed(protocol.pack("hello", hello(**changes)))


def maps(count: int) -> bytes:
    """A message with so many times 4096 maps without entries, none of its lists longer than that."""
    head = b"\x82\xa4kind\xa5hello\xa1x\xdc" + count.to_bytes(2, "big")
    return head + (b"\xdc\x10\x00" + b"\x80" * 4096) * count


@cache
def nested_maps() -> bytes:
    """Just below 16 MB, each byte of them a map."""
    return framed(maps(4092))


@cache
def picture() -> bytes:
    """A jpeg that takes 48 MB when it is decoded."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (4096, 4096)).save(buffer, "JPEG", quality=10)
    return buffer.getvalue()


def pictures() -> bytes:
    body = {"id": 1, "obs": {"hand": [{"jpeg": picture()}] * 40}, "deadline": 5.0, "tail": None}
    return framed(protocol.pack("plan", body))


BEFORE_HELLO = {
    "silence": lambda: b"",
    "nested maps": nested_maps,
    "deep lists": lambda: framed(b"\x91" * 500),
    "deeper lists": lambda: framed(b"\x91" * 10_000),
    "wide lists": lambda: framed(b"\xdc\x04\x00" * 500),
    "wrong token": lambda: said(token="guess"),
    "wrong spec": lambda: said(spec={"obs": {"hand": "x" * 15_000}, "action": {}}),
    "wrong spec of 15 MB": lambda: said(spec={"obs": {"hand": "x" * 15_000_000}, "action": {}}),
    "second robot": said,
    "pings": lambda: framed(b"", Opcode.PING) * 20_000,
    "fragments": lambda: framed(b"", fin=False) + framed(b"", Opcode.CONT, fin=False) * 20_000,
    "long fragments": lambda: framed(b"\x81", fin=False) + framed(bytes(1000), Opcode.CONT, fin=False) * 1000,
}
IN_SESSION = {
    "nested maps": nested_maps,
    "deep lists": lambda: framed(b"\x91" * 500),
    "many lists": lambda: framed(msgpack.packb({"kind": "plan", "obs": {"hand": [[]] * 4000}})),
    "pictures": pictures,
}


class Attacker:
    """Opens connections and counts how they ended: error, closed, or silent if the server waits for more."""

    def __init__(self, url: str):
        self.address = (urlsplit(url).hostname, urlsplit(url).port)
        self.endings: Counter = Counter()
        self.longest = 0  # bytes that were heard at once

    def comes(self, what: bytes, patience: float = 5.0) -> None:
        """A stranger says it, and listens once."""
        with self._counted(), create_connection(self.address, patience) as socket:
            self._says(socket, OPENING)
            self._ends(self._says(socket, what))

    def takes_the_place(self, what: bytes, patience: float = 5.0) -> None:
        """A robot that is served says it, and listens once."""
        end, heard = time.monotonic() + patience, b""
        while b"terms" not in heard and time.monotonic() < end:  # the one before may not be gone yet
            with self._counted(), create_connection(self.address, patience) as socket:
                self._says(socket, OPENING)
                if b"terms" in (heard := self._says(socket, said())):
                    self._ends(self._says(socket, what))

    def comes_again(self, what: bytes, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.comes(what, max(left, 0.1))

    def _says(self, socket: socket, what: bytes) -> bytes:
        socket.sendall(what)
        return socket.recv(LARGE)

    def _ends(self, heard: bytes) -> None:
        self.longest = max(self.longest, len(heard))
        self.endings["error" if b"error" in heard else "closed"] += 1

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.endings["silent"] += 1
        except OSError:
            self.endings["closed"] += 1


def main(name: str, url: str, threads: str) -> None:
    what, many = BEFORE_HELLO[name](), range(int(threads))
    for line in sys.stdin:
        attacker = Attacker(url)
        crowd = [threading.Thread(target=attacker.comes_again, args=(what, float(line))) for _ in many]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        sys.stdout.write(json.dumps(attacker.endings) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
