"""`session-service order-named-sessions`: what another service left is brought in order, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from session_service.database.migrations import migrate
from session_service.database.named_session_order import order_named_sessions
from session_service.domain.named_session_order import RowReport, titles_in_order
from session_service.errors import SchemaError
from session_service.local.binaries import find_postgres
from session_service.local.ports import free_port
from tests.support.cluster_template import SERVICE_ROLE
from tests.support.documented_table import AS_WRITTEN, OF_THE_MODEL, ROWS, migrated, on
from tests.support.named_client import NamedClient
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

# User 1: two titles twice, one that another would get, three active. 2: titles that are none. 3: nulls. 4: in order.
# 5: none active. 0, -5: whom no token names. Hundreds more, for pages; everything at once for each.
MESS = """
    INSERT INTO sessions (user_id, title, active, created_at, updated_at) VALUES
        (1, 'a', FALSE, '2026-01-01', '2026-01-01'), (1, 'a', TRUE, '2026-01-02', '2026-01-05'),
        (1, 'a', TRUE, '2026-01-03', '2026-01-04'), (1, 'a (2)', TRUE, '2026-01-04', '2026-01-03'),
        (1, 'ü', FALSE, '2026-01-05', '2026-01-05'), (1, 'ü', FALSE, '2026-01-04', '2026-01-05'),
        (2, '', FALSE, '2026-01-01', '2026-01-01'), (2, '', TRUE, '2026-01-01', '2026-01-01'),
        (2, repeat('🙂', 1001), FALSE, '2026-01-01', '2026-01-01'),
        (2, repeat('🙂', 5000), FALSE, '2026-01-01', '2026-01-01'),
        (2, repeat('🙂', 1000), FALSE, '2026-01-01', '2026-01-01'),
        (3, 'a', NULL, '2026-01-01', '2026-01-02'), (3, 'b', TRUE, NULL, '2026-01-02'),
        (3, 'c', FALSE, '2026-01-01', NULL), (3, 'd', NULL, NULL, NULL), (3, 'e', TRUE, '-infinity', 'infinity'),
        (4, 'a', FALSE, '2026-01-01', '2026-01-02'), (4, 'b', TRUE, '2026-01-01', '2026-01-02'),
        (5, 'a', FALSE, '2026-01-01', '2026-01-02'),
        (0, 'a', TRUE, '2026-01-01', '2026-01-02'), (0, 'a', TRUE, '2026-01-01', '2026-01-02'),
        (-5, 'fine', TRUE, '2026-01-01', '2026-01-02');
    INSERT INTO sessions (user_id, title, active, created_at, updated_at)
    SELECT 100 + n / 10, CASE n % 5 WHEN 0 THEN '' ELSE 'title ' || n % 3 END, n % 4 = 0,
           timestamptz '2026-01-01' + make_interval(mins => n * 7 % 50), '2026-01-02' FROM generate_series(0, 2999) n;
