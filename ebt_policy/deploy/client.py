"""A policy that runs elsewhere, as a planner. It imports numpy, websockets and msgpack: a robot needs no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from ebt_policy.data.spec import Spec
from ebt_policy.deploy import protocol
from ebt_policy.deploy.plan import Plan, PlanError, Request, Terms

CLOSING = 0.2  # s that a server has to say goodbye
DAY = 86400.0  # s; no thread waits for years
Answer = TypeVar("Answer")


class RemotePlanner:
    """Plans come from the server at `url`. PlanError if it refuses, does not fit the robot, or does not answer.

    After any of that the link is closed, so that no late answer is taken for that of another request, and opened again
    with the next request: the arm is held in between, and the loop goes on.
    codec: "jpeg" compresses images. seed: what the server's sampler starts from. patience: s for a link to open.
    """

    def __init__(self, url: str, spec: Spec, token: str = "", codec: str = "raw", seed: int = 0, patience: float = 5.0):
        if codec not in protocol.CODECS:
            raise ValueError(f"expected a codec of {', '.join(protocol.CODECS)}, got {codec!r}")
        protocol.check_token(token)
        self.url, self.spec, self.token = url, spec, token
        self.codec, self.seed, self.patience = codec, seed, patience
        self._socket: ClientConnection | None = None
        self._open = ExitStack()  # what holds the socket
        self._one = threading.Lock()  # one exchange at a time, of whatever thread
        self.terms: Terms = self._connect()

    def __call__(self, request: Request) -> Plan:
        """Blocks until the plan is there, at most the request's deadline, or `patience` for a lost link to open."""
        with self._one:
            return self._plan(request)

    def reset(self, seed: int) -> None:
        """What follows is sampled with `seed`. Waits for a plan that somebody else asked for."""
        with self._one:
            self.seed = seed
            if self._socket is None:
                self._reconnect()  # which says the seed
            else:
                self._exchange("reset", {"seed": seed % 2**63}, "ready", self.patience, dict)

    def close(self) -> None:
        self._socket, opened, self._open = None, self._open, ExitStack()
        opened.close()

    def _plan(self, request: Request) -> Plan:
        try:
            protocol.check_request(request, self.terms)
        except protocol.ProtocolError as error:
            raise PlanError(f"the request does not fit the policy at {self.url}: {error}") from error
        if self._socket is None:
            self._reconnect()
        obs = {key: request.obs[key] for key in self.terms.spec["obs"]}  # what a robot sees besides is not sent
        body = protocol.request_body(replace(request, obs=obs), self.codec)

        def read(body: dict[str, Any]) -> Plan | None:
            plan = protocol.read_plan(body, self.terms)
            return plan if plan.id == request.id else None

        return self._exchange("plan", body, "plan", request.deadline, read)

    def _connect(self) -> Terms:
        settings = {"open_timeout": self.patience, "close_timeout": CLOSING, "compression": None, "proxy": None}
        try:
            self._socket = self._open.enter_context(connect(self.url, max_size=protocol.MAX_BYTES, **settings))
        except (OSError, WebSocketException, ValueError) as error:
            why = protocol.shortened(str(error))
            raise PlanError(f"expected a policy server at {self.url}: {why}: start scripts/serve.py there") from error
        self._socket.socket.settimeout(self.patience)  # a server that does not read lets sending wait for ever
        spec = {name: value for name, value in self.spec.to_dict().items() if name in ("obs", "action", "hz")}
        hello = {"protocol": protocol.PROTOCOL, "token": self.token, "spec": spec, "seed": self.seed % 2**63}
        return self._exchange("hello", hello, "terms", self.patience, self._read_terms)

    def _read_terms(self, body: dict[str, Any]) -> Terms:
        protocol.check_version(body)
        terms = protocol.read_terms(body)
        if wrong := protocol.differences(terms.spec, self.spec.to_dict()):
            raise protocol.ProtocolError(f"the policy was not trained for this robot: {'; '.join(wrong)}")
        return terms

    def _reconnect(self) -> None:
        terms = self._connect()
        if terms != self.terms:
            self.close()
            raise PlanError(f"the policy at {self.url} is another one now, {terms.model[:12]}: start the robot again")

    def _exchange(
        self,
        kind: str,
        body: dict[str, Any],
        answer: str,
        seconds: float,
        read: Callable[[dict[str, Any]], Answer | None],
    ) -> Answer:
        """Send, and `read` answers until one is not None; the link is closed unless one comes within `seconds`."""
        socket, end = self._socket, time.monotonic() + min(seconds, DAY)
        try:
            socket.send(protocol.pack(kind, body))
            while (found := read(self._receive(socket, answer, end))) is None:
                pass  # the answer to another request
            return found
        except TimeoutError as error:
            why, cause = f"{self.url} did not answer within {1000 * seconds:.0f} ms", error
        except protocol.ProtocolError as error:
            why, cause = f"{self.url} sent no usable {answer}: {error}", error
        except (OSError, WebSocketException) as error:
            why, cause = f"the link to {self.url} is lost: {protocol.shortened(str(error))}", error
        except BaseException:  # also an interrupt: what comes next would be the answer to this
            self.close()
            raise
        self.close()
        raise PlanError(why) from cause

    def _receive(self, socket: ClientConnection, answer: str, end: float) -> dict[str, Any]:
        """The body of the next message; PlanError if the server refuses."""
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        kind, body = protocol.unpack(socket.recv(timeout=left))
        if kind == "error":
            raise PlanError(f"{self.url} refuses: {protocol.shortened(str(body.get('why')))}")
        if kind != answer:
            raise protocol.ProtocolError(f"expected {answer}, got {kind}")
        return body
