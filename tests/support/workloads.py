"""Simulators that outlive pods: a runner, or one exchange, that a test's pods share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec
import psutil
from yarl import URL

from session_service.simulators.runner_process import RunnerProcess
from session_service.simulators.runner_protocol import WorkloadList
from session_service.simulators.runner_simulators import PASSED_VARIABLES

_LISTENING = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")


class Workloads(Protocol):
    """Where the simulators of a cluster run. ``environ``: what its pods need to reach them."""

    @property
    def environ(self) -> Mapping[str, str]: ...

    async def simulator_ids(self) -> set[str]:
        """The simulators that run there at this moment, asked of the place itself."""


class SharedRunner:
    """One runner, as ``session-service local`` has it: a process for every simulator."""

    def __init__(self, runner: RunnerProcess) -> None:
        self._runner = runner
        self.environ: Mapping[str, str] = {
            "SIMULATOR_BACKEND": "process",
            "SIMULATOR_RUNNER_URL": runner.url,
            "SIMULATOR_RUNNER_TOKEN": runner.token,
        }

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for the runner alone: its simulators go on, and whoever asks it for anything waits."""
        process = psutil.Process(self._runner.pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    def calls_of(self, pid: int) -> int:
        """How many connections a process has to the runner."""
        port = URL(self._runner.url).port
        connections = psutil.Process(pid).net_connections(kind="tcp")
        return sum(1 for one in connections if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED")

    async def simulator_ids(self) -> set[str]:
        headers = {"Authorization": f"Bearer {self._runner.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self._runner.url}/simulators") as response,
        ):
            listed = msgspec.json.decode(await response.read(), type=WorkloadList)
        return {workload.simulator_id for workload in listed.workloads}


class SharedExchange:
    """One exchange for all sessions. ``starts``: how many states it has made for each session so far."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self.environ: Mapping[str, str] = {
            "SIMULATOR_BACKEND": "service",
            "EXCHANGE_MANAGER_SERVICE": f"127.0.0.1:{port}",
        }

    @property
    def starts(self) -> Counter[str]:
        return Counter(session_id for event, session_id, _ in self._events() if event == "session started")

    async def simulator_ids(self) -> set[str]:
        there: set[str] = set()
        for event, _, simulator_id in self._events():
            if event == "session started":
                there.add(simulator_id)
            else:
                there.discard(simulator_id)
        return there

    def _events(self) -> list[tuple[str, str, str]]:
        """Event, session, simulator: the lines that the exchange has written of each state's beginning and end."""
        lines = [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]
        return [
            (line["event"], line["session_id"], line["simulator_id"])
            for line in lines
            if line["event"].startswith(("session started", "session dropped"))
        ]


@contextlib.asynccontextmanager
async def shared_runner(directory: Path, **environ: str) -> AsyncIterator[SharedRunner]:
    """A runner whose simulators have these variables. It ends, with them, at the block's end."""
    passed = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "runner.log").open("ab") as log:
        runner = RunnerProcess(environ={**passed, **environ}, log_directory=None, stderr=log.fileno())
        await runner.start()
        try:
            yield SharedRunner(runner)
        finally:
            await runner.stop()


@contextlib.asynccontextmanager
async def shared_exchange(directory: Path, **environ: str) -> AsyncIterator[SharedExchange]:
    """An exchange with these variables. It ends with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "exchange.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "exchange_simulator"),
            env={"HOST": "127.0.0.1", "PORT": "0", "PYTHONUNBUFFERED": "1", **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            match = _LISTENING.search(await process.stdout.readline())
        assert match is not None
        yield SharedExchange(int(match[1]), log)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        # The transport's own end, so that no pipe is left to the garbage collector.
        process._transport.close()  # type: ignore[attr-defined] # asyncio has no public way
