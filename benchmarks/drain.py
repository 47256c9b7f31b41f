"""2,000 sockets move from a pod that drains to a second one (row 12): no gap, no duplicate, no close 1006.

500 sessions with four tabs each, on one exchange that updates each session twice a second. Every client is a
``session_service_client.SessionClient``: it is told its slot, opens a socket on the second pod, reads on from the old
one until the new one has had its first frame, and leaves. A client's pause is the longest time between two frames,
during the drain; the same measured before the drain, for as long, is what it is compared with: half a second of it is
the exchange's own interval.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import psutil
import uvloop
from session_service_client import SessionClient
from session_service_client.events import Event, ExchangeData

from benchmarks.local_run import LocalRun
from benchmarks.reconnects.system import DEVICE, OpenedSession, open_sessions, trading_system
from benchmarks.support import report, until

CLIENTS = int(os.environ.get("BENCH_CLIENTS", "2000"))
TABS = 4
WINDOW_S = int(os.environ.get("BENCH_WINDOW_S", "20"))
UPDATE_INTERVAL_MS = 500
CONNECTING_AT_ONCE = 8  # few enough that the first pod refuses none, who would go to the second
MOVED_WITHIN_S = 60.0
ABNORMAL_CLOSURE = 1006


class Pauses:
    """The longest time between two frames of one client, since ``begin``."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._last_s = time.perf_counter()

    def begin(self) -> None:
        self.longest_s = 0.0
        self._last_s = time.perf_counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ExchangeData):
            now_s = time.perf_counter()
            self.longest_s = max(self.longest_s, now_s - self._last_s)
            self._last_s = now_s


async def connect(
    run: LocalRun, sessions: list[OpenedSession], exits: AsyncExitStack
) -> tuple[list[SessionClient], list[Pauses]]:
    """CLIENTS tabs on the first pod."""
    http = await exits.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    urls = [f"http://127.0.0.1:{run.port + number}" for number in range(2)]
    places = asyncio.Semaphore(CONNECTING_AT_ONCE)
    pauses = [Pauses() for _ in range(CLIENTS)]

    async def one(number: int) -> SessionClient:
        session = sessions[number // TABS]
        client = SessionClient(
            urls,
            token=session.token,
            device_id=DEVICE,
            session_id=session.session_id,
            http=http,
            on_event=pauses[number],
            connect_timeout_s=60.0,
        )
        async with places:
            await client.__aenter__()
        return client

    clients = await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    exits.push_async_callback(_close_all, clients)
    return clients, pauses


async def _close_all(clients: list[SessionClient]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


def pod_of(client: SessionClient) -> str | None:
    return None if client.connection is None else client.connection.url


def pause_figures(name: str, pauses: list[Pauses]) -> dict[str, Any]:
    longest = sorted(one.longest_s for one in pauses)
    return {
        f"{name}: longest pause of a client, p50 s": round(statistics.median(longest), 2),
        f"{name}: longest pause of a client, p99 s": round(longest[len(longest) * 99 // 100], 2),
        f"{name}: longest pause of all, s": round(longest[-1], 2),
    }


async def measure(run: LocalRun) -> dict[str, Any]:
    sessions = await open_sessions(run, -(-CLIENTS // TABS))
    async with AsyncExitStack() as exits:
        clients, pauses = await connect(run, sessions, exits)
        first_pod = psutil.Process(run.pod_pids[0])
        second_url = f"http://127.0.0.1:{run.port + 1}"
        astray = sum(pod_of(client) == second_url for client in clients)
        for one in pauses:
            one.begin()
        await asyncio.sleep(WINDOW_S)
        figures = {"clients": CLIENTS, "window s": WINDOW_S, **pause_figures("undisturbed", pauses)}

        for one in pauses:
            one.begin()
        frames_before = sum(client.statistics.frames for client in clients)
        began_s, cpu_before_s = time.perf_counter(), time.process_time()
        first_pod.send_signal(signal.SIGTERM)
        await until(
            lambda: all(client.connected and pod_of(client) == second_url for client in clients),
            "every client has moved",
            MOVED_WITHIN_S,
        )
        moved_s = time.perf_counter() - began_s
        client_cores = (time.process_time() - cpu_before_s) / moved_s
        await asyncio.sleep(2 * UPDATE_INTERVAL_MS / 1000)  # for what the last ones to move would have missed
        totals = [client.statistics for client in clients]
        codes = sum((one.close_codes for one in totals), Counter[int]())
        move_pauses = sorted(one.longest_pause_s for one in totals)
        return {
            **figures,
            **pause_figures("drain", pauses),
            "drain: from the last frame of the old socket to the first of the new, p99 s": round(
                move_pauses[len(move_pauses) * 99 // 100], 3
            ),
            "drain: all moved after s": round(moved_s, 1),
            "on the second pod already": astray,
            "moved before they were closed": sum(one.moves for one in totals),
            "closed by the server, by code": dict(codes),
            "close 1006": codes[ABNORMAL_CLOSURE],
            "gaps": sum(one.gaps + one.snapshots_skipping for one in totals),
            "duplicates": sum(one.duplicates for one in totals),
            "not resumed": sum(one.not_resumed for one in totals),
            "upgrades refused": sum(one.refused for one in totals),
            "frames checked": sum(one.frames for one in totals) - frames_before,
            "cores that the clients took": round(client_cores, 2),
            "goal: p99 s": 1.0,
        }


def main() -> None:
    with trading_system(2, UPDATE_INTERVAL_MS, DRAIN_WINDOW_SECONDS=str(WINDOW_S), DRAIN_DELAY_SECONDS="0") as run:
        figures = uvloop.run(measure(run))
    report("drain", ("aiohttp", "grpcio", "uvloop"), figures)


if __name__ == "__main__":
    main()
