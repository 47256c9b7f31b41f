"""One database and its pods over a platform that others may share, and whether everything has come to rest there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any, Generic, Protocol, TypeVar

import asyncpg

from session_service.config import Settings
from session_service.config import load as load_settings
from session_service.database.postgres import Postgres
from session_service.database.sql_files import load_queries
from session_service.domain.simulator import DEFAULT_CASH, Simulator, SimulatorStatus
from session_service.simulators.backend import SimulatorBackend
from session_service.telemetry.metrics import Metrics
from tests.support.invariants import violations
from tests.support.mishaps import OutgoingCalls
from tests.support.pod_parts import PodParts
from tests.support.servers import Database
from tests.support.service import SECRET_KEY
from tests.support.workload_host import WorkloadHost


class Host(Protocol):
    """Where the workloads of an installation are, and what only a test asks of such a place.

    ``overlaps``: simulators that were placed while another one of the same session stood, and which that was.
    """

    overlaps: list[tuple[str, str]]

    def calls(self) -> OutgoingCalls:
        """The calls of a pod that is to use this host."""

    def platform(self, label: str, calls: OutgoingCalls) -> SimulatorBackend:
        """The platform as a pod of one installation sees it."""

    def workloads(self, label: str) -> dict[str, str]:
        """What stands there at this moment: simulator id → uid."""

    def lose(self, simulator_id: str) -> None:
        """A workload vanishes, and nobody of the service has done it."""

    def states(self, label: str) -> dict[str, int]:
        """Which of them have a state at their exchange: simulator id → its epoch."""


H = TypeVar("H", bound=Host)

SYMBOLS = ("AAPL",)
AT_REST_WITHIN_S = 30.0


class InstallationOn(Generic[H]):
    """One database and its pods over a host that it may share; ``label`` is on its workloads."""

    def __init__(self, label: str, settings: Settings, host: H, postgres: Postgres, sql: asyncpg.Pool[Any]) -> None:
        self.label = label
        self.host = host
        self.sql = sql
        self._settings = settings
        self._postgres = postgres
        self._queries = load_queries()
        self.metrics = Metrics()
        self._numbers = itertools.count(1)

    @contextlib.asynccontextmanager
    async def pod(self) -> AsyncIterator[PodParts]:
        calls = self.host.calls()
        pod = PodParts(
            f"pod-{next(self._numbers)}",
            self._settings,
            self._postgres,
            self._queries,
            self.host.platform(self.label, calls),
            calls,
            self.metrics,
        )
        await pod.register()
        try:
            yield pod
        finally:
            await pod.close()

    async def declare_dead(self, pod: PodParts) -> None:
        """As after its lease; those of the teardowns that it held run out too."""
        await self.sql.execute("UPDATE session.pods SET dead = TRUE, died_at = now() WHERE pod_id = $1", pod.pod_id)

    async def time_passes(self) -> None:
        """Leases have run out, and what was to take effect by now has, or never will."""
        await self.sql.execute(
            "UPDATE simulator.teardowns SET leased_until = '-infinity', create_until = '-infinity';"
            "UPDATE simulator.instances SET create_until = '-infinity';"
            "UPDATE simulator.warm_pool SET create_until = '-infinity'"
        )

    async def unrest(self) -> dict[str, object]:
        """What is still to come about, or will never: rows against workloads against states at exchanges."""
        rows = await self.sql.fetch("SELECT simulator_id, status, target, workload_uid FROM simulator.instances")
        wanted = {row["simulator_id"]: row["workload_uid"] for row in rows if row["target"] == "RUNNING"}
        spares = await self.spares()
        workloads = self.host.workloads(self.label)
        states = self.host.states(self.label)
        found: dict[str, object] = {
            "on their way": [tuple(row) for row in rows if row["status"] in {"CREATING", "STARTING", "STOPPING"}],
            "sessions that have run out": [
                tuple(row)
                for row in await self.sql.fetch(
                    "SELECT session_id FROM session.active_sessions WHERE expires_at < now()"
                )
            ],
            "teardowns": [tuple(row) for row in await self.sql.fetch("SELECT simulator_id FROM simulator.teardowns")],
            "spares on their way": [spare for spare, uid in spares.items() if uid is None],
            "spares too few or too many": len(spares) - self._settings.simulator.warm_pool_size,
            "rows without a workload": sorted((wanted | spares).items() - workloads.items()),
            "workloads without a row": sorted(workloads.items() - (wanted | spares).items()),
            "running without a state": sorted(wanted.keys() - states.keys()),
            "states that nobody runs": sorted(states.keys() - wanted.keys()),
        }
        if found["teardowns"] or found["on their way"] or found["spares on their way"]:
            await self.time_passes()
        return {name: what for name, what in found.items() if what}

    async def spares(self) -> dict[str, str | None]:
        """Simulator id → uid of those that are ready; None while one is on its way."""
        rows = await self.sql.fetch("SELECT simulator_id, status, workload_uid FROM simulator.warm_pool")
        return {row["simulator_id"]: row["workload_uid"] if row["status"] == "READY" else None for row in rows}

    async def at_rest(self) -> bool:
        return not await self.unrest()

    async def brought_to_rest_by(self, pod: PodParts) -> None:
        """``pod`` makes its rounds, one at least, until everything is as it should be."""
        deadline = asyncio.get_running_loop().time() + AT_REST_WITHIN_S
        while True:
            await pod.round()
            await pod.quiet()
            if not (unrest := await self.unrest()):
                return
            assert asyncio.get_running_loop().time() < deadline, unrest

    async def is_sound(self) -> None:
        async with self.sql.acquire() as connection:
            broken = await violations(connection)  # type: ignore[arg-type] # the pool's proxy is one in all but its type
        assert not broken, broken

    async def newest(self, session_id: str) -> tuple[str, str | None] | None:
        """Status and reason of the session's newest simulator."""
        row = await self.sql.fetchrow(
            "SELECT status, reason FROM simulator.instances WHERE session_id = $1 ORDER BY created_at DESC LIMIT 1",
            session_id,
        )
        return None if row is None else (row["status"], row["reason"])


Installation = InstallationOn[WorkloadHost]


@contextlib.asynccontextmanager
async def installation(database: Database, host: H, **environ: str) -> AsyncIterator[InstallationOn[H]]:
    """``environ``: variables of its pods beside those that they need."""
    settings = load_settings(
        {**database.environ(), "SECRET_KEY": SECRET_KEY, "SIMULATOR_BACKEND": "process", **environ}
    ).settings
    postgres = Postgres(settings.database, Metrics())
    await postgres.open()
    try:
        # Some connections: a pod that is being driven and its test look at the same time.
        async with asyncpg.create_pool(database.owner_dsn, min_size=1, max_size=4) as sql:
            yield InstallationOn(database.name, settings, host, postgres, sql)
    finally:
        await postgres.close()


async def running_simulator(pod: PodParts, session_id: str, user_id: str) -> Simulator:
    """Ask for one and make rounds until it runs."""
    simulator, _ = await pod.simulators.create_simulator(session_id, user_id, SYMBOLS, DEFAULT_CASH)
    deadline = asyncio.get_running_loop().time() + AT_REST_WITHIN_S
    while True:
        await pod.quiet()
        started = await pod.simulators.get(simulator.simulator_id, user_id)
        assert started is not None
        if started.status is SimulatorStatus.RUNNING:
            return started
        assert asyncio.get_running_loop().time() < deadline, started
        await pod.round()
