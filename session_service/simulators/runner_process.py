"""The runner as a child process: of a local run's supervisor, or of a pod that has no runner yet."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from session_service.aiokit.child_process import ChildProcess, ended_because
from session_service.errors import BackendUnavailableError
from session_service.simulators.runner_protocol import TOKEN_VARIABLE

START_LIMIT_S = 30.0
STOP_LIMIT_S = 5.0  # its simulators have 2 s of them
LISTENING = re.compile(rb"runner listening on 127\.0\.0\.1:(\d+)\s*")


class RunnerProcess:
    """``environ`` is the runner's whole environment but for the token; give it no secrets.

    ``start`` may be called again after it ended: it takes the port and the token that it had, so that whoever knows
    them finds it again. Its simulators are gone then.
    """

    name = "runner"

    def __init__(self, *, environ: Mapping[str, str], log_directory: Path | None, stderr: int | None = None) -> None:
        self.token = secrets.token_urlsafe(24)
        self._environ = environ
        self._log_directory = log_directory
        self._stderr = stderr
        self._port = 0
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def url(self) -> str:
        """Only after ``start``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it listens. Raises BackendUnavailableError."""
        command = [sys.executable, "-P", "-m", "session_service.simulators.runner", "--port", str(self._port)]
        if self._log_directory is not None:
            command += ["--log-directory", str(self._log_directory)]
        self._process = process = await ChildProcess.start(
            command,
            environ={**self._environ, TOKEN_VARIABLE: self.token},
            stdin=asyncio.subprocess.PIPE,  # held open: the runner ends when it ends
            stdout=asyncio.subprocess.PIPE,
            stderr=sys.stderr.fileno() if self._stderr is None else self._stderr,
        )
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        try:
            async with asyncio.timeout(START_LIMIT_S):
                match = LISTENING.fullmatch(await process.stdout.readline())
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise BackendUnavailableError(f"the runner did not listen within {START_LIMIT_S:g} s") from None
            raise
        if match is None:
            await self.stop()
            raise BackendUnavailableError(f"the runner did not start: {ended_because(await process.wait())}")
        self._port = int(match.group(1))

    async def wait(self) -> str:
        """Wait until it has ended; says how."""
        return ended_because(await self._running().wait())

    def close_input(self) -> None:
        """Ask for its end the way our own end does."""
        stdin = self._running().stdin
        if stdin is not None:
            stdin.close()

    async def stop(self) -> None:
        """End it with all its simulators."""
        if self._process is not None:
            await self._process.stop((signal.SIGTERM, STOP_LIMIT_S))

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the runner was never started")
        return self._process
