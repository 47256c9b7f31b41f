"""A pod as it is run for real: ``python -m session_service serve`` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import aiohttp
import psutil

from session_service.local.ports import free_port
from tests.support.process_faults import frozen
from tests.support.service import SECRET_KEY
from tests.support.waiting import eventually

READY_WITHIN_S = 40.0
ENDS_WITHIN_S = 30.0


class PodProcess:
    """One pod, which keeps its name and its port over restarts; ``async with`` ends in killing what still runs.

    ``http`` has its base URL. Its output, both kinds, of all its starts, is in ``output``. ``started_at`` is the
    ``time.monotonic()`` of the latest start; ``terminated_at`` that of the SIGTERM since, if there was one.
    ``launcher`` begins its command line, and is replaced by it.
    """

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        *,
        name: str = "pod-under-test",
        launcher: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http: aiohttp.ClientSession
        self.process: asyncio.subprocess.Process
        self.started_at = 0.0
        self.terminated_at: float | None = None
        self._directory = directory
        self._launcher = launcher
        self._log = directory / f"{name}-{self.port}.log"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "POD_NAME": name,
            "SECRET_KEY": SECRET_KEY,
            "SIMULATOR_BACKEND": "process",
            "DRAIN_DELAY_SECONDS": "0",
            "LOG_FORMAT": "json",
            **environ,
        }

    async def __aenter__(self) -> PodProcess:
        # No limit: every open socket counts as a connection.
        self.http = aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(limit=0))
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self.process.returncode is None:
            await self.kill()
        await self.http.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def descriptors(self) -> int:
        return int(psutil.Process(self.pid).num_fds())

    async def start(self) -> None:
        """Start the process, for the first time or again; it may not be ready yet."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self._launcher,
                sys.executable,
                *("-m", "session_service", "serve"),
                env=self._environ,
                cwd=self._directory,  # no .env of the checkout
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.started_at = time.monotonic()
        self.terminated_at = None

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

    def terminate(self) -> None:
        """SIGTERM: it drains, and ends by itself."""
        self.terminated_at = time.monotonic()
        self.signal(signal.SIGTERM)

    async def ended(self, *, within_s: float = ENDS_WITHIN_S) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP; SIGCONT at the end, whatever happened."""
        with frozen(self.pid):
            yield


@contextlib.asynccontextmanager
async def pod_process(directory: Path, environ: Mapping[str, str]) -> AsyncIterator[PodProcess]:
    """Start a pod; it may not be ready yet. At the end it is killed if it still runs."""
    async with PodProcess(directory, environ) as pod:
        yield pod
