"""The simulator processes of one runner: start, watch, end."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from session_service.aiokit import process_table
from session_service.aiokit.child_process import ChildProcess, ended_because
from session_service.simulators.backend import Workload, WorkloadPhase, WorkloadSpec
from session_service.simulators.runner_log import SimulatorLog

LISTEN_LIMIT_S = 30.0
STOP_LIMIT_S = 2.0
LISTENING = re.compile(rb"listening on (?P<host>[0-9A-Za-z.\[\]:-]+):(?P<port>[0-9]{1,5})\b")
# What a simulator gets of the runner's environment: where programs and texts are, and its own settings.
# Never a secret of the service.
PASSED_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("SEED", "UPDATE_INTERVAL_MS", "HEARTBEAT_TTL_S", "ALLOW_SHORT", "LOG_LEVEL"),
)


def simulator_environ(spec: WorkloadSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a simulator's process (docs/simulator.md#process)."""
    return {
        **{name: environ[name] for name in PASSED_VARIABLES if name in environ},
        **spec.environ(),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }


class UidMismatchError(Exception):
    """Another workload stands under this simulator id than the one that was meant."""


class _Simulator:
    """One process and what is known of it."""

    def __init__(self, workload: Workload, database_id: str, process: ChildProcess, log: SimulatorLog) -> None:
        self.workload = workload
        self.database_id = database_id
        self.process = process
        self.log = log
        self.settled = asyncio.Event()  # READY or FAILED
        self.watcher: asyncio.Task[None] | None = None


