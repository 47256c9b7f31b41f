"""Brings the named sessions that another service left in order (docs/named-sessions.md).

One transaction under the table's lock: find what is to change, change it, report it, add the constraints. Titles are
chosen here, user by user; all else is done in sets by PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from session_service.database.sql_files import Queries, load_queries
from session_service.domain.named_session_order import Row, RowReport, report_row, titles_in_order
from session_service.errors import SchemaError

Connection: TypeAlias = "asyncpg.Connection[Any]"

_CONNECT_TIMEOUT_S = 10.0
# Whoever comes after one that waits for the lock waits too, readers included: so it is asked for again and again.
_LOCK_TRY_MS = 1000
_LOCK_PAUSE_S = 0.5
_LOCK_LIMIT_S = 120.0
_PAGE = 1000  # rows at a time
_SETTINGS = {
    "application_name": "session-service",
    "timezone": "UTC",
    "jit": "off",
    "work_mem": "64MB",
    "statement_timeout": "0",  # a role's own may be shorter than this work
    "lock_timeout": str(_LOCK_TRY_MS),
    # A report that nobody reads on (a pager) ends the transaction, and with it the lock.
    "idle_in_transaction_session_timeout": "60000",
}


class OrderSummary(msgspec.Struct, frozen=True):
    """``changed`` of all ``sessions`` were, or in a dry run would be, changed. ``what``: rows by what was wrong."""

    sessions: int
    changed: int
    what: dict[str, int]
    dry_run: bool
    in_order: bool


async def order_named_sessions(
    dsn: str,
    report: Callable[[Sequence[RowReport]], None],
    *,
    dry_run: bool = False,
    lock_limit_s: float = _LOCK_LIMIT_S,
) -> OrderSummary:
    """Make the rows of ``public.sessions`` keep the rules, and add the constraints that keep them so.

    ``report`` gets every row that changes, some at a time, before the transaction is committed; what it raises, and a
    cancellation, undo everything. A dry run changes nothing and takes no lock. Repeatable; safe beside itself, pods,
    and programs that write to the table.

    Raises SchemaError where the database was not migrated, others held the table for ``lock_limit_s``, a trigger of
    somebody else's changed what was written, or PostgreSQL ended the connection (a report that is not read on for 60
    s); ``asyncpg.PostgresError`` and ``OSError`` as they come.
    """
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S, server_settings=_SETTINGS)
    try:
        return await _Ordering(connection, load_queries()).run(report, dry_run, lock_limit_s)
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError) as error:
        raise SchemaError(f"{error}: run `session-service migrate` first") from error
    except asyncpg.InterfaceError as error:
        if not connection.is_closed():
            raise
        # The driver's own error is that of the ROLLBACK, which cannot be sent any more; the cause came before it.
        raise SchemaError(f"the connection was ended: {error.__context__ or error}") from error
    finally:
        await connection.close(timeout=5)


class _Ordering:
    def __init__(self, connection: Connection, queries: Queries) -> None:
        self._connection = connection
        self._queries = queries

    async def run(
        self, report: Callable[[Sequence[RowReport]], None], dry_run: bool, lock_limit_s: float
    ) -> OrderSummary:
        in_order = await self._value("named_session_order.is_in_order")
        look_only = dry_run or in_order  # the constraints let nothing in that would have to be changed
        changed, what = 0, Counter[str]()
        # A look has one snapshot; who has the lock needs one from after it was given.
        async with self._connection.transaction(isolation="repeatable_read" if look_only else "read_committed"):
            if not look_only:
                await self._lock(lock_limit_s)
            await self._find_changes()
            if not look_only:
                await self._apply()
                in_order = True
            sessions = await self._value("named_session_order.count")
            async for rows in self._changes():
                changed += sum(bool(row.becomes) for row in rows)
                what.update(disorder.value for row in rows for disorder in row.what)
                report(rows)
        return OrderSummary(sessions, changed, dict(sorted(what.items())), dry_run, in_order)

    async def _lock(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while True:
            try:
                async with self._connection.transaction():
                    await self._do("named_session_order.lock")
                return
            except asyncpg.LockNotAvailableError:
                if loop.time() > deadline:
                    raise SchemaError(f"other programs have held public.sessions for {limit_s:.0f} s") from None
            await asyncio.sleep(_LOCK_PAUSE_S)

    async def _find_changes(self) -> None:
        await self._do("named_session_order.find_surplus")
        await self._do("named_session_order.make_room_for_titles")
        longest = await self._value("named_session_order.longest_title")
        new: list[tuple[UUID, str]] = []
        async for titles in self._titles_by_user():
            given = titles_in_order([title for _id, title in titles], longest)
            new += [(row_id, now) for (row_id, was), now in zip(titles, given, strict=True) if now != was]
            if len(new) >= _PAGE:
                await self._put_titles(new)
                new = []
        await self._put_titles(new)
        await self._do("named_session_order.find_changes")

    async def _titles_by_user(self) -> AsyncIterator[list[tuple[UUID, str]]]:
        titles: list[tuple[UUID, str]] = []
        user_id = None
        async for row in self._connection.cursor(self._queries["named_session_order.list_titles"], prefetch=_PAGE):
            if titles and row["user_id"] != user_id:
                yield titles
                titles = []
            user_id = row["user_id"]
            titles.append((row["id"], row["title"]))
        if titles:
            yield titles

    async def _put_titles(self, titles: list[tuple[UUID, str]]) -> None:
        await self._connection.copy_records_to_table(
            "new_titles", schema_name="pg_temp", columns=("id", "title"), records=titles
        )

    async def _apply(self) -> None:
        await self._do("named_session_order.keep_updated_at")
        await self._do("named_session_order.apply")
        await self._do("named_session_order.touch_again")
        others = await self._value("named_session_order.count_others")
        if others:
            raise SchemaError(
                f"{others} rows of public.sessions did not take their change: has it a trigger of its own?"
            )
        if not await self._value("named_session_order.constrain"):
            raise SchemaError("the rows of public.sessions do not keep the rules: has it a trigger of its own?")

    async def _changes(self) -> AsyncIterator[list[RowReport]]:
        rows = []
        async for record in self._connection.cursor(self._queries["named_session_order.report"], prefetch=_PAGE):
            rows.append(_report_of(record))
            if len(rows) == _PAGE:
                yield rows
                rows = []
        if rows:
            yield rows

    async def _do(self, name: str) -> None:
        await self._connection.execute(self._queries[name])

    async def _value(self, name: str) -> Any:
        return await self._connection.fetchval(self._queries[name])


def _report_of(record: asyncpg.Record) -> RowReport:
    return report_row(
        record["id"],
        record["user_id"],
        Row(record["title"], record["active"], record["created_at"], record["updated_at"]),
        Row(record["new_title"], record["new_active"], record["new_created_at"], record["new_updated_at"]),
    )
