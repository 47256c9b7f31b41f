"""A backup is of one instant, whole or not there, and says what it holds."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from session_service.database.backups.backup_file import read_manifest
from session_service.database.backups.dump import take_backup
from session_service.errors import BackupError
from session_service.local.binaries import find_postgres
from tests.integration.backups.conftest import ENVIRON
from tests.support.servers import Database, TestServers
from tests.support.sql import Sql
from tests.support.waiting import eventually

LIMIT_S = 60.0
# So that a test says which table has no row yet.
TABLES = """
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('public', 'session', 'simulator', 'sandbox') AND c.relkind = 'r' AND c.relpersistence = 'p'
"""


@pytest.fixture
async def held(database: Database) -> AsyncIterator[Sql]:
    """Holds a table that pg_dump locks and nobody counts, so that pg_dump waits until ``ROLLBACK``."""
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("BEGIN; LOCK TABLE session.sockets IN ACCESS EXCLUSIVE MODE")
    yield connection
    await connection.close()


async def start_backup(database: Database, servers: TestServers, *arguments: str) -> asyncio.subprocess.Process:
    owner = servers.postgres.dsn().partition("://")[2].partition("@")[0]
    user, _, password = owner.partition(":")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_service", "backup", *arguments),
        env={**ENVIRON, **database.environ(), "MIGRATE_DB_USER": user, "MIGRATE_DB_PASSWORD": password},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    async with asyncio.timeout(LIMIT_S):
        output, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), error.decode()


async def pg_dump_waits(owner: Sql) -> None:
    async def waits() -> object:
        return await owner.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )

    await eventually(waits, within_s=LIMIT_S, what="pg_dump waits for the table")


async def test_it_says_what_every_table_held(database: Database, filled: str, owner: Sql, file: Path) -> None:
    manifest = await take_backup(database.owner_dsn, file, environ=ENVIRON)
    assert await read_manifest(file) == manifest
    assert set(manifest.tables) == {row[0] for row in await owner.fetch(TABLES)}
    assert {name for name, table in manifest.tables.items() if table.rows == 0} == set()
    assert manifest.tables["public.session"].rows == 205
    assert manifest.database_id == await owner.fetchval("SELECT database_id::text FROM session.installation")
    assert {"sessionuser", "session_service", "sandbox_vm_of_the_backup", "postgres"} <= set(manifest.roles)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


async def test_pg_restore_alone_reads_it(database: Database, filled: str, owner: Sql, file: Path) -> None:
    await take_backup(database.owner_dsn, file, environ=ENVIRON)
    script = subprocess.run(
        [find_postgres().directory / "pg_restore", "--file=-", "--table=session", file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert script.stdout.count('{"vm": 1}') == 5


async def test_what_is_written_meanwhile_is_not_in_it(
    database: Database, filled: str, owner: Sql, held: Sql, file: Path
) -> None:
    """Between the counting and pg_dump's reading."""
    taking = asyncio.ensure_future(take_backup(database.owner_dsn, file, environ=ENVIRON))
    await pg_dump_waits(owner)
    await owner.execute(
        "DELETE FROM public.session; INSERT INTO public.sessions (user_id, title) VALUES (99, 'late')"
    )
    await held.execute("ROLLBACK")
    manifest = await taking
    assert (manifest.tables["public.session"].rows, manifest.tables["public.sessions"].rows) == (205, 50)
    script = subprocess.run(
        [find_postgres().directory / "pg_restore", "--file=-", "--data-only", file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert script.stdout.count('{"vm": 1}') == 5
    assert "\tlate\t" not in script.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_ended_midway_it_leaves_nothing(
    database: Database, servers: TestServers, owner: Sql, held: Sql, file: Path, number: signal.Signals
) -> None:
    process = await start_backup(database, servers, str(file))
    await pg_dump_waits(owner)
    assert [entry.suffix for entry in file.parent.iterdir()] == [".partial"]
    process.send_signal(number)
    code, output, error = await ended(process)
    assert (code, output) == (1, "")
    assert error == "session-service: ended by a signal; nothing is left of what was begun\n"
    assert list(file.parent.iterdir()) == []

    async def gone() -> bool:
        return not await owner.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'pg_dump')"
        )

    await eventually(gone, within_s=LIMIT_S, what="pg_dump is gone")


async def test_no_room_leaves_nothing(database: Database, servers: TestServers, filled: str, file: Path) -> None:
    """Files are limited to 8 KiB: as a full disk, it shows in the middle of the archive."""
    owner = servers.postgres.dsn().partition("://")[2].partition("@")[0]
    user, _, password = owner.partition(":")
    process = await asyncio.create_subprocess_exec(
        *(
            "sh",
            "-c",
            'ulimit -f 16; exec "$@"',
            "sh",
            sys.executable,
            "-B",
            "-m",
            "session_service",
            "backup",
            str(file),
        ),
        env={**ENVIRON, **database.environ(), "MIGRATE_DB_USER": user, "MIGRATE_DB_PASSWORD": password},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    code, output, error = await ended(process)
    assert (code, output) == (1, "")
    assert re.fullmatch("session-service: .*(SIGXFSZ|File too large).*\n", error)
    assert list(file.parent.iterdir()) == []


async def test_a_file_that_is_there_is_replaced_only_when_told(
    database: Database, servers: TestServers, file: Path
) -> None:
    file.write_text("of yesterday")
    code, output, error = await ended(await start_backup(database, servers, str(file)))
    assert (code, output) == (1, "")
    assert "--force" in error
    assert file.read_text() == "of yesterday"
    code, output, error = await ended(await start_backup(database, servers, str(file), "--force"))
    assert (code, error) == (0, "")
    assert output.startswith(f"{file}: ")
    assert (await read_manifest(file)).schema_version > 0
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


async def test_the_service_role_cannot_take_one(database: Database, file: Path) -> None:
    with pytest.raises(BackupError, match="MIGRATE_DB_USER"):
        await take_backup(database.service_dsn, file, environ=ENVIRON)
    assert list(file.parent.iterdir()) == []


async def test_rows_that_its_role_does_not_see_are_no_backup(
    database: Database, filled: str, owner: Sql, file: Path
) -> None:
    """A role with every right but that of row-level security."""
    await owner.execute("CREATE ROLE half_blind LOGIN PASSWORD 'half' IN ROLE pg_read_all_data")
    try:
        place = database.owner_dsn.partition("@")[2]
        with pytest.raises(BackupError, match=r"row-level security may keep rows of public\.session"):
            await take_backup(f"postgresql://half_blind:half@{place}", file, environ=ENVIRON)
    finally:
        await owner.execute("DROP ROLE half_blind")
    assert list(file.parent.iterdir()) == []


async def test_a_database_without_the_schema(servers: TestServers, file: Path) -> None:
    with pytest.raises(BackupError, match="session-service migrate"):
        await take_backup(servers.postgres.dsn("postgres"), file, environ=ENVIRON)


async def test_the_password_is_in_no_argument(database: Database, owner: Sql, held: Sql, file: Path) -> None:
    taking = asyncio.ensure_future(take_backup(database.owner_dsn, file, environ=ENVIRON))
    await pg_dump_waits(owner)
    password = database.owner_dsn.partition("@")[0].rpartition(":")[2]
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert any("pg_dump" in line for line in lines)
    assert not any(password in line for line in lines)
    await held.execute("ROLLBACK")
    await taking
