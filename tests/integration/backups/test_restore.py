"""A restore makes of an empty database what was backed up, says so table by table, or leaves the database empty."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from session_service.database import sandbox_roles
from session_service.database.backups import manifest as manifests
from session_service.database.backups.contents import connect, contents_of
from session_service.database.backups.dump import take_backup
from session_service.database.backups.manifest import Difference, Manifest, TableContents
from session_service.database.backups.restore import RestoreReport, restore_backup
from session_service.database.sql_files import load_queries
from session_service.errors import BackupError
from tests.integration.backups.conftest import ENVIRON, Target
from tests.support.cluster_template import SERVICE_PASSWORD, SERVICE_ROLE
from tests.support.filled_database import VM
from tests.support.servers import Database, TestServers
from tests.support.service import Service, bearer
from tests.support.sql import Sql
from tests.support.waiting import eventually

LIMIT_S = 60.0
# What does not hold for a database of the past, and is made anew after the comparison.
SETTLED = {
    "session.pods",
    "session.ownership",
    "session.sweeper",
    "session.session_metadata",
    "session.active_sessions",
    "session.named_session_cache",
}
# Rows that say by which transaction they were written: one of another server.
RENUMBERED = {"public.session", "sandbox.removals", "session.named_session_users", "simulator.instances"}
# A server that has made fewer transactions than the one of the backup.
FUTURE = """
    ALTER TABLE public.session DISABLE TRIGGER USER;
    UPDATE public.session SET changed_in = 1e12;
    UPDATE simulator.instances SET changed_in = 1e12;
    UPDATE sandbox.removals SET changed_in = 1e12;
    UPDATE session.named_session_users SET changed_in = '1000000000000';
    UPDATE session.named_session_cache SET settled = '1000000000000:1000000000000:';
    ALTER TABLE public.session ENABLE TRIGGER USER;
"""
LATEST = """
    SELECT greatest((SELECT max(changed_in) FROM public.session), (SELECT max(changed_in) FROM simulator.instances),
                    (SELECT max(changed_in) FROM sandbox.removals),
                    (SELECT max(changed_in)::text::bigint FROM session.named_session_users))
           <= pg_current_xact_id()::text::bigint
"""


async def restore(target: Target, file: Path, *, as_copy: bool = False) -> RestoreReport:
    return await restore_backup(
        target.dsn,
        file,
        environ=ENVIRON,
        service_role=SERVICE_ROLE,
        service_password=SERVICE_PASSWORD,
        as_copy=as_copy,
    )


async def contents(dsn: str) -> dict[str, TableContents]:
    connection = await connect(dsn)
    try:
        return await contents_of(connection, load_queries())
    finally:
        await connection.close()


async def runs_simulator(service: Service, *, but: str = "") -> str:
    """The id of the simulator that runs for the caller's only session, which is asked for until another one does."""

    async def running() -> str | None:
        answer = await service.http.post("/api/simulators", json={}, headers=bearer("7"))
        body = await answer.json()
        runs = body.get("status") == "RUNNING" and body["simulatorId"] != but
        return str(body["simulatorId"]) if runs else None

    return await eventually(running, within_s=LIMIT_S, what="a simulator runs", every_s=0.2) or ""


async def is_empty(target: Target) -> bool:
    return await (await target.connect()).fetchval(load_queries()["backups.first_object"]) is None


@pytest.fixture
async def backup(database: Database, filled: str, file: Path) -> Manifest:
    """``file`` is a backup of ``database``."""
    return await take_backup(database.owner_dsn, file, environ=ENVIRON)


async def test_on_a_server_without_its_roles_it_is_equal(
    database: Database, backup: Manifest, file: Path, target: Target
) -> None:
    before = await contents(database.owner_dsn)
    report = await restore(target, file)
    assert report.differing == {}
    assert set(report.made_roles) == {SERVICE_ROLE, "sessionuser", f"sandbox_{VM}"} == await target.roles()
    after = await contents(target.dsn)
    assert {name for name in before if before[name] != after[name]} <= SETTLED | RENUMBERED
    restored = await target.connect()
    for statement in (
        "SELECT id, messages, inbox_status, sbx_config, parent, created_at, updated_at, owner, claim, attempts"
        " FROM public.session ORDER BY id",
        "SELECT * FROM public.sessions ORDER BY id",
        "SELECT * FROM session.installation",
    ):
        original = await asyncpg.connect(database.owner_dsn)
        assert await restored.fetch(statement) == await original.fetch(statement)
        await original.close()