"""

Line = dict[str, Any]


class Command:
    """`session-service order-named-sessions` on the old service's database."""

    def __init__(self, database: Database, directory: Path) -> None:
        owner = urlsplit(database.owner_dsn)
        self._directory = directory
        self._environ = {
            "PATH": os.environ["PATH"],
            **on(database),
            "MIGRATE_DB_USER": owner.username or "",
            "MIGRATE_DB_PASSWORD": owner.password or "",
        }

    async def try_run(self, *arguments: str, **environ: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = await self._start(arguments, environ, subprocess.PIPE)
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    async def run_unread(self) -> tuple[int, str]:
        """Into a pipe that nobody reads: exit code, standard error."""
        reading, writing = os.pipe()
        os.close(reading)
        try:
            process = await self._start((), {}, writing)
        finally:
            os.close(writing)
        async with asyncio.timeout(60):
            _, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, errors.decode()

    async def _start(
        self, arguments: Sequence[str], environ: Mapping[str, str], output: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "session_service", "order-named-sessions", *arguments),
            env={**self._environ, **environ},
            cwd=self._directory,
            stdout=output,
            stderr=subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> tuple[list[Line], Line]:
        """The lines, and the summary."""
        code, output, errors = await self.try_run(*arguments)
        assert (code, errors) == (0, "")
        *lines, last = (json.loads(line) for line in output.splitlines())
        return lines, last["summary"]


@pytest.fixture
def command(database: Database, old: Sql, tmp_path: Path) -> Command:
    return Command(database, tmp_path)


@pytest.fixture
async def messy(old_dsn: str, old: Sql) -> Sql:
    """The migrated database of the old service, whose table has everything that can be wrong with it."""
    await old.execute(OF_THE_MODEL)
    await old.execute(MESS)
    await migrated(old_dsn)
    assert not await old.fetchval("SELECT in_order FROM session.named_session_cache")
    return old


Rows = dict[str, Line]


async def rows_of(connection: Sql) -> Rows:
    """Every row by its id, instants as a report shows them."""
    await connection.execute("SET timezone = 'UTC'")
    listed = await connection.fetchval(f"SELECT json_agg(r) FROM ({ROWS}) r")  # noqa: S608 - a constant
    return {row["id"]: row for row in json.loads(listed)}


def undone(after: Rows, lines: Sequence[Line]) -> Rows:
    """What was there before, by the report alone."""
    found = {row_id: dict(row) for row_id, row in after.items()}
    for line in lines:
        row = found[line["id"]]
        assert {column: row[column] for column in line["to"]} == line["to"]
        row.update(line["from"])
    return found


def by_the_rules(before: Rows) -> Rows:
    """What the rows are to become: the documented rules once more, row by row."""
    after = {row_id: dict(row) for row_id, row in before.items()}
    epoch = "1970-01-01T00:00:00+00:00"
    last, first = "~", ""  # after, and before, every instant that there is but -infinity

    def age(instant: str | None, unknown: str) -> str:
        return unknown if instant is None else {"infinity": "9", "-infinity": "-"}.get(instant, instant)

    for user_id in {row["user_id"] for row in before.values()}:
        own = sorted(row_id for row_id in before if before[row_id]["user_id"] == user_id)
        active = [row_id for row_id in own if before[row_id]["active"]]
        newest = sorted(active, key=lambda row_id: age(before[row_id]["created_at"], first), reverse=True)
        newest.sort(key=lambda row_id: age(before[row_id]["updated_at"], first), reverse=True)
        own.sort(key=lambda row_id: age(before[row_id]["created_at"], last))
        own.sort(key=lambda row_id: row_id not in newest[:1])
        titles = titles_in_order([before[row_id]["title"] for row_id in own])
        for row_id, title in zip(own, titles, strict=True):
            row = after[row_id]
            created, updated = row["created_at"], row["updated_at"]
            row["title"], row["active"] = title, row_id in newest[:1]
            row["created_at"], row["updated_at"] = created or updated or epoch, updated or created or epoch
    return after


async def test_everything_is_brought_in_order_and_the_report_tells_all_of_it(
    messy: Sql, command: Command, database: Database, make_service: Callable[..., Any]
) -> None:
    service: Service = await make_service(**on(database))
    clients = {user_id: NamedClient(service, user_id) for user_id in (1, 2, 3, 5)}
    assert (await clients[1].call("GET", "/"))[0] == 503
    before = await rows_of(messy)
    lines, summary = await command.run()
    after = await rows_of(messy)
    assert after == by_the_rules(before)
    assert undone(after, lines) == before
    changed = {row_id for row_id in before if before[row_id] != after[row_id]}
    assert {line["id"] for line in lines if line["to"]} == changed
    assert {(line["user_id"], *line["what"]) for line in lines if not line["to"]} == {
        (0, "unreachable_user"),
        (-5, "unreachable_user"),
    }
    assert summary["sessions"] == len(before)
    assert summary["changed"] == len(changed)
    assert summary["what"] == {
        what: sum(what in line["what"] for line in lines) for line in lines for what in line["what"]
    }
    assert (summary["dry_run"], summary["in_order"]) == (False, True)

    async def is_served() -> bool:
        return (await clients[1].call("GET", "/"))[0] == 200

    await eventually(is_served, within_s=5, what="sessions that are served")
    assert await clients[1].titles() == {
        "a (3)": False,
        "a": True,
        "a (4)": False,
        "a (2)": False,
        "ü": False,
        "ü (2)": False,
    }
    assert (await clients[1].try_create("ü (2)"))[0] == 409
    await clients[1].create("new")
    assert await clients[2].active() == next(
        row["id"] for row in after.values() if (row["user_id"], row["active"]) == (2, True)
    )
    assert sum((await clients[3].titles()).values()) == 1
    assert (await clients[5].try_active())[0] == 404  # nobody has chosen one for this user
    with pytest.raises(asyncpg.UniqueViolationError):
        await messy.execute("INSERT INTO sessions (user_id, title) VALUES (4, 'a')")


async def test_a_dry_run_prints_the_same_and_changes_nothing(messy: Sql, command: Command) -> None:
    before = await rows_of(messy)
    would, would_be = await command.run("--dry-run")
    assert await rows_of(messy) == before
    assert not await messy.fetchval("SELECT in_order FROM session.named_session_cache")
    assert len(would) > 1000
    lines, summary = await command.run()
    assert would == lines
    assert would_be == {**summary, "dry_run": True, "in_order": False}


async def test_a_second_run_has_nothing_to_do(messy: Sql, command: Command) -> None:
    await command.run()
    after = await rows_of(messy)
    lines, summary = await command.run()
    assert [(line["user_id"], line["what"]) for line in lines] == [(-5, ["unreachable_user"])] + [
        (0, ["unreachable_user"])
    ] * 2
    assert (summary["changed"], summary["in_order"]) == (0, True)
    assert await rows_of(messy) == after


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX public.sessions_one_active_key",
        "DROP INDEX public.sessions_user_id_title_key",
        "ALTER TABLE public.sessions DROP CONSTRAINT sessions_title_length",
        "ALTER TABLE public.sessions ALTER COLUMN active DROP NOT NULL",
    ],
)
async def test_what_was_dropped_by_hand_is_added_again(messy: Sql, command: Command, statement: str) -> None:
    await command.run()
    shape = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'sessions'::regclass ORDER BY 1"
    indexes = await messy.fetch(shape)
    await messy.execute(statement)
    await messy.execute("INSERT INTO sessions (user_id, title) VALUES (6, 'a'), (6, 'b')")
    if "one_active" in statement:
        await messy.execute("UPDATE sessions SET active = TRUE WHERE user_id = 6")
    lines, summary = await command.run()
    assert summary["changed"] == ("one_active" in statement)
    assert sum(line["user_id"] == 6 for line in lines) == summary["changed"]
    assert await messy.fetch(shape) == indexes
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await messy.execute("INSERT INTO sessions (user_id, title, active) VALUES (6, 'a', NULL), (6, '', TRUE)")


