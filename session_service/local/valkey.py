"""The embedded Redis-compatible server of a local run. Nothing of it is kept: Redis only makes things fast."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from session_service.aiokit.child_process import ChildProcess, ended_because
from session_service.local.files import last_lines, open_log, size_bytes
from session_service.local.port_choice import start_on_port
from session_service.local.ports import LOOPBACK
from session_service.local.server_error import ServerStartError

START_LIMIT_S = 15.0
POLL_INTERVAL_S = 0.01
STOP_LIMIT_S = 3.0


class EmbeddedValkey:
    """One server on 127.0.0.1. ``start`` may be called again after it ended: it listens on the same port."""

    name = "Valkey"

    def __init__(self, program: Path, *, password: str, log: Path) -> None:
        self._program = program
        self._password = password
        self._log = log
        self._port: int | None = None
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("the server was never started")
        return self._port

    def url(self) -> str:
        """Only after ``start``."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    async def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerStartError."""
        self._port = await start_on_port(self._start_on, self.stop, self._port)

    async def wait(self) -> str:
        """Wait until the server has ended; says how."""
        return ended_because(await self._running().wait())

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop((signal.SIGTERM, STOP_LIMIT_S))

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    async def _start_on(self, port: int) -> None:
        # Through standard input, so that the password is on no command line.
        configuration = (
            f"bind {LOOPBACK}\n"
            f"port {port}\n"
            f"requirepass {self._password}\n"
            'save ""\n'
            "appendonly no\n"
            "daemonize no\n"
            f'dir "{self._log.parent}"\n'
        )
        log = open_log(self._log)
        said_before_bytes = size_bytes(self._log)
        reader, writer = os.pipe()
        try:
            os.write(writer, configuration.encode())  # far below what a pipe holds
            os.close(writer)
            self._process = await ChildProcess.start(
                [str(self._program), "-"],
                environ={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                cwd=self._log.parent,
                stdin=reader,
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(reader)
            os.close(log)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while self._process.returncode is None and not await self._answers(port):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            await self.stop()
        if self._process.returncode is not None:
            problem = ended_because(self._process.returncode)
            raise ServerStartError(self.name, problem, last_lines(self._log, since_bytes=said_before_bytes))

    async def _answers(self, port: int) -> bool:
        """Whether the server on this port is ours: it takes our password."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self._password}\r\n".encode())
            return await reader.readline() == b"+OK\r\n"
        except OSError:
            return False
        finally:
            writer.close()
