"""The rounds over sandbox sessions that one pod makes for all: the guard, retention, and the gauges."""

from __future__ import annotations

import asyncio

import structlog

from session_service.database.sandbox_upkeep import SandboxUpkeepRepository
from session_service.errors import DatabaseUnavailableError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

GUARD_EVERY_S = 5.0
RETAIN_EVERY_S = 60.0
MEASURE_EVERY_S = 15.0
LONGEST_TRANSACTION_S = 120.0
_BATCH = 200  # rows of 1 MiB take 1 to 2 ms each, and each child of a row 0.2 ms
_LESS = 8  # by so much a batch is made smaller that takes too long
_PAUSE_S = 0.1  # between batches, for everybody else
_BATCHES_A_PASS = 500


class SandboxUpkeep:
    """``retention_days``: how long completed sessions are kept after they were made; 0: for ever.

    DatabaseUnavailableError may come from each method.
    """

    def __init__(self, repository: SandboxUpkeepRepository, metrics: Metrics, *, retention_days: int) -> None:
        self._repository = repository
        self._metrics = metrics
        self._retention_days = retention_days

    async def guard(self) -> None:
        """End what sandboxes do for too long in one transaction, and put back what they changed of their roles."""
        done = await self._repository.guard(LONGEST_TRANSACTION_S)
        if done.ended or done.put_back:
            log.warning("sandboxes_guarded", ended=done.ended, put_back=done.put_back)
            self._metrics.sandbox_guard_total.labels("ended").inc(done.ended)
            self._metrics.sandbox_guard_total.labels("put_back").inc(done.put_back)

    async def retain(self) -> None:
        """Delete what was completed and is old enough, batch by batch; the next pass goes on where it is too much.

        A batch that fails is made smaller, down to one session: children, which lose their parent, may be what takes
        too long. What is deleted stays so, also where this is cancelled.
        """
        if not self._retention_days:
            return
        removed, batch = 0, _BATCH
        try:
            for _ in range(_BATCHES_A_PASS):
                try:
                    deleted = await self._repository.delete_completed(self._retention_days, batch)
                except DatabaseUnavailableError:
                    if batch == 1:
                        raise
                    batch = max(1, batch // _LESS)
                    continue
                removed += deleted
                self._metrics.sandbox_sessions_deleted_total.inc(deleted)
                if not deleted:
                    return
                await asyncio.sleep(_PAUSE_S)
        finally:
            if removed:
                log.info("sandbox_sessions_deleted", sessions=removed, retention_days=self._retention_days)

    async def measure(self) -> None:
        """Set the gauges."""
        measures, metrics = await self._repository.measure(), self._metrics
        metrics.sandbox_database_bytes.set(measures.database_bytes)
        metrics.sandbox_table_bytes.set(measures.table_bytes)
        metrics.sandbox_slow_queries.set(measures.slow_queries)
        metrics.sandbox_oldest_pending_seconds.set(measures.oldest_pending_s)
        for status, sessions in measures.sessions.items():
            metrics.sandbox_sessions.labels(status).set(sessions)
        metrics.sandbox_connections.clear()
        for role, connections in measures.connections.items():
            metrics.sandbox_connections.labels(role).set(connections)

    def forget(self) -> None:
        """Another pod measures from now on: this one's values would be old ones."""
        metrics = self._metrics
        for gauge in (
            metrics.sandbox_database_bytes,
            metrics.sandbox_table_bytes,
            metrics.sandbox_slow_queries,
            metrics.sandbox_oldest_pending_seconds,
        ):
            gauge.set(0)
        metrics.sandbox_sessions.clear()
        metrics.sandbox_connections.clear()
