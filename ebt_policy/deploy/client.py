"""A policy that runs elsewhere, as a planner. It imports numpy, websockets and msgpack: a robot needs no torch."""

from __future__ import annotations

import threading
import time

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from ebt_policy.data.spec import Spec
from ebt_policy.deploy import protocol
from ebt_policy.deploy.plan import Plan, PlanError, Request, Terms


class RemotePlanner:
    """Plans come from the server at `url`. PlanError if it refuses, does not fit the robot, or does not answer.

    A lost connection is opened again with the next request: the arm is held in between, and the loop goes on.
    codec: "jpeg" compresses images. seed: what the server's sampler starts from.
    """

    def __init__(self, url: str, spec: Spec, token: str = "", codec: str = "raw", seed: int = 0, patience: float = 5.0):
        if codec not in protocol.CODECS:
            raise ValueError(f"expected a codec of {', '.join(protocol.CODECS)}, got {codec!r}")
        self.url, self.spec, self.token = url, spec, token
        self.codec, self.seed, self.patience = codec, seed, patience
        self._socket, self._one = None, threading.Lock()  # one exchange at a time, of whatever thread
        self.terms: Terms = self._connect()

    def __call__(self, request: Request) -> Plan:
        """Blocks until the plan is there, at most the request's deadline."""
        with self._one:
            return self._plan(request)

    def reset(self, seed: int) -> None:
        """What follows is sampled with `seed`. Waits for a plan that somebody else asked for."""
        with self._one:
            self.seed = seed
            if self._socket is None:
                self._connect()  # which says the seed
            else:
                self._exchange("reset", {"seed": seed}, "ready", self.patience)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _plan(self, request: Request) -> Plan:
        if self._socket is None:
            self._connect()
        end = time.monotonic() + request.deadline
        body = self._exchange("plan", protocol.request_body(request, self.codec), "plan", request.deadline)
        while body.get("id") != request.id:  # the answer to one that was given up
            body = self._receive("plan", max(0.0, end - time.monotonic()))
        try:
            return protocol.read_plan(body, self.terms)
        except protocol.ProtocolError as error:
            raise PlanError(f"{self.url} sent no plan: {error}") from error

    def _connect(self) -> Terms:
        try:
            self._socket = connect(
                self.url, max_size=protocol.MAX_BYTES, open_timeout=self.patience, compression=None, proxy=None
            )
        except (OSError, WebSocketException, ValueError) as error:
            raise PlanError(f"expected a policy server at {self.url}: {error}: start scripts/serve.py there") from error
        hello = {"protocol": protocol.PROTOCOL, "token": self.token, "spec": self.spec.to_dict(), "seed": self.seed}
        hello["spec"] = {name: hello["spec"][name] for name in ("obs", "action", "hz")}
        try:
            body = self._exchange("hello", hello, "terms", self.patience)
            protocol.check_version(body)
            terms = protocol.read_terms(body)
            wrong = protocol.differences(terms.spec, hello["spec"])
        except protocol.ProtocolError as error:
            self.close()
            raise PlanError(f"{self.url}: {error}") from error
        if wrong:
            self.close()
            raise PlanError(f"the policy at {self.url} was not trained for this robot: {'; '.join(wrong)}")
        return terms

    def _exchange(self, kind: str, body: dict, answer: str, seconds: float) -> dict:
        try:
            self._socket.send(protocol.pack(kind, body))
        except (OSError, WebSocketException) as error:
            raise self._lost(error) from error
        return self._receive(answer, seconds)

    def _receive(self, answer: str, seconds: float) -> dict:
        try:
            kind, body = protocol.unpack(self._socket.recv(timeout=seconds))
        except TimeoutError:
            self.close()  # so that a late answer is not taken for that of the next request
            raise PlanError(f"{self.url} did not answer within {1000 * seconds:.0f} ms") from None
        except (OSError, WebSocketException, protocol.ProtocolError) as error:
            raise self._lost(error) from error
        if kind == "error":
            raise PlanError(f"{self.url} refuses: {body.get('why')}")
        if kind != answer:
            raise self._lost(f"expected {answer}, got {kind}")
        return body

    def _lost(self, error: object) -> PlanError:
        self.close()
        return PlanError(f"the link to {self.url} is lost: {error}")
