"""A storm of clients at a pod that admits few a second."""

from __future__ import annotations

import asyncio
import random
import time

import aiohttp
import msgspec

from session_service.websocket.admission import AdmissionLimits, RefusalReason
from session_service.websocket.setup_rate import LONGEST_RETRY_S, RateLimits
from tests.support.servers import Database, TestServers
from tests.support.service import Service, bearer
from tests.support.stalls import Stalls
from tests.support.websocket_client import Client, connect

CLIENTS = 300
# So few set-ups at a time that none waits for PostgreSQL in vain, however slow the machine.
LIMITS = AdmissionLimits(setups=20, rate=RateLimits(floor_per_s=50.0, ceiling_per_s=150.0))
# The clients, the pod and the exchange share one event loop here, so this is far more than admission itself costs;
# 300 set-ups that all went ahead at once would hold the loop for longer.
LONGEST_PAUSE_S = 5.0
ALL_WITHIN_S = 180.0


class Storm:
    """Clients that come at once, and come back when they are told to.

    ``waits_s``: what the refused were told. ``failed``: set-ups that were admitted, and could not be made.
    """

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.waits_s: list[int] = []
        self.failed = 0
        self._http = http
        self._over = asyncio.Event()
        self._connected = 0
        self.all_connected = asyncio.Event()

    async def client(self, user_id: str) -> None:
        headers = bearer(user_id)
        while True:
            try:
                async with self._http.ws_connect("/ws?deviceId=device-1", headers=headers) as socket:
                    first = await socket.receive_json(loads=msgspec.json.decode)
                    if first["type"] == "error" and first["errorCode"] == "SERVICE_UNAVAILABLE":
                        self.failed += 1  # the machine stood still for longer than a statement may take
                        await asyncio.sleep(1 + random.random())
                        continue
                    assert first["type"] == "connected"
                    self._connected += 1
                    if self._connected == CLIENTS:
                        self.all_connected.set()
                    await self._over.wait()
                    return
            except aiohttp.WSServerHandshakeError as refusal:
                if refusal.status != 503 or refusal.headers is None:
                    raise
                self.waits_s.append(int(refusal.headers["Retry-After"]))
                await asyncio.sleep(self.waits_s[-1] + random.random())

    def end(self) -> None:
        self._over.set()


async def longest_pause(live: Client, until: asyncio.Event, stalls: Stalls) -> float:
    """Seconds between two frames of exchange data of one socket, at most, without those that the machine took."""
    longest_s, last_s = 0.0, time.monotonic()
    while not until.is_set():
        await live.receive_type("exchange_data")
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, stalls.took_s(last_s, now_s)), now_s
    return longest_s


async def test_a_storm_is_admitted_bit_by_bit_while_a_live_socket_goes_on(
    servers: TestServers, database: Database, exchange_port: int, stalls: Stalls
) -> None:
    environ = {
        **database.environ(),
        **servers.redis_environ(),
        "SIMULATOR_BACKEND": "service",
        "EXCHANGE_MANAGER_SERVICE": f"127.0.0.1:{exchange_port}",
    }
    async with (
        Service(environ, admission=LIMITS) as service,
        aiohttp.ClientSession(service.url, connector=aiohttp.TCPConnector(limit=0)) as http,
        connect(service, "trader") as live,
    ):
        assert (await live.ask("start_simulator"))["success"]
        await live.receive_type("exchange_data")
        storm = Storm(http)
        watching = asyncio.create_task(longest_pause(live, storm.all_connected, stalls))
        began_s = time.monotonic()
        async with asyncio.timeout(ALL_WITHIN_S), asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(storm.client(f"user-{number}"))
            await storm.all_connected.wait()
            took_s = time.monotonic() - began_s
            storm.end()
        pause_s = await watching
        registry = service.server.metrics.registry
        refused = sum(
            registry.get_sample_value("session_admission_refused_total", {"reason": reason}) or 0
            for reason in (RefusalReason.RATE, RefusalReason.SETUPS)
        )
    assert storm.failed <= 2 * LIMITS.setups, "those under way at one or two stalls"
    assert storm.waits_s, "a storm above the rate is refused in part"
    assert refused == len(storm.waits_s)
    assert min(storm.waits_s) >= 1
    assert max(storm.waits_s) <= LONGEST_RETRY_S
    rate = LIMITS.rate
    assert rate.ceiling_per_s * (rate.burst_s + took_s) >= CLIENTS, "more were admitted than the rate allows"
    assert pause_s <= LONGEST_PAUSE_S