async def test_two_at_once_change_each_row_once(messy: Sql, command: Command) -> None:
    before = await rows_of(messy)
    (one, _), (other, _) = await asyncio.gather(command.run(), command.run())
    changes = [line for line in one + other if line["to"]]
    assert len({line["id"] for line in changes}) == len(changes)
    after = await rows_of(messy)
    assert undone(after, changes) == before
    assert after == by_the_rules(before)


async def test_what_the_cache_and_other_programs_go_by_is_told_of_the_change(messy: Sql, command: Command) -> None:
    epochs = "SELECT user_id, epoch FROM session.named_session_users WHERE user_id IN (1, 4) ORDER BY 1"
    before = dict(await messy.fetch(epochs))
    await command.run()
    after = dict(await messy.fetch(epochs))
    assert after == {1: before[1] + 1, 4: before[4]}
    # Sessions are touched by their updates again.
    touched = await messy.fetchval(
        "UPDATE sessions SET title = 'z' WHERE user_id = 5 RETURNING updated_at > '2026-06-01'"
    )
    assert touched


async def test_the_old_service_writes_meanwhile(messy: Sql, old_dsn: str) -> None:
    """A transaction that has read and is about to write, as the document's service makes them: neither loses."""
    reader = await asyncpg.connect(old_dsn)
    asked = asyncio.Event()
    try:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT * FROM sessions WHERE user_id = 4 AND title = 'b'")
        ordering = asyncio.create_task(order_named_sessions(old_dsn, lambda _rows: asked.set()))

        async def waits() -> bool:
            return bool(
                await messy.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE relation = 'public.sessions'::regclass AND NOT granted"
                )
            )

        await eventually(waits, within_s=20, what="the wait for the lock")
        await reader.execute("INSERT INTO sessions (user_id, title, active) VALUES (4, 'b', TRUE)")
        assert not asked.is_set()
        await transaction.commit()
        summary = await ordering
    finally:
        await reader.close()
    assert summary.in_order
    assert await messy.fetchval("SELECT count(*) FROM sessions WHERE user_id = 4 AND active") == 1
    assert {r["title"] for r in await messy.fetch("SELECT title FROM sessions WHERE user_id = 4")} == {
        "a",
        "b",
        "b (2)",
    }


