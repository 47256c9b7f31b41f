"""A pod without its sockets and loops: what creates, stops, adopts and removes, by calls that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from session_service.aiokit.backoff import Backoff
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.clients.exchange import ExchangeClient
from session_service.config import Settings
from session_service.database.events import EventBus
from session_service.database.orphans import OrphanRepository
from session_service.database.ownership import OwnershipRepository
from session_service.database.pods import PodRepository
from session_service.database.postgres import Postgres
from session_service.database.presence import PodPresence
from session_service.database.redis import Redis
from session_service.database.sessions import SessionRepository
from session_service.database.simulators import SimulatorRepository
from session_service.database.sql_files import Queries
from session_service.database.start_queue import StartQueueRepository
from session_service.database.warm_pool import WarmPoolRepository
from session_service.domain.identity import ClientInfo, Identity
from session_service.errors import (
    DatabaseUnavailableError,
    ExchangeUnavailableError,
    UnavailableError,
)
from session_service.sessions.activity import ActivityLog
from session_service.sessions.metadata_log import MetadataLog
from session_service.sessions.ownership import SessionOwnership
from session_service.sessions.session_ops import SessionOps
from session_service.simulators.backend import SimulatorBackend
from session_service.simulators.manager import SimulatorManager
from session_service.simulators.orphan_sweep import OrphanSweep
from session_service.simulators.reconciler import Reconciler
from session_service.simulators.running import RunningSimulators
from session_service.simulators.start_queue import StartQueue
from session_service.simulators.teardowns import Teardowns
from session_service.simulators.tokens import SimulatorTokens
from session_service.simulators.warm_pool import WarmPool
from session_service.telemetry.metrics import Metrics
from tests.support.mishaps import OutgoingCalls, Watched


class PodParts:
    """One incarnation. Its rounds are made when they are called: ``round`` makes each of them once.

    ``postgres`` and ``metrics`` are shared with other pods of the test; the connection to simulators is its own.
    ``platform`` is what it calls by ``calls``.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        postgres: Postgres,
        queries: Queries,
        platform: SimulatorBackend,
        calls: OutgoingCalls,
        metrics: Metrics,
    ) -> None:
        clock = asyncio.get_running_loop().time
        self.pod_id = f"{name}#1"
        self.name = name
        self.calls = calls
        statements = cast("Postgres", Watched(postgres, self.calls, DatabaseUnavailableError))
        self._exchange = ExchangeClient(name, metrics, clock)
        redis = Redis(settings.redis, CircuitBreaker("redis", clock=clock))  # nothing is ever sent
        self._events = EventBus(redis, name)
        self._statements = statements
        self._queries = queries
        sessions = SessionRepository(statements, queries, timeout_s=settings.session.timeout_s)
        simulators = SimulatorRepository(statements, queries)
        self._pods = PodRepository(statements, queries)
        self.ownership = SessionOwnership(
            OwnershipRepository(statements, queries),
            self._events,
            metrics,
            pod_id=self._pod_id,
            on_taken=self._taken,
        )
        running = RunningSimulators(clock)
        tokens = SimulatorTokens(self._simulator_key)
        exchange = cast("ExchangeClient", Watched(self._exchange, self.calls, ExchangeUnavailableError))
        self.starts = StartQueue(
            StartQueueRepository(statements, queries, limit=settings.simulator.max_concurrent_starts),
            self._events,
            metrics,
            pod_id=self._pod_id,
        )
        self.teardowns = Teardowns(simulators, platform, exchange, tokens, self._events, metrics)
        self.reconciler = Reconciler(
            simulators,
            platform,
            exchange,
            tokens,
            self.teardowns,
            self.starts,
            self._events,
            running,
            metrics,
            pod_id=self._pod_id,
            owner=self.ownership,
        )
        self.orphans = OrphanSweep(
            OrphanRepository(statements, queries),
            simulators,
            platform,
            metrics,
            tear_down=self.teardowns.work_off,
        )
        size = settings.simulator.warm_pool_size
        self.spares = WarmPoolRepository(statements, queries)
        self.warm_pool = WarmPool(
            self.spares,
            simulators,
            platform,
            tokens,
            self._events,
            metrics,
            size=size,
            start_limit=settings.simulator.max_concurrent_starts,
            database_id=OrphanRepository(statements, queries).database_id,
            pod_id=self._pod_id,
            clock=clock,
            after_failures=Backoff(first_s=0.01, max_s=0.1),
        )
        self._pool_rounds = (self.warm_pool.inspect, self.warm_pool.refill) if size else ()
        self.simulators = SimulatorManager(
            simulators,
            self.reconciler,
            self.teardowns,
            self.starts,
            tokens,
            self._events,
            running,
            metrics,
            pod_id=self._pod_id,
            max_per_user=settings.simulator.max_per_user,
            spare_recipe=platform.recipe if size else None,
        )
        self.sessions = SessionOps(
            sessions,
            PodPresence(redis, name, lease_s=settings.pod.lease_s),
            self._events,
            ActivityLog(sessions, timeout_s=settings.session.timeout_s, clock=clock, pod_id=self._pod_id),
            MetadataLog(sessions),
            metrics,
            pod_name=name,
            pod_id=self._pod_id,
            max_per_user=settings.session.max_per_user,
        )

    async def register(self) -> None:
        await self._pods.register(self.pod_id, self.name, f"{self.name}:8080", "test")

    async def close(self) -> None:
        """End what runs, as the process's end does: no call is made for it."""
        await self.reconciler.close()
        await self._exchange.close()

    async def open_session(self, user_id: str) -> str:
        session, _is_new = await self.sessions.open(identity(user_id), "device-1", ClientInfo())
        return session.session_id

    async def round(self) -> None:
        """What the loops of a pod do again and again. A round that fails is made again with the next one."""
        for made in (
            self.ownership.adopt,
            self.starts.round,
            self.reconciler.resync,
            self.reconciler.beat,
            self.sessions.expire,
            self.sessions.cleanup,
            *self._pool_rounds,
            self.teardowns.work_off,
            self.orphans.sweep,
        ):
            with contextlib.suppress(UnavailableError):
                await made()

    async def quiet(self) -> None:
        """Wait until the reconciler has nothing to do but what waits for its time."""
        await self.reconciler._queue.join()

    def starts_tried(self) -> int:
        """Of how many starts the reconciler keeps what it has tried."""
        return len(self.reconciler._attempts)

    async def drive(
        self, operation: Callable[[PodParts], Awaitable[object]], at_rest: Callable[[], Awaitable[bool]]
    ) -> None:
        """Carry out a request, which may be refused, and make rounds until everything is at rest."""
        with contextlib.suppress(UnavailableError):
            await operation(self)
        while True:
            await self.quiet()
            if await at_rest():
                return
            await self.round()

    def _pod_id(self) -> str:
        return self.pod_id

    async def _taken(self, session_ids: Sequence[str]) -> None:
        await self.reconciler.look_at(session_ids)

    async def _simulator_key(self) -> str:
        record = await self._statements.fetch_row(
            self._queries["installation.get"], operation="get_installation", repeatable=True
        )
        assert record is not None
        return str(record["simulator_key"])


def identity(user_id: str) -> Identity:
    return Identity(user_id, time.time() + 600)
