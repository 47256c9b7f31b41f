"""Rows of ``public.session``. Every method is one statement; DatabaseUnavailableError may come from each.

A value that PostgreSQL refuses raises InvalidRequestError or PayloadTooLargeError, which name its field
(``session_service/database/postgres.py``). JSON goes in and comes out as text.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from session_service.database.postgres import Postgres, Record
from session_service.database.sql_files import Queries
from session_service.domain.inbox import InboxStatus
from session_service.domain.sandbox_session import FieldChanges, Position, SandboxPage, SandboxSession
from session_service.errors import SessionNotFoundError

MAX_PAGE_BYTES = 4 * 1024 * 1024  # of content: what a page has beyond it is in the next one


class SandboxSessionRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def create(
        self, messages: str | None, status: InboxStatus | None, sbx_config: str | None, parent: str | None
    ) -> SandboxSession:
        """Make a session."""
        return await self._one(
            self._queries["sandbox_sessions.create"], "create_sandbox_session", messages, status, sbx_config, parent
        )

    async def get(self, session_id: str) -> SandboxSession:
        """Raises SessionNotFoundError."""
        return await self._one(
            self._queries["sandbox_sessions.get"], "get_sandbox_session", session_id, repeatable=True
        )

    async def page(
        self, status: InboxStatus | None, parent: str | None, after: Position | None, limit: int
    ) -> SandboxPage:
        """Up to ``limit`` sessions, the oldest first, from ``after`` on; fewer where they are large."""
        position = (None, None) if after is None else (after.created_at, after.id)
        return await self._some(
            self._queries["sandbox_sessions.page"], "list_sandbox_sessions", status, parent, *position, limit
        )

    async def children(self, session_id: str, depth: int, limit: int) -> SandboxPage:
        """What stands below, level by level. Raises SessionNotFoundError."""
        return await self._some(
            self._queries["sandbox_sessions.children"], "list_sandbox_children", session_id, depth, limit
        )

    async def change(self, session_id: str, change: FieldChanges) -> SandboxSession:
        """Set fields. Raises SessionNotFoundError."""
        return await self._one(
            self._queries["sandbox_sessions.change"],
            "change_sandbox_session",
            session_id,
            *_to_set(change.messages),
            *_to_set(change.inbox_status),
            *_to_set(change.sbx_config),
            *_to_set(change.parent),
        )

    async def delete(self, session_id: str) -> None:
        """Delete a session. Raises SessionNotFoundError."""
        if not await self._postgres.fetch_value(
            self._queries["sandbox_sessions.delete"], session_id, operation="delete_sandbox_session"
        ):
            raise SessionNotFoundError

    async def append(self, session_id: str, message: str) -> SandboxSession:
        """Add a message. Raises SessionNotFoundError."""
        return await self._one(
            self._queries["sandbox_sessions.append"], "append_sandbox_session", session_id, message
        )

    async def claim(self, worker: str, visibility_s: float) -> SandboxSession | None:
        """The next piece of work, claimed for ``visibility_s``; None where there is nothing."""
        record = await self._postgres.fetch_row(
            self._queries["sandbox_sessions.claim"], worker, visibility_s, operation="claim_sandbox_session"
        )
        return None if record is None else _session_of(record)

    async def release(self, session_id: str, claim: str) -> None:
        """Put work back that nobody has seen; it has had no attempt. Somebody else's by now stays theirs."""
        await self._postgres.execute(
            self._queries["sandbox_sessions.release"],
            session_id,
            claim,
            operation="release_sandbox_session",
            repeatable=True,
        )

    async def extend(self, session_id: str, claim: str, visibility_s: float) -> SandboxSession:
        """Raises ClaimLostError."""
        return await self._one(
            self._queries["sandbox_sessions.extend"],
            "extend_sandbox_session",
            session_id,
            claim,
            visibility_s,
            repeatable=True,
        )

    async def complete(self, session_id: str, claim: str, messages: str | None) -> SandboxSession:
        """Raises ClaimLostError. ``messages``: None leaves them as they are."""
        return await self._one(
            self._queries["sandbox_sessions.complete"], "complete_sandbox_session", session_id, claim, messages
        )

    async def fail(self, session_id: str, claim: str, error: str | None, *, retry: bool) -> SandboxSession:
        """Raises ClaimLostError."""
        return await self._one(
            self._queries["sandbox_sessions.fail"], "fail_sandbox_session", session_id, claim, error, retry
        )

    async def _one(self, query: str, operation: str, *args: Any, repeatable: bool = False) -> SandboxSession:
        record = await self._postgres.fetch_row(query, *args, operation=operation, repeatable=repeatable)
        if record is None:
            raise SessionNotFoundError
        return _session_of(record)

    async def _some(self, query: str, operation: str, *args: Any) -> SandboxPage:
        records = await self._postgres.fetch(query, *args, MAX_PAGE_BYTES, operation=operation, repeatable=True)
        shown = [record for record in records if not record["beyond"]]
        last = Position(shown[-1]["position"], str(shown[-1]["id"])) if len(shown) < len(records) else None
        return SandboxPage(tuple(_session_of(record) for record in shown), last)


def _to_set(value: str | UnsetType | None) -> tuple[bool, str | None]:
    """Whether to set it, and to what."""
    return (False, None) if value is UNSET else (True, value)


def _session_of(record: Record) -> SandboxSession:
    status, parent, claim = record["inbox_status"], record["parent"], record["claim"]
    return SandboxSession(
        id=str(record["id"]),
        messages=record["messages"],
        inbox_status=None if status is None else InboxStatus(status),
        sbx_config=record["sbx_config"],
        parent=None if parent is None else str(parent),
        created_at=record["created_at"],
        updated_at=record["updated_at"],
        claim=None if claim is None else str(claim),
    )
