"""Services that break the protocol, each in one way that a real pod never should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import WSMsgType, web

EPOCH = 77


class FaultyService:
    """A port that upgrades /ws, says ``connected``, and then does what its class is named after; ``async with``.

    ``queries`` are those of the upgrades, ``arrived_s`` their instants on the loop's clock. REST is answered well.
    """

    heartbeat_interval_ms = 10_000
    simulator_status = "RUNNING"

    def __init__(self) -> None:
        self.url = ""
        self.queries: list[Mapping[str, str]] = []
        self.arrived_s: list[float] = []
        self.received: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FaultyService:
        app = web.Application()
        app.router.add_get("/ws", self._upgrade)
        app.router.add_route("*", "/api/{rest:.*}", self.rest)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def rest(self, _request: web.Request) -> web.StreamResponse:
        """Whatever is asked: there is such a session."""
        session = dict.fromkeys(("user_id", "status", "created_at", "last_active", "expires_at"), "")
        return web.json_response({"success": True, "session": {"session_id": "session-1", **session}})

    def refusal(self, _number: int) -> web.StreamResponse | None:
        """The answer in the place of an upgrade."""
        return None

    async def talk(self, socket: web.WebSocketResponse, number: int) -> None:
        """The ``number``-th socket (from 1), after ``connected``. Afterwards it is read until its end."""

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        self.arrived_s.append(asyncio.get_running_loop().time())
        number = len(self.queries)
        refusal = self.refusal(number)
        if refusal is not None:
            return refusal
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        await socket.send_json(self.connected(request.query))
        await self.talk(socket, number)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                received = json.loads(message.data)
                self.received.append(received)
                await self.answer(socket, received)
        return socket

    async def answer(self, socket: web.WebSocketResponse, message: Mapping[str, Any]) -> None:
        if message["type"] == "heartbeat":
            await socket.send_json(
                {
                    "type": "heartbeat_ack",
                    "clientTimestamp": message["timestamp"],
                    "deviceIdValid": True,
                    "sessionStatus": "valid",
                }
            )

    def connected(self, query: Mapping[str, str]) -> dict[str, Any]:
        resumed = "sequence" in query
        return {
            "type": "connected",
            "clientId": query["clientId"],
            "deviceId": query["deviceId"],
            "sessionId": "session-1",
            "isNew": False,
            "podName": "faulty",
            "epoch": EPOCH if resumed else None,
            "sequence": int(query["sequence"]) if resumed else None,
            "resumed": resumed,
            "simulatorStatus": self.simulator_status,
            "heartbeatIntervalMs": self.heartbeat_interval_ms,
            "expiresAt": "2026-11-20T11:00:00Z",
            "limits": {},
        }


def update(first: int, last: int, *, snapshot: bool = False) -> dict[str, Any]:
    """A frame with one order update for each of its numbers."""
    order = {"orderId": "o", "symbol": "A", "status": "OPEN", "filledQuantity": 0, "averagePrice": 0.0}
    data = {
        "timestamp": last,
        "marketData": [],
        "orderUpdates": [{**order, "sequence": number} for number in range(first, last + 1)],
        "portfolio": None,
    }
    return {
        "type": "exchange_data",
        "epoch": EPOCH,
        "fromSequence": first,
        "sequence": last,
        "snapshot": snapshot,
        "data": data,
    }


class BrokenSequence(FaultyService):
    """Sends these ranges after a snapshot at 1, and a snapshot at 20 when it is asked for one."""

    ranges: ClassVar[tuple[tuple[int, int], ...]] = ()

    async def talk(self, socket: web.WebSocketResponse, number: int) -> None:
        await socket.send_json(update(1, 1, snapshot=True))
        for first, last in self.ranges:
            await socket.send_json(update(first, last))

    async def answer(self, socket: web.WebSocketResponse, message: Mapping[str, Any]) -> None:
        if message["type"] == "request_full_refresh":
            await socket.send_json(update(20, 20, snapshot=True))
            await socket.send_json(update(21, 21))


class SkippingService(BrokenSequence):
    ranges = ((2, 3), (5, 6), (7, 7))


class RepeatingService(BrokenSequence):
    ranges = ((2, 3), (3, 4), (5, 5))


class GarblingService(FaultyService):
    """What it sends is JSON, and not what it says it is."""

    async def talk(self, socket: web.WebSocketResponse, number: int) -> None:
        await socket.send_str("no json")
        await socket.send_str("[]")
        await socket.send_json({"type": "exchange_data", "data": None})
        await socket.send_json({"type": "nobody_knows"})
        await socket.send_json({"type": "simulator_status", "simulatorId": "s", "status": "RUNNING"})


class OverloadedService(FaultyService):
    """Refuses the first upgrades with 503 and ``Retry-After: 1``."""

    refusals = 1

    def refusal(self, number: int) -> web.StreamResponse | None:
        if number > self.refusals:
            return None
        return web.json_response({"code": "OVERLOADED"}, status=503, headers={"Retry-After": "1"})


class BusyService(FaultyService):
    """Refuses every upgrade with 503, and does not say for how long."""

    def refusal(self, number: int) -> web.StreamResponse | None:
        return web.json_response({"code": "OVERLOADED"}, status=503)


class UnexplainedService(FaultyService):
    """Refuses every upgrade with 404, while REST finds nothing wrong: a proxy that has lost its way."""

    def refusal(self, number: int) -> web.StreamResponse | None:
        return web.Response(status=404, text="<html>")


class DeafService(FaultyService):
    """Hears no heartbeat: the network lost everything that goes to it, or all that comes from it."""

    heartbeat_interval_ms = 50

    async def answer(self, socket: web.WebSocketResponse, message: Mapping[str, Any]) -> None:
        return


class FrozenService(DeafService):
    """Says ``connected``, and then nothing any more, though it says that a simulator runs: a pod that was stopped."""

    heartbeat_interval_ms = 10_000


class SilentSimulatorService(FaultyService):
    """Has no data for its client, and answers: it is its simulator that is frozen."""


class IdleDeafService(DeafService):
    """Hears no heartbeat, and has no simulator whose data would have to come."""

    simulator_status = "NONE"


class UnstableService(FaultyService):
    """Closes each socket at once with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    async def talk(self, socket: web.WebSocketResponse, number: int) -> None:
        await socket.close(code=self.code)


class LaggingMove(FaultyService):
    """Tells its client to move; then the old socket runs ahead, and the new one begins where the client was."""

    def __init__(self) -> None:
        super().__init__()
        self._opened = asyncio.Event()
        self._ran_ahead = asyncio.Event()

    async def talk(self, socket: web.WebSocketResponse, number: int) -> None:
        if number == 1:
            await socket.send_json(update(1, 1, snapshot=True))
            await socket.send_json(
                {"type": "pod_terminating", "reconnectAfterMs": 0, "deadlineMs": 5000, "reason": "test"}
            )
            await self._opened.wait()
            for sequence in (2, 3, 4):
                await socket.send_json(update(sequence, sequence))
            self._ran_ahead.set()
        else:
            self._opened.set()
            await self._ran_ahead.wait()
            await socket.send_json(update(2, 2))
            await socket.send_json(update(3, 5))
            await socket.send_json(update(6, 6))


class SilentMove(LaggingMove):
    """Tells its client to move, and the new socket never has a frame."""

    async def talk(self, socket: web.WebSocketResponse, number: int) -> None:
        if number == 1:
            await socket.send_json(update(1, 1, snapshot=True))
            await socket.send_json(
                {"type": "pod_terminating", "reconnectAfterMs": 0, "deadlineMs": 400, "reason": "test"}
            )