async def test_what_was_running_is_not_restored(backup: Manifest, file: Path, target: Target) -> None:
    await restore(target, file)
    restored = await target.connect()
    for query in ("TABLE session.pods", "TABLE session.sockets", "TABLE session.superseded"):
        assert await restored.fetch(query) == []
    assert await restored.fetch("SELECT DISTINCT pod_id FROM session.ownership") == [(None,)]
    assert await restored.fetchval("SELECT held_until < now() FROM session.sweeper")
    rows = await restored.fetch(
        "SELECT session_id, status, metadata -> 'frontend_connections' AS connections"
        " FROM session.active_sessions JOIN session.session_metadata USING (session_id) ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("s1", "RECONNECTING", "0"), ("s2", "ACTIVE", "0")]
    # Its simulators stay: they may still run.
    assert await restored.fetchval("SELECT status FROM simulator.instances") == "RUNNING"
    assert await restored.fetchval("SELECT doubted > cleared FROM session.named_session_cache")


async def test_no_row_is_of_a_transaction_to_come(
    database: Database, owner: Sql, filled: str, file: Path, target: Target
) -> None:
    await owner.execute(FUTURE)
    updated_at = await owner.fetch("SELECT id, updated_at FROM public.session ORDER BY id")
    await take_backup(database.owner_dsn, file, environ=ENVIRON)
    await restore(target, file)
    restored = await target.connect()
    assert await restored.fetch("SELECT id, updated_at FROM public.session ORDER BY id") == updated_at
    assert await restored.fetchval(LATEST)
    assert await restored.fetchval("SELECT settled::text FROM session.named_session_cache") == "3:3:"
    # The table's own triggers are on again.
    await restored.execute("UPDATE public.session SET messages = '[]'")
    assert not await restored.fetchval(
        "SELECT count(*) FROM public.session s JOIN unnest($1::uuid[], $2::timestamptz[]) t (id, updated_at)"
        " USING (id) WHERE s.updated_at <= t.updated_at",
        [row["id"] for row in updated_at],
        [row["updated_at"] for row in updated_at],
    )


async def test_sandboxes_log_in_as_before_and_reach_no_more(
    backup: Manifest, filled: str, file: Path, target: Target
) -> None:
    await restore(target, file)
    place = urlsplit(filled)
    sandbox = await asyncpg.connect(
        host="127.0.0.1",
        port=target.server.port,
        database=target.name,
        user=place.username,
        password=place.password,
    )
    try:
        assert await sandbox.fetchval("SELECT count(*) FROM public.session") == 5
        assert await sandbox.fetchval("SELECT id FROM public.session_claim('worker')") is None
        for statement in (
            "SELECT pg_advisory_lock(1)",
            "SELECT sandbox.sees_every_row()",
            "CREATE TEMPORARY TABLE t ()",
            "SELECT * FROM session.active_sessions",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await sandbox.execute(statement)
    finally:
        await sandbox.close()
    limits = await (await target.connect()).fetchrow(
        "SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = $1", place.username
    )
    assert limits is not None
    assert limits["rolconnlimit"] == sandbox_roles.OWN_CONNECTIONS
    assert "statement_timeout=30s" in limits["rolconfig"]


async def test_an_existing_role_keeps_its_password(
    backup: Manifest, database: Database, file: Path, target: Target
) -> None:
    await target.maintenance.execute(f"CREATE ROLE sandbox_{VM} LOGIN PASSWORD 'of today'")
    query = "SELECT rolpassword FROM pg_authid WHERE rolname = $1"
    before = await target.maintenance.fetchval(query, f"sandbox_{VM}")
    report = await restore(target, file)
    assert f"sandbox_{VM}" not in report.made_roles
    assert await target.maintenance.fetchval(query, f"sandbox_{VM}") == before


async def test_a_pod_serves_from_it(
    database: Database, servers: TestServers, owner: Sql, file: Path, target: Target
) -> None:
    async with Service({**database.environ(), **servers.redis_environ()}) as original:
        answer = await original.http.post("/api/sessions", json={"deviceId": "laptop"}, headers=bearer("7"))
        session_id = (await answer.json())["sessionId"]
        answer = await original.http.post("/api/v1/sessions/", json={"title": "kept"}, headers=bearer("7"))
        assert answer.status == 200
        named_id = (await answer.json())["id"]
        simulator_id = await runs_simulator(original)
        await take_backup(database.owner_dsn, file, environ=ENVIRON)
        # Redis knows this one as the active one, and the backup does not.
        answer = await original.http.post("/api/v1/sessions/", json={"title": "lost"}, headers=bearer("7"))
        assert answer.status == 200
    await restore(target, file)
    environ = {**database.environ(), "DB_PORT": str(target.server.port), "DB_NAME": target.name}
    async with Service({**environ, **servers.redis_environ()}) as restored:

        async def listed() -> list[dict[str, Any]]:
            answer = await restored.http.get("/api/sessions", headers=bearer("7"))
            sessions: list[dict[str, Any]] = (await answer.json()).get("sessions", [])
            return sessions

        sessions = await eventually(listed, within_s=LIMIT_S, what="the pod serves")
        assert [session["session_id"] for session in sessions] == [session_id]
        answer = await restored.http.post("/api/sessions", json={"deviceId": "laptop"}, headers=bearer("7"))
        assert (answer.status, (await answer.json())["isNew"]) == (200, False)
        # Its process ended with the pod that it belonged to; the row says that it runs.
        await runs_simulator(restored, but=simulator_id)
        answer = await restored.http.get("/api/v1/sessions/active", headers=bearer("7"))
        assert await answer.json() == named_id
        answer = await restored.http.post("/api/v1/sessions/", json={"title": "new"}, headers=bearer("7"))
        assert answer.status == 200

        async def owned() -> object:
            connection = await target.connect()
            return await connection.fetchval("SELECT pod_id FROM session.ownership")

        await eventually(owned, within_s=LIMIT_S, what="the pod looks after the session", every_s=0.5)


async def test_a_copy_is_another_installation(backup: Manifest, file: Path, target: Target) -> None:
    await restore(target, file, as_copy=True)
    restored = await target.connect()
    assert await restored.fetchval("SELECT database_id::text FROM session.installation") != backup.database_id
    simulator = await restored.fetchrow("SELECT status, target, endpoint, workload_uid FROM simulator.instances")
    assert simulator is not None
    assert tuple(simulator) == ("STOPPED", "STOPPED", None, None)
    for query in ("TABLE simulator.warm_pool", "TABLE simulator.teardowns", "TABLE simulator.held_orphans"):
        assert await restored.fetch(query) == []


async def test_by_an_owner_who_is_no_superuser(
    database: Database, backup: Manifest, file: Path, target: Target
) -> None:
    await target.maintenance.execute("CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'keeper'")
    await target.maintenance.execute(f'ALTER DATABASE "{target.name}" OWNER TO keeper')
    place = urlsplit(target.dsn)
    dsn = place._replace(netloc=f"keeper:keeper@127.0.0.1:{target.server.port}").geturl()
    report = await restore_backup(dsn, file, environ=ENVIRON, service_role=SERVICE_ROLE, service_password="password")
    assert report.differing == {}
    again = file.with_name("again")
    second = await take_backup(dsn, again, environ=ENVIRON)
    assert second.tables["public.session"].rows == backup.tables["public.session"].rows


async def test_what_differs_is_named(backup: Manifest, file: Path, target: Target) -> None:
    tables = dict(backup.tables)
    tables["public.sessions"] = TableContents(49, "0")
    tables["sandbox.removals"] = msgspec.structs.replace(tables["sandbox.removals"], checksum="1")
    archive = file.read_bytes()[: backup.archive_bytes]
    file.write_bytes(archive + manifests.encode(msgspec.structs.replace(backup, tables=tables)))
    report = await restore(target, file)
    assert report.differing == {
        "public.sessions": Difference.ROWS,
        "sandbox.removals": Difference.CHECKSUM,
    }
    assert report.migration is None


async def test_a_damaged_file_is_refused_before_anything_is_done(
    backup: Manifest, file: Path, target: Target
) -> None:
    whole = file.read_bytes()
    middle = backup.archive_bytes // 2
    for damaged, said in (
        (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], "not as it was written"),
        (whole[:middle], "no manifest"),
        (whole[:-10], "no manifest"),
        (whole[: backup.archive_bytes], "no manifest"),
        (b"", "no manifest"),
        (b"SELECT 1;\n", "no manifest"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(BackupError, match=said):
            await restore(target, file)
    assert await is_empty(target)
    assert await target.roles() == set()


async def test_a_database_that_is_in_use_or_not_empty_is_refused(
    backup: Manifest, file: Path, target: Target
) -> None:
    connection = await target.connect()
    with pytest.raises(BackupError, match="1 others are connected"):
        await restore(target, file)
    await connection.execute("CREATE TYPE mine AS ENUM ('a')")
    with pytest.raises(BackupError, match=r"not empty \(it has type public\.\w*mine\)"):
        await restore(target, file)
    assert await target.roles() == set()


async def test_a_newer_schema_is_refused(
    database: Database, owner: Sql, filled: str, file: Path, target: Target
) -> None:
    await owner.execute("INSERT INTO public.session_service_migrations VALUES (9999, '9999_pre_later', 'x', now())")
    await take_backup(database.owner_dsn, file, environ=ENVIRON)
    with pytest.raises(BackupError, match="newer than this release's"):
        await restore(target, file)
    assert await is_empty(target)


async def test_what_pg_restore_refuses_leaves_nothing(
    database: Database, owner: Sql, filled: str, file: Path, target: Target
) -> None:
    """The last objects of an archive are rights and policies: all before them was made already."""
    await owner.execute("CREATE ROLE gone; GRANT SELECT ON public.sessions TO gone")
    try:
        manifest = await take_backup(database.owner_dsn, file, environ=ENVIRON)
    finally:
        await owner.execute("DROP OWNED BY gone; DROP ROLE gone")
    roles = tuple(role for role in manifest.roles if role != "gone")
    archive = file.read_bytes()[: manifest.archive_bytes]
    file.write_bytes(archive + manifests.encode(msgspec.structs.replace(manifest, roles=roles)))
    with pytest.raises(BackupError, match='role "gone" does not exist'):
        await restore(target, file)
    assert await is_empty(target)
    assert await target.roles() == set()


async def test_ended_midway_it_leaves_nothing(
    database: Database, backup: Manifest, file: Path, target: Target
) -> None:
    """It waits for a role that somebody is about to drop, when every table is there already."""
    await target.maintenance.execute(f"CREATE ROLE {SERVICE_ROLE}")
    dropping = await asyncpg.connect(target.server.dsn("postgres"))
    await dropping.execute(f"BEGIN; DROP ROLE {SERVICE_ROLE}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_service", "restore", str(file), "--database", target.name),
        env={
            **ENVIRON,
            **database.environ(),
            "DB_PORT": str(target.server.port),
            "MIGRATE_DB_USER": "postgres",
            "MIGRATE_DB_PASSWORD": "other",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    async def waits() -> object:
        return await target.maintenance.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_restore' AND wait_event_type = 'Lock'"
        )

    await eventually(waits, within_s=LIMIT_S, what="pg_restore waits for the role")
    process.terminate()
    async with asyncio.timeout(LIMIT_S):
        output, error = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert error == b"session-service: ended by a signal; nothing is left of what was begun\n"
    await dropping.close()
    assert await is_empty(target)
    assert await target.roles() == {SERVICE_ROLE}


async def test_the_command_prints_every_table(
    database: Database, backup: Manifest, file: Path, target: Target
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_service", "restore", str(file)),
        env={
            **ENVIRON,
            **database.environ(),
            "DB_PORT": str(target.server.port),
            "DB_NAME": target.name,
            "MIGRATE_DB_USER": "postgres",
            "MIGRATE_DB_PASSWORD": "other",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        output, error = await process.communicate()
    assert process.returncode == 0
    *tables, last = output.decode().splitlines()
    assert [(line.split()[0], line.split()[1]) for line in tables] == [
        (name, str(table.rows)) for name, table in backup.tables.items()
    ]
    assert {line.split(maxsplit=2)[2] for line in tables} == {"as it was"}
    assert last.startswith(f"restored {backup.rows} rows")
    assert len(error.decode().splitlines()) == 3  # the roles that it made
