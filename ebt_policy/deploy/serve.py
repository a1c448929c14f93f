"""A policy behind a websocket: one robot at a time, nothing executed that comes in, and stopped without leaving a mess.

Everything before a valid hello is cheap: no session, no memory beyond one capped message, a few seconds at most.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import ipaddress
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ebt_policy.deploy import protocol
from ebt_policy.deploy.plan import PlanError

if TYPE_CHECKING:
    from ebt_policy.deploy.planner import LocalPlanner

GREETING = 5.0  # s for a hello
HEALTH = "/health"
WAITING = 32  # connections without a session
MALFORMED = (ValueError, TypeError)  # ProtocolError, and what oddly typed fields raise
QUIET = logging.getLogger("ebt_policy.deploy.serve")


@dataclass(frozen=True)
class Address:
    """Where to listen. Only this machine, unless there is a token."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""

    def __post_init__(self):
        if not self.token and not _is_loopback(self.host):
            raise ValueError(f"expected a token for {self.host}, which others can reach: set token=<a long word>")


class PolicyServer:
    """Serves a planner. `served` counts the plans sent, `refused` the connections that were turned away."""

    def __init__(self, planner: LocalPlanner, address: Address):
        self.planner, self.address = planner, address
        self.served, self.refused = 0, 0
        self._session: ServerConnection | None = None
        self._strangers = 0
        self._worker = ThreadPoolExecutor(1, "planner")  # the loop stays free to turn others away while it plans

    async def start(self) -> Server:
        """Listen; close the returned server to stop: the plan at work is finished, its client is told."""
        settings = {"max_size": protocol.MAX_BYTES, "max_queue": 2, "compression": None, "close_timeout": 2}
        return await serve(
            self._greet,
            self.address.host,
            self.address.port,
            process_request=self._over_http,
            open_timeout=GREETING,
            logger=QUIET,
            **settings,
        )

    def _over_http(self, connection: ServerConnection, request: Any):
        if request.path == HEALTH:
            state = "busy" if self._session is not None else "free"
            return connection.respond(http.HTTPStatus.OK, f"{state}, {self.served} plans served\n")
        if self._strangers >= WAITING:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def _greet(self, connection: ServerConnection) -> None:
        self._strangers += 1
        try:
            async with asyncio.timeout(GREETING):
                seed = self._check(await connection.recv())
        except (*MALFORMED, TimeoutError) as error:
            await self._refuse(connection, str(error) or "expected a hello within seconds")
            return
        except ConnectionClosed:
            return
        finally:
            self._strangers -= 1
        if self._session is not None:
            await self._refuse(connection, "another robot is being served: one client at a time")
            return
        self._session = connection
        try:
            self.planner.reset(seed)
            await connection.send(protocol.pack("terms", protocol.terms_body(self.planner.terms)))
            await self._attend(connection)
        except ConnectionClosed:
            pass
        finally:
            self._session = None

    def _check(self, message: bytes | str) -> int:
        """The seed in a valid hello of a robot that the policy was trained for; ProtocolError otherwise."""
        kind, body = protocol.unpack(message)
        if kind != "hello":
            raise protocol.ProtocolError(f"expected a hello, got {kind[:20]!r}")
        token = protocol.field(body, "token", str)
        if not hmac.compare_digest(token.encode(), self.address.token.encode()):
            raise protocol.ProtocolError("expected the server's token")
        protocol.check_version(body)
        spec = protocol.field(body, "spec", dict)
        protocol.field(spec, "obs", dict), protocol.field(spec, "action", dict)
        if wrong := protocol.differences(self.planner.terms.spec, spec):
            raise protocol.ProtocolError(f"the policy was not trained for this robot: {'; '.join(wrong)}")
        return protocol.field(body, "seed", int) % 2**63

    async def _attend(self, connection: ServerConnection) -> None:
        async for message in connection:
            came = time.monotonic()
            try:
                answer = await self._answer(message, came)
            except MALFORMED as error:
                await self._refuse(connection, str(error))
                return
            except PlanError as error:
                answer = protocol.pack("error", {"why": str(error)})
            await connection.send(answer)

    async def _answer(self, message: bytes | str, came: float) -> bytes:
        kind, body = protocol.unpack(message)
        if kind == "reset":
            self.planner.reset(protocol.field(body, "seed", int) % 2**63)
            return protocol.pack("ready", {})
        if kind != "plan":
            raise protocol.ProtocolError(f"expected plan or reset, got {kind[:20]!r}")
        request = protocol.read_request(body, self.planner.terms)
        plan = await asyncio.get_running_loop().run_in_executor(self._worker, self.planner, request)
        late = time.monotonic() - came - request.deadline
        if late > 0:
            raise PlanError(f"the plan came {1000 * late:.0f} ms after its deadline: plan faster")
        self.served += 1
        return protocol.pack("plan", protocol.plan_body(plan))

    async def _refuse(self, connection: ServerConnection, why: str) -> None:
        self.refused += 1
        try:
            await connection.send(protocol.pack("error", {"why": why}))
            await connection.close(1008, why[:100])
        except ConnectionClosed:
            pass


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