async def as_documented(dsn: str, user_id: int, ended: asyncio.Event) -> int:
    """Creations as the document's service makes them, in one transaction each; returns how many were made."""
    made = 0
    connection = await asyncpg.connect(dsn)
    try:
        for number in itertools.count():
            if ended.is_set():
                return made
            title = f"title {number % 40}"
            try:
                async with connection.transaction():
                    found = await connection.fetch(
                        "SELECT id FROM sessions WHERE user_id = $1 AND title = $2", user_id, title
                    )
                    if number % 3 and found:
                        continue  # it raises DuplicateSessionTitleError; a race makes a third of them nevertheless
                    await connection.execute(
                        "UPDATE sessions SET active = FALSE WHERE user_id = $1 AND active", user_id
                    )
                    await connection.execute(
                        "INSERT INTO sessions (user_id, title, active) VALUES ($1, $2, TRUE)", user_id, title
                    )
                made += 1
            except asyncpg.UniqueViolationError:
                pass  # the rules hold by now
    finally:
        await connection.close()
    return made


async def test_while_the_old_service_writes_no_row_is_lost(messy: Sql, old_dsn: str) -> None:
    before = await messy.fetchval("SELECT count(*) FROM sessions")
    ended = asyncio.Event()
    reported: list[RowReport] = []

    async def has_more() -> bool:
        return bool(await messy.fetchval("SELECT count(*) FROM sessions") > before + 20)

    async with asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(as_documented(old_dsn, 1 + number // 2, ended)) for number in range(6)]
        await eventually(has_more, within_s=20, what="rows of the old service")
        summary = await order_named_sessions(old_dsn, reported.extend)
        ended.set()
    assert summary.in_order
    made = sum(writer.result() for writer in writers)
    assert await messy.fetchval("SELECT count(*) FROM sessions") == before + made
    assert len({row.id for row in reported}) == len(reported)
    assert not await messy.fetch("SELECT FROM sessions GROUP BY user_id, title HAVING count(*) > 1")
    assert not await messy.fetch("SELECT FROM sessions WHERE active GROUP BY user_id HAVING count(*) > 1")


async def test_who_holds_the_table_too_long_is_told_of(messy: Sql, old_dsn: str) -> None:
    before = await rows_of(messy)
    async with messy.transaction():
        await messy.execute("LOCK TABLE public.sessions IN ACCESS SHARE MODE")
        with pytest.raises(SchemaError, match=r"other programs have held public\.sessions for 0 s"):
            await order_named_sessions(old_dsn, fails_if_called, lock_limit_s=0)
    assert await rows_of(messy) == before


def fails_if_called(_rows: Sequence[RowReport]) -> None:
    raise AssertionError("nothing is to be reported")


async def test_a_report_that_cannot_be_written_undoes_everything(messy: Sql, old_dsn: str) -> None:
    before = await rows_of(messy)

    def full(_rows: Sequence[RowReport]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await order_named_sessions(old_dsn, full)
    assert await rows_of(messy) == before
    assert not await messy.fetchval("SELECT in_order FROM session.named_session_cache")
    with pytest.raises(AssertionError):  # and the lock is gone
        await order_named_sessions(old_dsn, fails_if_called)


async def test_a_connection_that_is_ended_undoes_everything(messy: Sql, old_dsn: str) -> None:
    """By PostgreSQL, as when nobody reads the report on. What comes after is refused, in words that say why."""
    before = await rows_of(messy)

    async def end_others() -> None:
        connection = await asyncpg.connect(old_dsn)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE relation = 'public.sessions'::regclass AND mode = 'AccessExclusiveLock'"
        )
        await connection.close()

    def stuck(_rows: Sequence[RowReport]) -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, end_others()).result()

    with pytest.raises(SchemaError, match=r"the connection was ended: .*terminating connection"):
        await order_named_sessions(old_dsn, stuck)
    assert await rows_of(messy) == before


async def test_a_trigger_that_changes_what_is_written_is_refused(messy: Sql, command: Command) -> None:
    await messy.execute("""
        CREATE FUNCTION public.shout() RETURNS TRIGGER LANGUAGE plpgsql
            AS 'BEGIN NEW.title := upper(NEW.title); RETURN NEW; END';
        CREATE TRIGGER shout BEFORE UPDATE ON public.sessions FOR EACH ROW EXECUTE FUNCTION public.shout();
    """)
    before = await rows_of(messy)
    code, output, errors = await command.try_run()
    assert (code, output) == (1, "")
    assert "did not take their change" in errors
    assert errors.count("\n") == 1
    assert await rows_of(messy) == before


async def test_a_reader_that_leaves_undoes_everything(messy: Sql, command: Command) -> None:
    before = await rows_of(messy)
    code, errors = await command.run_unread()
    assert (code, errors.count("\n")) == (1, 1)
    assert "Broken pipe" in errors
    assert await rows_of(messy) == before


async def test_a_short_report_that_nobody_reads_is_one_line_and_1_too(
    old: Sql, old_dsn: str, command: Command
) -> None:
    await old.execute(AS_WRITTEN)
    await old.execute("INSERT INTO sessions (user_id, title) VALUES (1, 'a'), (1, 'a')")
    await migrated(old_dsn)
    code, errors = await command.run_unread()
    assert (code, errors.count("\n")) == (1, 1)
    assert await old.fetchval("SELECT count(*) FROM sessions WHERE title = 'a'") == 2


async def test_an_owner_that_is_no_superuser(servers: TestServers, command: Command) -> None:
    """As in a managed database: the role that migrates owns the database, and may make roles."""
    await servers._on_maintenance("CREATE ROLE plain_owner LOGIN CREATEROLE PASSWORD 'p'")
    await servers._on_maintenance(f"GRANT {SERVICE_ROLE} TO plain_owner WITH ADMIN OPTION")
    await servers._on_maintenance("GRANT sessionuser TO plain_owner WITH ADMIN OPTION")
    await servers._on_maintenance("CREATE DATABASE plain OWNER plain_owner")
    try:
        dsn = f"postgresql://plain_owner:p@127.0.0.1:{servers.postgres.port}/plain"
        connection = await asyncpg.connect(dsn)
        await connection.execute(AS_WRITTEN)
        await connection.execute(MESS)
        before = await rows_of(connection)
        await migrate(dsn, service_role=SERVICE_ROLE)
        code, _output, errors = await command.try_run(
            DB_NAME="plain", MIGRATE_DB_USER="plain_owner", MIGRATE_DB_PASSWORD="p"
        )
        assert (code, errors) == (0, "")
        assert await rows_of(connection) == by_the_rules(before)
        await connection.close()
    finally:
        await servers._on_maintenance("DROP DATABASE plain WITH (FORCE)")
        await servers._on_maintenance("DROP OWNED BY plain_owner")
        await servers._on_maintenance("DROP ROLE plain_owner")


async def test_a_narrower_column_keeps_its_width(old_dsn: str, old: Sql, command: Command) -> None:
    await old.execute(AS_WRITTEN)
    await old.execute("ALTER TABLE sessions ALTER COLUMN title TYPE VARCHAR(255)")
    await old.execute("INSERT INTO sessions (user_id, title) SELECT 1, repeat('x', 255) FROM generate_series(1, 3)")
    await migrated(old_dsn)
    await command.run()
    titles = {row["title"] for row in await old.fetch("SELECT title FROM sessions")}
    assert titles == {"x" * 255, "x" * 251 + " (2)", "x" * 251 + " (3)"}


async def test_a_database_that_was_not_migrated_is_one_line_and_1(old: Sql, command: Command) -> None:
    await old.execute(AS_WRITTEN)
    code, output, errors = await command.try_run()
    assert (code, output) == (1, "")
    assert "run `session-service migrate` first" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environ", "code"),
    [(["--dry"], {}, 2), (["now"], {}, 2), ([], {"DB_PORT": "x"}, 2), ([], {"MIGRATE_DB_PASSWORD": "wrong"}, 1)],
)
async def test_wrong_use_and_a_database_that_does_not_let_us_in(
    command: Command, arguments: list[str], environ: dict[str, str], code: int
) -> None:
    ended, output, errors = await command.try_run(*arguments, **environ)
    assert (ended, output) == (code, "")
    assert "Traceback" not in errors


