"""Ownership rows: who looks after a session. DatabaseUnavailableError may come from every method.

Repeating a claim is safe: one that was made already finds the session with its claimer, and takes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries
from session_service.domain.placement import ClaimCause, Ownership, Takeover

_TERMINATING_BATCH = 1000


class OwnershipRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def claim(self, pod_id: str, session_ids: Sequence[str]) -> list[Takeover]:
        """Take these sessions as far as the rules let this pod; what it took."""
        return _takeovers(
            await self._postgres.fetch(
                self._queries["ownership.claim"], pod_id, session_ids, operation="claim_sessions", repeatable=True
            )
        )

    async def adopt(self, pod_id: str, limit: int) -> list[Takeover]:
        """Take up to ``limit`` sessions that nobody looks after; what it took."""
        return _takeovers(
            await self._postgres.fetch(
                self._queries["ownership.adopt"], pod_id, limit, operation="adopt_sessions", repeatable=True
            )
        )

    async def get(self, session_id: str) -> Ownership | None:
        """None: the session has ended."""
        record = await self._postgres.fetch_row(
            self._queries["ownership.get"], session_id, operation="get_ownership", repeatable=True
        )
        return Ownership(record["session_id"], record["pod_id"], record["epoch"]) if record else None

    async def outrank(self, session_id: str, pod_id: str, highest_epoch: int) -> int | None:
        """Raise the epoch of what this pod owns above one that a simulator has seen. None: it does not own it."""
        epoch: int | None = await self._postgres.fetch_value(
            self._queries["ownership.outrank"],
            session_id,
            pod_id,
            highest_epoch,
            operation="outrank",
            repeatable=True,
        )
        return epoch

    async def release(self, pod_id: str, limit: int) -> list[str]:
        """Let go of up to ``limit`` sessions that have no socket on this pod; which."""
        records = await self._postgres.fetch(
            self._queries["ownership.release"], pod_id, limit, operation="release_sessions", repeatable=True
        )
        return [record["session_id"] for record in records]

    async def heartbeats_sent(self, pod_id: str, sent: Mapping[str, tuple[int, int]]) -> set[str]:
        """Record heartbeats: session id → owner's epoch and Unix seconds. Returns the sessions still owned."""
        records = await self._postgres.fetch(
            self._queries["ownership.heartbeats_sent"],
            pod_id,
            list(sent),
            [epoch for epoch, _at in sent.values()],
            [at for _epoch, at in sent.values()],
            operation="record_heartbeats",
            repeatable=True,
        )
        return {record["session_id"] for record in records}

    async def mark_terminating(self, pod_id: str, fields: Mapping[str, Any]) -> int:
        """Merge ``fields`` into the metadata of all that this pod owns or has sockets of; of how many sessions."""
        marked, last = 0, ""
        while True:
            records = await self._postgres.fetch(
                self._queries["ownership.pod_terminating"],
                pod_id,
                last,
                fields,
                _TERMINATING_BATCH,
                operation="mark_terminating",
                repeatable=True,
            )
            marked += len(records)
            if len(records) < _TERMINATING_BATCH:
                return marked
            last = max(record["session_id"] for record in records)


def _takeovers(records: Sequence[asyncpg.Record]) -> list[Takeover]:
    return [
        Takeover(
            record["claimed_session_id"],
            record["claimed_epoch"],
            ClaimCause(record["cause"]),
            record["previous_pod_id"],
        )
        for record in records
    ]
