"""Pod rows: one per incarnation. Every method is one statement or one transaction."""

from __future__ import annotations

from typing import Any

import asyncpg

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries


class PodRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def register(self, pod_id: str, pod_name: str, address: str, version: str) -> int:
        """Write this incarnation's row and bury earlier ones of the same name. Returns how many sessions waited."""
        await self._postgres.execute(
            self._queries["pods.register"],
            pod_id,
            pod_name,
            address,
            version,
            operation="register_pod",
            repeatable=True,
        )
        waiting: int = await self._postgres.fetch_value(
            self._queries["pods.bury_predecessors"], pod_name, pod_id, operation="bury_pods", repeatable=True
        )
        return waiting

    async def beat(self, pod_id: str) -> bool:
        """Raise the beat. False: the row is gone or dead, and this incarnation with it."""
        value = await self._postgres.fetch_value(
            self._queries["pods.beat"], pod_id, operation="beat_pod", repeatable=True
        )
        return value is not None

    async def start_draining(self, pod_id: str) -> bool:
        """Mark this pod as draining; True when no live pod is left beside it. Decided under one lock for all pods."""

        async def work(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> bool:
            await connection.execute(self._queries["pods.start_draining"])
            await connection.execute(self._queries["pods.mark_draining"], pod_id)
            others: Any = await connection.fetchval(self._queries["pods.others_live"], pod_id)
            return bool(others == 0)

        return await self._postgres.transaction(work, operation="drain_pod")

    async def leave(self, pod_id: str) -> None:
        """Remove this incarnation's row and its sockets."""
        await self._postgres.execute(self._queries["pods.leave"], pod_id, operation="leave_pod", repeatable=True)