# --- from another server (docs/named-sessions.md, "From another database or server") ------------------------------


async def shell(line: str, **environ: str) -> None:
    """A line of the documentation, with PostgreSQL's programs in the path."""
    path = f"{find_postgres().directory}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_shell(
        f"set -o pipefail; {line}",
        executable="/bin/bash",
        env={"PATH": path, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


COPY_THE_TABLE = (
    'pg_dump --no-owner --no-privileges --table=public.sessions "$OLD"'
    ' | psql --quiet --single-transaction --set=ON_ERROR_STOP=1 "$NEW"'
)
COPY_THE_ROWS = (
    'pg_dump --data-only --table=public.sessions "$OLD"'
    ' | psql --quiet --single-transaction --set=ON_ERROR_STOP=1 "$NEW"'
)


@pytest.fixture
async def session_db(servers: TestServers) -> AsyncIterator[str]:
    """The documented service's database, under its own name, with a table out of order."""
    await servers._on_maintenance("CREATE DATABASE session_db")
    dsn = servers.postgres.dsn("session_db")
    connection = await asyncpg.connect(dsn)
    await connection.execute(AS_WRITTEN)
    await connection.execute(MESS)
    await connection.close()
    yield dsn
    await servers._on_maintenance("DROP DATABASE session_db WITH (FORCE)")


async def rows_at(dsn: str) -> Rows:
    connection = await asyncpg.connect(dsn)
    try:
        return await rows_of(connection)
    finally:
        await connection.close()


async def test_a_table_is_moved_in_before_the_schema(
    session_db: str, old_dsn: str, old: Sql, command: Command
) -> None:
    await shell(COPY_THE_TABLE, OLD=session_db, NEW=old_dsn)
    await migrated(old_dsn)
    await command.run()
    before = await rows_at(session_db)
    assert await rows_of(old) == by_the_rules(before)


async def test_a_table_is_moved_into_a_database_that_serves_already(
    session_db: str,
    old_dsn: str,
    old: Sql,
    command: Command,
    database: Database,
    make_service: Callable[..., Any],
) -> None:
    service: Service = await make_service(
        SIMULATOR_BACKEND="service", EXCHANGE_MANAGER_SERVICE="127.0.0.1:1", REDIS_PORT=str(free_port())
    )
    await NamedClient(service, 77).create("here before")
    # What is out of order is refused whole by the constraints: so it is brought in order in a database of its own.
    with pytest.raises(AssertionError, match=r"duplicate key|violates check constraint|null value"):
        await shell(COPY_THE_ROWS, OLD=session_db, NEW=database.owner_dsn)
    await shell(COPY_THE_TABLE, OLD=session_db, NEW=old_dsn)
    await migrated(old_dsn)
    await command.run()
    await shell(COPY_THE_ROWS, OLD=old_dsn, NEW=database.owner_dsn)
    moved = await rows_of(old)
    assert {
        row_id: row for row_id, row in (await rows_at(database.owner_dsn)).items() if row["user_id"] != 77
    } == moved
    active = next(row_id for row_id, row in moved.items() if row["user_id"] == 1 and row["active"])
    assert await NamedClient(service, 1).active() == active
    assert await NamedClient(service, 77).titles() == {"here before": True}


def test_the_documentation_has_these_lines() -> None:
    page = (Path(__file__).parents[3] / "docs" / "named-sessions.md").read_text(encoding="utf-8")
    joined = page.replace("\\\n", "").replace("  ", " ")
    for line in (COPY_THE_TABLE, COPY_THE_ROWS):
        assert " ".join(line.split()) in " ".join(joined.split())
