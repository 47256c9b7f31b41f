"""Session rows. Every method is one statement, or joins one; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from session_service.aiokit.batching import Batcher
from session_service.database.postgres import REQUEST_LIMIT_S, Postgres
from session_service.database.records import in_places, session_of
from session_service.database.sql_files import Queries
from session_service.domain.session import Session
from session_service.errors import (
    DatabaseUnavailableError,
    SessionExpiredError,
    SessionLimitReachedError,
    SessionNotFoundError,
)

_BATCH = 64
_BATCHES = 2  # at a time, of the pool's connections


class OpenedSession(msgspec.Struct, frozen=True):
    """What POST found or made. ``ended_session_id``: the session that made room for it."""

    session: Session
    is_new: bool
    ended_session_id: str | None = None


class SessionRepository:
    def __init__(self, postgres: Postgres, queries: Queries, *, timeout_s: int) -> None:
        self._postgres = postgres
        self._queries = queries
        self._timeout_s = float(timeout_s)
        self._gets = Batcher(
            self._get_together, limit=_BATCH, width=_BATCHES, within_s=REQUEST_LIMIT_S, late=DatabaseUnavailableError
        )
        self._finds = Batcher(
            self._find_together, limit=_BATCH, width=_BATCHES, within_s=REQUEST_LIMIT_S, late=DatabaseUnavailableError
        )

    async def find_by_device(self, user_id: str, device_id: str) -> Session | None:
        """The unexpired session of (user, device). Calls that come together make one statement."""
        record = await self._finds.call((user_id, device_id))
        return session_of(record) if record else None

    async def _find_together(self, wanted: Sequence[tuple[str, str]]) -> list[asyncpg.Record | None]:
        if len(wanted) == 1:
            query = self._queries["sessions.find_by_device"]
            return [await self._postgres.fetch_row(query, *wanted[0], operation="find_session", repeatable=True)]
        records = await self._postgres.fetch(
            self._queries["sessions.find_many_by_device"],
            [user_id for user_id, _device_id in wanted],
            [device_id for _user_id, device_id in wanted],
            operation="find_sessions",
            repeatable=True,
        )
        return in_places(records, len(wanted))

    async def open(
        self, session_id: str, user_id: str, device_id: str, limit: int, metadata: Mapping[str, Any], pod_id: str
    ) -> OpenedSession:
        """Find or make the session of (user, device); a new one is ``pod_id``'s to look after. Repeatable: the second
        call finds what the first made.

        Raises SessionLimitReachedError.
        """
        record = await self._postgres.fetch_row(
            self._queries["sessions.open"],
            session_id,
            user_id,
            device_id,
            self._timeout_s,
            limit,
            metadata,
            pod_id,
            operation="create_session",
            repeatable=True,
        )
        assert record is not None  # noqa: S101 - the function returns one row, always
        if record["outcome"] == "limit":
            raise SessionLimitReachedError(limit)
        # A repeated call finds what the first one made; it is as new to the caller.
        is_new = record["outcome"] == "created" or record["session_id"] == session_id
        return OpenedSession(session_of(record), is_new, record["ended_session_id"])

    async def get(self, session_id: str, user_id: str | None) -> Session:
        """Raises SessionNotFoundError, SessionExpiredError. ``user_id`` None: any user's.

        Calls that come together make one statement.
        """
        record = await self._gets.call((session_id, user_id))
        if record is None:
            raise SessionNotFoundError
        if record["is_expired"]:
            raise SessionExpiredError
        return session_of(record)

    async def _get_together(self, wanted: Sequence[tuple[str, str | None]]) -> list[asyncpg.Record | None]:
        if len(wanted) == 1:
            query = self._queries["sessions.get"]
            return [await self._postgres.fetch_row(query, *wanted[0], operation="get_session", repeatable=True)]
        records = await self._postgres.fetch(
            self._queries["sessions.get_many"],
            [session_id for session_id, _user_id in wanted],
            [user_id for _session_id, user_id in wanted],
            operation="get_sessions",
            repeatable=True,
        )
        return in_places(records, len(wanted))

    async def of_user(self, user_id: str) -> list[Session]:
        records = await self._postgres.fetch(
            self._queries["sessions.list"], user_id, operation="list_sessions", repeatable=True
        )
        return [session_of(record) for record in records]

    async def keepalive(self, session_id: str, user_id: str) -> Session | None:
        record = await self._postgres.fetch_row(
            self._queries["sessions.keepalive"],
            session_id,
            user_id,
            self._timeout_s,
            operation="keepalive",
            repeatable=True,
        )
        return session_of(record) if record else None

    async def flush_activity(
        self,
        uses_s: Mapping[str, tuple[float, float]],
        pod_id: str,
        *,
        answered_at: datetime | None,
        elapsed_s: float,
        is_all: bool,
        held: Sequence[str],
    ) -> tuple[datetime, list[str]]:
        """Record uses: session id → since and until how many seconds ago. ``is_all``: this pod knows of no other but
        those of ``held``, which calls just before this one could not record.

        Returns PostgreSQL's instant, which the next call passes as ``answered_at`` with the time since it came, and
        the sessions whose rows another transaction holds: their uses are not recorded.
        """
        record = await self._postgres.fetch_row(
            self._queries["sessions.flush_activity"],
            pod_id,
            answered_at,
            elapsed_s,
            is_all,
            held,
            list(uses_s),
            [since_s for since_s, _until_s in uses_s.values()],
            [until_s for _since_s, until_s in uses_s.values()],
            self._timeout_s,
            operation="flush_activity",
        )
        assert record is not None  # noqa: S101 - the function returns one row, always
        return record["answered_at"], record["passed_over"]

    async def end(self, session_id: str, user_id: str) -> bool | None:
        """Remove the session. True: a live simulator went with it; None: there is no such session of this user."""
        had_simulator: bool | None = await self._postgres.fetch_value(
            self._queries["sessions.end"], session_id, user_id, operation="end_session"
        )
        return had_simulator

    async def ids_of_user(self, user_id: str, device_id: str | None) -> Sequence[str]:
        records = await self._postgres.fetch(
            self._queries["sessions.ids_of_user"], user_id, device_id, operation="list_sessions", repeatable=True
        )
        return [record["session_id"] for record in records]

    async def expire(self, limit: int = 1000) -> list[tuple[str, str]]:
        """Mark what has run out, as far as every live pod has written its activity.

        Returns (session id, user id) of those that this call marked.
        """
        records = await self._postgres.fetch(self._queries["sessions.expire"], limit, operation="expire_sessions")
        return [(record["session_id"], record["user_id"]) for record in records]

    async def cleanup(self, limit: int = 1000) -> int:
        """Delete what ``expire`` has marked; how many rows. 0: none is left, or another pod is at it."""
        count: int = await self._postgres.fetch_value(
            self._queries["sessions.cleanup"], limit, operation="cleanup_sessions", repeatable=True
        )
        return count

    async def settle(self, reconnecting_limit_s: float) -> int:
        records = await self._postgres.fetch(
            self._queries["sessions.settle"], reconnecting_limit_s, operation="settle_sessions", repeatable=True
        )
        return len(records)

    async def merge_metadata(self, fields: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge fields into the metadata of several sessions, in one statement."""
        await self._postgres.execute(
            self._queries["sessions.merge_metadata"],
            list(fields),
            list(fields.values()),
            operation="merge_metadata",
            repeatable=True,
        )

    async def reconnected(
        self, session_id: str, user_id: str, client: str, attempt: int, fields: Mapping[str, Any]
    ) -> Session | None:
        """Count a reconnect, unless it was counted before; ``client`` is empty where it gave no id."""
        record = await self._postgres.fetch_row(
            self._queries["sessions.reconnected"],
            session_id,
            user_id,
            client,
            attempt,
            fields,
            operation="reconnect_session",
            repeatable=True,
        )
        return session_of(record) if record else None

    async def count_unexpired(self, pod_id: str) -> int:
        """How many unexpired sessions this pod owns."""
        count: int = await self._postgres.fetch_value(
            self._queries["sessions.count_of_pod"], pod_id, operation="count_sessions", repeatable=True
        )
        return count
