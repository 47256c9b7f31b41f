"""Rows of ``public.sessions``. Every method is one statement; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from typing import Literal, assert_never

from session_service.database.postgres import Postgres
from session_service.database.sql_files import Queries
from session_service.domain.named_session import ActiveSession, NamedSession
from session_service.errors import ActiveSessionDeletionError, NamedSessionNotFoundError


class NamedSessionRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def create(self, user_id: int, title: str) -> ActiveSession:
        """Make a session and activate it in the place of the one that was. Raises DuplicateSessionTitleError."""
        record = await self._postgres.fetch_row(
            self._queries["named_sessions.create"], user_id, title, operation="create_named_session"
        )
        assert record is not None  # noqa: S101 - the function returns one row, or raises
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

    async def active(self, user_id: int) -> ActiveSession:
        """Which session of the user is active, and its epoch; epoch 0 where the user never had one."""
        record = await self._postgres.fetch_row(
            self._queries["named_sessions.active"], user_id, operation="get_active_named_session", repeatable=True
        )
        if record is None:
            return ActiveSession(None, 0)
        return ActiveSession(None if record["id"] is None else str(record["id"]), record["epoch"])
