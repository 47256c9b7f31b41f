"""One pod of a local run: ``session-service serve`` on a port of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from session_service.aiokit.child_process import ChildProcess, ended_because
from session_service.local.files import last_lines, open_log, size_bytes
from session_service.local.ports import LOOPBACK
from session_service.local.server_error import ServerStartError

READY_LIMIT_S = 60.0
SERVE = ("-m", "session_service", "serve")
START_ATTEMPTS = 3
EXIT_CONFIGURATION = 2
POLL_INTERVAL_S = 0.02
PROBE_LIMIT_S = 2.0


class PodStatus(StrEnum):
    """A pod's process, as its supervisor knows it."""

    STARTING = "STARTING"  # it runs, and has not been ready yet
    RUNNING = "RUNNING"  # it has been ready
    STOPPING = "STOPPING"  # it was told to end, and has not yet
    STOPPED = "STOPPED"  # there is no process: it ended, and is started again soon


class PodStartError(ServerStartError):
    """A pod ended, or did not become ready. ``exit_code`` is what the run should end with."""

    def __init__(self, name: str, problem: str, output: list[str], exit_code: int) -> None:
        super().__init__(name, problem, output)
        self.exit_code = exit_code


class Pod:
    """``environ`` is the whole environment of the process. ``stop_limit_s``: what an orderly stop may take."""

    def __init__(self, name: str, port: int, *, environ: Mapping[str, str], log: Path, stop_limit_s: float) -> None:
        self.name = name
        self.port = port
        self._environ = environ
        self._log = log
        self._stop_limit_s = stop_limit_s
        self._said_before_bytes = 0
        self._process: ChildProcess | None = None
        self._was_ready = False
        self._was_told_to_end = False

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def was_told_to_end(self) -> bool:
        """Whether somebody has ended the present process on purpose (``tell_to_end``)."""
        return self._was_told_to_end

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._was_ready = self._was_told_to_end = False
        log = open_log(self._log)
        self._said_before_bytes = size_bytes(self._log)
        try:
            self._process = await ChildProcess.start(
                [sys.executable, *SERVE],
                environ=self._environ,
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(log)

    async def until_ready(self) -> None:
        """Wait for readiness (GET /readiness 200). Raises PodStartError when the process ends, or after 60 s."""
        process = self._running()
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                while process.returncode is None:
                    if await self._answers_ready():
                        self._was_ready = True
                        return
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            problem = f"it was not ready after {READY_LIMIT_S:g} s"
            raise PodStartError(self.name, problem, self.last_output(), 1) from None
        returncode = process.returncode
        exit_code = EXIT_CONFIGURATION if returncode == EXIT_CONFIGURATION else 1
        raise PodStartError(self.name, ended_because(returncode), self.last_output(), exit_code)

    async def wait(self) -> str:
        """Wait until the process has ended; says how."""
        return ended_because(await self._running().wait())

    async def look(self) -> PodStatus:
        """How it is now. One that has not been ready yet is asked, which takes ``PROBE_LIMIT_S`` at most."""
        process = self._process
        if process is None or process.returncode is not None:
            return PodStatus.STOPPED
        if self._was_told_to_end:
            return PodStatus.STOPPING
        if not self._was_ready and await self._answers_ready() and process is self._process:
            self._was_ready = True
        return PodStatus.RUNNING if self._was_ready else PodStatus.STARTING

    def tell_to_end(self, number: signal.Signals) -> bool:
        """Send SIGTERM or SIGKILL, as a person would; whoever keeps the pod starts it again. False: no process."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        self._was_told_to_end = True
        process.send_signal(number)
        return True

    async def stop(self) -> None:
        """Orderly end, or SIGKILL when it takes too long."""
        if self._process is not None:
            await self._process.stop((signal.SIGTERM, self._stop_limit_s))

    def last_output(self) -> list[str]:
        """The last lines since the latest start."""
        return last_lines(self._log, since_bytes=self._said_before_bytes)

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the pod was never started")
        return self._process

    async def _answers_ready(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    writer.write(f"GET /readiness HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return status.split(b" ", 2)[1:2] == [b"200"]
