"""Rows of ``public.sessions``. Every method is one statement; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, assert_never

import msgspec

from session_service.database.postgres import Postgres, Record
from session_service.database.sql_files import Queries
from session_service.domain.named_session import ActiveSession, NamedSession
from session_service.domain.snapshot import Snapshot
from session_service.errors import (
    ActiveSessionDeletionError,
    DatabaseUnavailableError,
    DuplicateSessionTitleError,
    NamedSessionNotFoundError,
    SchemaError,
)

_PAGE = 2000  # users in a statement: some 10 ms of PostgreSQL's time


class CacheState(msgspec.Struct, frozen=True):
    """What PostgreSQL says of the cache of active sessions (docs/named-sessions.md, "The cache").

    It is in doubt while ``doubted`` is above ``cleared``. Every change that ``settled`` sees is in it; ``snapshot``
    is the present one. ``origin``: the history that they belong to.
    """

    doubted: int
    cleared: int
    settled: Snapshot
    snapshot: Snapshot
    origin: str
    in_order: bool

    @property
    def in_doubt(self) -> bool:
        return self.doubted > self.cleared


class NamedSessionRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def create(self, user_id: int, title: str) -> ActiveSession:
        """Make a session and activate it in the place of the one that was. Raises DuplicateSessionTitleError."""
        record = await self._postgres.fetch_row(
            self._queries["named_sessions.create"], user_id, title, operation="create_named_session"
        )
        if record is None:
            raise DuplicateSessionTitleError
        return ActiveSession(str(record["new_id"]), record["new_epoch"])

    async def activate(self, user_id: int, title: str) -> ActiveSession:
        """Make the session of that title the active one. Raises NamedSessionNotFoundError."""
        record = await self._postgres.fetch_row(
            self._queries["named_sessions.activate"],
            user_id,
            title,
            operation="activate_named_session",
            repeatable=True,
        )
        if record is None:
            raise NamedSessionNotFoundError
        return ActiveSession(str(record["active_id"]), record["active_epoch"])

    async def delete(self, user_id: int, title: str) -> None:
        """Remove the session of that title. Raises NamedSessionNotFoundError, ActiveSessionDeletionError."""
        outcome: Literal["deleted", "active", "not_found"] = await self._postgres.fetch_value(
            self._queries["named_sessions.delete"], user_id, title, operation="delete_named_session"
        )
        match outcome:
            case "deleted":
                return
            case "active":
                raise ActiveSessionDeletionError
            case "not_found":
                raise NamedSessionNotFoundError
            case _:
                assert_never(outcome)

    async def list_of_user(self, user_id: int) -> list[NamedSession]:
        """All sessions of a user, the oldest first."""
        records = await self._postgres.fetch(
            self._queries["named_sessions.list"], user_id, operation="list_named_sessions", repeatable=True
        )
        return [NamedSession(str(r["id"]), r["user_id"], r["title"], r["active"]) for r in records]

    async def active(self, user_ids: Sequence[int]) -> list[ActiveSession]:
        """Which session of each user is active, and its epoch, in the order asked for; epoch 0: never had one."""
        records = await self._postgres.fetch(
            self._queries["named_sessions.active"],
            user_ids,
            operation="get_active_named_session",
            repeatable=True,
        )
        found = {record["user_id"]: _active_of(record) for record in records}
        return [found.get(user_id) or ActiveSession(None, 0) for user_id in user_ids]

    async def look(self) -> CacheState:
        """What all pods have to know of the cache; a standby cannot say."""
        record = await self._postgres.fetch_row(
            self._queries["named_sessions.look"], operation="look_at_named_session_cache", repeatable=True
        )
        if record is None:
            raise SchemaError("session.named_session_cache is empty: run `session-service migrate`")
        if record["origin"] is None:
            raise DatabaseUnavailableError
        return CacheState(
            record["doubted"],
            record["cleared"],
            Snapshot.parse(record["settled"]),
            Snapshot.parse(record["snapshot"]),
            record["origin"],
            record["in_order"],
        )

    async def doubt(self) -> int:
        """Let every pod know that the cache may be wrong. Returns ``cleared``: a doubt lasts until that grows."""
        cleared: int = await self._postgres.fetch_value(
            self._queries["named_sessions.doubt"], operation="doubt_named_session_cache", repeatable=True
        )
        return cleared

    async def changed(self, since: Snapshot, until: Snapshot | None) -> AsyncIterator[dict[int, ActiveSession]]:
        """What is active now of each user with a change that ``since`` does not see and ``until`` (None: now) does.

        Page by page, as they changed; a user that changes meanwhile comes again.
        """
        bound = None if until is None else str(until)
        if since.in_progress:
            xids = [str(xid) for xid in since.in_progress]
            async for page in self._changed_pages("named_sessions.changed_in", since.xmin, bound, xids):
                yield page
        async for page in self._changed_pages("named_sessions.changed", since.xmax, bound):
            yield page

    async def _changed_pages(
        self, query: str, first: int, bound: str | None, *xids: list[str]
    ) -> AsyncIterator[dict[int, ActiveSession]]:
        after = (first, 0)  # no user has a number below 1
        while True:
            records = await self._postgres.fetch(
                self._queries[query],
                *after,
                bound,
                _PAGE,
                *xids,
                operation="list_changed_named_sessions",
                repeatable=True,
            )
            if records:
                yield {record["user_id"]: _active_of(record) for record in records}
            if len(records) < _PAGE:
                return
            after = (records[-1]["changed_in"], records[-1]["user_id"])

    async def settle(self, settled: Snapshot, cleared: int) -> None:
        """The cache has every change that ``settled`` sees; doubts up to ``cleared`` are at their end."""
        await self._postgres.execute(
            self._queries["named_sessions.settle"],
            str(settled),
            cleared,
            operation="settle_named_session_cache",
            repeatable=True,
        )


def _active_of(record: Record) -> ActiveSession:
    return ActiveSession(None if record["id"] is None else str(record["id"]), record["epoch"])
