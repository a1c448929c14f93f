"""A policy behind a websocket: one robot at a time, nothing executed that comes in, and stopped without leaving a mess.

Everything before a valid hello is cheap, which `door` sees to. After it, reading what was sent and planning are the
work of one thread, so that the event loop stays free to turn others away, and no two of them are done at once.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import ipaddress
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from ebt_policy import bounds
from ebt_policy.deploy import protocol
from ebt_policy.deploy.door import HELLO_BYTES, Door, Visitor
from ebt_policy.deploy.plan import Plan, PlanError, Request

if TYPE_CHECKING:
    from ebt_policy.deploy.planner import LocalPlanner

GREETING = 5.0  # s for a hello
HELLO_ITEMS = 1024  # entries of all its maps and lists
HEALTH = "/health"
QUIET = logging.getLogger("ebt_policy.deploy.serve")


@dataclass(frozen=True)
class Address:
    """Where to listen. Only this machine, unless there is a token."""

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = ""

    def __post_init__(self):
        protocol.check_token(self.token)
        bounds.whole("port", self.port, "[0, 65535]")
        if not self.token and not _is_loopback(self.host):
            raise ValueError(f"expected a token for {self.host}, which others can reach: set token=<a long word>")


class PolicyServer:
    """Serves a planner. `served` counts the plans sent, `refused` the connections that were turned away."""

    def __init__(self, planner: LocalPlanner, address: Address):
        self.planner, self.address = planner, address
        self.served, self.refused = 0, 0
        self._size = protocol.Size.of_request(planner.terms)
        self._session: ServerConnection | None = None
        self._worker = ThreadPoolExecutor(1, "planner")

    @property
    def busy(self) -> bool:
        """Whether a robot is being served. One that is gone is not, though a plan for it may still be at work."""
        return self._session is not None and self._session.state is State.OPEN

    async def start(self) -> Server:
        """Listen; close the returned server to stop: the plan at work is finished, its client is told."""
        settings = {"max_queue": 2, "compression": None, "close_timeout": 2}
        return await serve(
            self._greet,
            self.address.host,
            self.address.port,
            process_request=self._over_http,
            open_timeout=GREETING,
            max_size=max(self._size.bytes, HELLO_BYTES),
            logger=QUIET,
            create_connection=partial(Visitor, Door()),
            **settings,
        )

    def _over_http(self, connection: ServerConnection, request: Any):
        if request.path == HEALTH:
            return connection.respond(
                http.HTTPStatus.OK, f"{'busy' if self.busy else 'free'}, {self.served} plans served\n"
            )
        return None

    async def _greet(self, visitor: Visitor) -> None:
        try:
            async with asyncio.timeout(GREETING):
                seed = self._check(await visitor.recv())
        except TimeoutError:
            await self._refuse(visitor, f"expected a hello within {GREETING:g} s")
        except protocol.ProtocolError as error:
            await self._refuse(visitor, str(error))
        except ConnectionClosed:
            pass
        else:
            visitor.stranger = False
            await self._serve(visitor, seed)

    def _check(self, message: bytes | str) -> int:
        """The seed in a valid hello of a robot that the policy was trained for; ProtocolError otherwise."""
        kind, body = protocol.unpack(message, HELLO_ITEMS)
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
        if self.busy:
            raise protocol.ProtocolError("another robot is being served: one client at a time")
        return protocol.field(body, "seed", int) % 2**63

    async def _serve(self, robot: ServerConnection, seed: int) -> None:
        self._session = robot
        try:
            await self._work(self.planner.reset, seed)
            await robot.send(protocol.pack("terms", protocol.terms_body(self.planner.terms)))
            async for message in robot:
                try:
                    answer = await self._work(self._answer, message, time.monotonic())
                except protocol.ProtocolError as error:
                    await self._refuse(robot, str(error))
                    return
                except PlanError as error:
                    answer = protocol.pack("error", {"why": protocol.shortened(str(error))})
                await robot.send(answer)
        except ConnectionClosed:
            pass
        finally:
            if self._session is robot:
                self._session = None

    async def _work(self, job: Callable, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, job, *args)

    def _answer(self, message: bytes | str, came: float) -> bytes:
        kind, body = protocol.unpack(message, self._size.items)
        if kind == "reset":
            self.planner.reset(protocol.field(body, "seed", int) % 2**63)
            return protocol.pack("ready", {})
        if kind != "plan":
            raise protocol.ProtocolError(f"expected plan or reset, got {kind[:20]!r}")
        request = protocol.read_request(body, self.planner.terms)
        _check_in_time(request, came)  # there may have been a plan to finish for a robot that is gone
        plan = self._plan(request)
        _check_in_time(request, came)
        self.served += 1
        return protocol.pack("plan", protocol.plan_body(plan))

    def _plan(self, request: Request) -> Plan:
        try:
            plan = self.planner(request)
            protocol.check_plan(plan, self.planner.terms)
        except PlanError:
            raise
        except protocol.ProtocolError as error:
            raise PlanError(f"the policy made a plan of no use: {error}") from error
        except Exception as error:  # the robot is told, whatever it is, and may ask again
            QUIET.exception("planning failed")
            raise PlanError(f"the policy failed, {type(error).__name__}: {error}") from error
        return plan

    async def _refuse(self, connection: ServerConnection, why: str) -> None:
        self.refused += 1
        try:
            await connection.send(protocol.pack("error", {"why": why}))
            await connection.close(1008, why.encode()[:100].decode(errors="ignore"))
        except ConnectionClosed:
            pass


def _check_in_time(request: Request, came: float) -> None:
    late = time.monotonic() - came - request.deadline
    if late > 0:
        raise PlanError(f"the plan came {1000 * late:.0f} ms after its deadline: plan faster")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
