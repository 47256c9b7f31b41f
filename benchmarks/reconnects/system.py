"""Pods with sessions whose simulators run: one exchange process serves all of them (backend ``service``)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import msgspec

from benchmarks.local_run import LocalRun
from session_service.local.ports import free_port

SETTING_UP_AT_ONCE = 8
DEVICE = "bench"
RUNNING_WITHIN_S = 60.0


class OpenedSession(msgspec.Struct, frozen=True):
    session_id: str
    token: str


@contextlib.contextmanager
def trading_system(pods: int, update_interval_ms: int, **environ: str) -> Iterator[LocalRun]:
    """A local run with an exchange that updates each session's market every ``update_interval_ms``."""
    exchange_port = free_port()
    exchange = subprocess.Popen(
        [sys.executable, "-m", "exchange_simulator"],
        env={
            **os.environ,
            "HOST": "127.0.0.1",
            "PORT": str(exchange_port),
            "UPDATE_INTERVAL_MS": str(update_interval_ms),
            "LOG_LEVEL": "ERROR",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        settings = {
            "SIMULATOR_BACKEND": "service",
            "EXCHANGE_MANAGER_SERVICE": f"127.0.0.1:{exchange_port}",
            "LOG_LEVEL": "WARNING",
            **environ,
        }
        with LocalRun(settings, pods=pods) as run:
            yield run
    finally:
        exchange.terminate()
        exchange.wait(timeout=10)


async def open_sessions(run: LocalRun, count: int) -> list[OpenedSession]:
    """A session for each of ``count`` users, with a simulator that runs."""
    places = asyncio.Semaphore(SETTING_UP_AT_ONCE)
    async with aiohttp.ClientSession(run.url) as http:

        async def open_one(number: int) -> OpenedSession:
            token = run.token(f"user-{number}")
            headers = {"Authorization": f"Bearer {token}"}
            async with places:
                async with http.post("/api/sessions", json={"deviceId": DEVICE}, headers=headers) as answer:
                    answer.raise_for_status()
                    session_id = (await answer.json())["sessionId"]
                async with http.post("/api/simulators", json={}, headers=headers) as answer:
                    answer.raise_for_status()
                query = {"sessionId": session_id}
                async with asyncio.timeout(RUNNING_WITHIN_S):
                    while True:
                        async with http.get("/api/simulators", params=query, headers=headers) as answer:
                            if (await answer.json())["simulator"]["status"] == "RUNNING":
                                return OpenedSession(session_id, token)
                        await asyncio.sleep(0.05)

        return list(await asyncio.gather(*(open_one(number) for number in range(count))))