class SimulatorProcesses:
    """Every simulator of this runner, ended ones included until they are deleted.

    ``version`` differs after every change. It starts at the clock's nanoseconds, so that the one of a new runner
    differs from any that a client remembers of its predecessor.
    """

    def __init__(self, *, environ: Mapping[str, str], log_directory: Path | None) -> None:
        self._environ = environ
        self._log_directory = log_directory
        self._boot_nonce = secrets.token_hex(4)
        self._simulators: dict[str, _Simulator] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._changed = asyncio.Condition()
        self.version = time.time_ns()

    def get(self, simulator_id: str) -> Workload | None:
        found = self._simulators.get(simulator_id)
        return found.workload if found is not None else None

    def list(self, database_id: str | None = None) -> list[Workload]:
        """Those of one database, or all."""
        return [
            simulator.workload
            for simulator in self._simulators.values()
            if database_id in {None, simulator.database_id}
        ]

    async def create(self, spec: WorkloadSpec, *, wait_s: float) -> Workload:
        """Start it unless one stands under this id, running or not. Waits up to ``wait_s`` for it to listen."""
        lock = self._starting.setdefault(spec.simulator_id, asyncio.Lock())
        try:
            async with lock:
                simulator = self._simulators.get(spec.simulator_id) or await self._start(spec)
        finally:
            if not lock.locked():
                self._starting.pop(spec.simulator_id, None)
        try:
            await asyncio.wait_for(simulator.settled.wait(), wait_s)
        except TimeoutError:
            return simulator.workload
        return simulator.workload

    async def assign(self, simulator_id: str, uid: str | None, session_id: str) -> bool:
        """Note whose it is. False: there is none. Raises UidMismatchError."""
        simulator = self._simulators.get(simulator_id)
        if simulator is None:
            return False
        if uid is not None and uid != simulator.workload.uid:
            raise UidMismatchError
        simulator.workload = msgspec.structs.replace(simulator.workload, session_id=session_id)
        await self._announce()
        return True

    async def delete(self, simulator_id: str, uid: str | None) -> None:
        """End it (SIGTERM, after 2 s SIGKILL) and forget it. Raises UidMismatchError; nothing happens without one."""
        simulator = self._simulators.get(simulator_id)
        if simulator is None:
            return
        if uid is not None and uid != simulator.workload.uid:
            raise UidMismatchError
        await self._settle(simulator, WorkloadPhase.ENDING)
        await simulator.process.stop((signal.SIGTERM, STOP_LIMIT_S))
        if simulator.watcher is not None:
            await asyncio.wait({simulator.watcher})
        if self._simulators.get(simulator_id) is simulator:
            del self._simulators[simulator_id]
            await self._announce()

    async def changed_since(self, version: int, *, wait_s: float) -> None:
        """Return when the version is another than this one, or after ``wait_s``."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self.version != version), wait_s)
            except TimeoutError:
                return

    async def close(self) -> None:
        """End every simulator, and whoever waits for a change: the server's own end would wait for them."""
        await asyncio.gather(*(self.delete(simulator_id, None) for simulator_id in list(self._simulators)))
        await self._announce()

    async def _start(self, spec: WorkloadSpec) -> _Simulator:
        log = SimulatorLog(self._log_directory, spec.simulator_id, secret=spec.token)
        try:
            process = await ChildProcess.start(
                # -P: the working directory holds no modules of ours.
                [sys.executable, "-P", "-m", "exchange_simulator"],
                environ=simulator_environ(spec, self._environ),
                cwd=Path("/"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except BaseException:
            log.close()
            raise
        started = process_table.start_time(process.pid) or "ended"
        uid = f"{process.pid}-{started}-{self._boot_nonce}"
        workload = Workload(spec.simulator_id, uid, WorkloadPhase.PENDING, session_id=spec.session_id)
        simulator = _Simulator(workload, spec.database_id, process, log)
        self._simulators[spec.simulator_id] = simulator
        simulator.watcher = asyncio.create_task(self._watch(simulator), name=f"simulator {spec.simulator_id}")
        await self._announce()
        return simulator

    async def _watch(self, simulator: _Simulator) -> None:
        """Follow one process to its end."""
        process = simulator.process
        overdue = asyncio.get_running_loop().call_later(LISTEN_LIMIT_S, process.send_signal, signal.SIGKILL)
        try:
            await asyncio.gather(self._read_stdout(simulator, overdue), self._read_stderr(simulator))
            returncode = await process.wait()
        finally:
            overdue.cancel()
            simulator.log.close()
        reason = ended_because(returncode)
        if simulator.workload.phase is WorkloadPhase.PENDING:
            reason = f"did not start: {reason}"
        # Whoever was ended by a signal did not say why.
        if returncode >= 0 and (tail := simulator.log.tail()):
            reason = f"{reason}: {tail}"
        await self._settle(simulator, WorkloadPhase.FAILED, reason=reason)

    async def _read_stdout(self, simulator: _Simulator, overdue: asyncio.TimerHandle) -> None:
        assert simulator.process.stdout is not None  # noqa: S101 - it was started with a pipe
        async for line in _lines(simulator.process.stdout):
            simulator.log.write(line, telling=False)
            match = LISTENING.search(line)
            if match is not None and simulator.workload.phase is WorkloadPhase.PENDING:
                overdue.cancel()
                endpoint = f"127.0.0.1:{int(match['port'])}"
                await self._settle(simulator, WorkloadPhase.READY, endpoint=endpoint)

    @staticmethod
    async def _read_stderr(simulator: _Simulator) -> None:
        assert simulator.process.stderr is not None  # noqa: S101 - it was started with a pipe
        async for line in _lines(simulator.process.stderr):
            simulator.log.write(line, telling=True)

    async def _settle(
        self,
        simulator: _Simulator,
        phase: WorkloadPhase,
        *,
        endpoint: str | None = None,
        reason: str | None = None,
    ) -> None:
        if simulator.workload.phase is WorkloadPhase.ENDING:
            return
        simulator.workload = msgspec.structs.replace(
            simulator.workload, phase=phase, endpoint=endpoint, reason=reason
        )
        simulator.settled.set()
        await self._announce()

    async def _announce(self) -> None:
        async with self._changed:
            self.version += 1
            self._changed.notify_all()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of a stream; one that is longer than the stream's limit (64 KiB) comes in pieces."""
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError as ended:
            line = ended.partial
        except asyncio.LimitOverrunError as overrun:
            line = await stream.read(overrun.consumed)
        if not line:
            return
        yield line
