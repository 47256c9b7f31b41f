"""A real simulator process for the data plane's tests, and an exchange client that talks to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest

from session_service.clients.exchange import ExchangeClient
from session_service.domain.simulator import SimulatorAddress
from session_service.telemetry.metrics import Metrics


class SimulatorProcess:
    """``python -m exchange_simulator``, serving any session."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, port: str = "0", **environ: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "exchange_simulator",
            env={"PATH": os.environ["PATH"], "PORT": port, "HOST": "127.0.0.1", "LOG_LEVEL": "ERROR", **environ},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        self.endpoint = line.decode().split()[-1]

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def address(self, session_id: str = "session-1") -> SimulatorAddress:
        return SimulatorAddress(session_id, f"simulator-{session_id}", self.endpoint, "")


async def until(condition: Callable[[], bool], limit_s: float = 40.0) -> float:
    """Seconds until the condition held; fails after ``limit_s``."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > limit_s:
            pytest.fail(f"not within {limit_s} s")
        await asyncio.sleep(0.01)
    return time.monotonic() - began_s


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorProcess]:
    process = SimulatorProcess()
    await process.start(UPDATE_INTERVAL_MS="20")
    yield process
    await process.kill()


@pytest.fixture
async def exchange() -> AsyncIterator[ExchangeClient]:
    client = ExchangeClient("pod-1", Metrics(), time.monotonic)
    yield client
    await client.close()
