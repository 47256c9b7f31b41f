"""A pod as it is run for real: ``python -m session_service serve`` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import psutil

from session_service.local.ports import free_port
from tests.support.service import SECRET_KEY
from tests.support.waiting import eventually

READY_WITHIN_S = 20.0
ENDS_WITHIN_S = 30.0


class PodProcess:
    """One pod. ``http`` has its base URL. Its output, both kinds, is in ``output``."""

    def __init__(
        self, process: asyncio.subprocess.Process, port: int, log: Path, http: aiohttp.ClientSession
    ) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.http = http
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def descriptors(self) -> int:
        return int(psutil.Process(self.pid).num_fds())

    async def status(self, path: str) -> int:
        """The status of a GET; 0 where nothing answers."""
        try:
            async with self.http.get(path) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def is_ready(self, *, within_s: float = READY_WITHIN_S) -> None:
        async def answers() -> bool:
            assert self.process.returncode is None, self.output
            return await self.status("/readiness") == 200

        await eventually(answers, within_s=within_s, what="/readiness 200")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, *, within_s: float = ENDS_WITHIN_S) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def pod_process(directory: Path, environ: Mapping[str, str]) -> AsyncIterator[PodProcess]:
    """Start a pod; it may not be ready yet. At the end it is killed if it still runs."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"pod-{port}.log"
    own = {
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "POD_NAME": "pod-under-test",
        "SECRET_KEY": SECRET_KEY,
        "SIMULATOR_BACKEND": "process",
        "DRAIN_DELAY_SECONDS": "0",
        "LOG_FORMAT": "json",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "session_service", "serve"),
            env={**own, **environ},
            cwd=directory,  # no .env of the checkout
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        try:
            yield PodProcess(process, port, log, http)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
