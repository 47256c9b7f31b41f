"""The schema: equal to its migrations, applied by many at once, refused when it is newer."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from session_service.database.migrations import migrate
from session_service.database.sql_files import load_migrations, load_queries, load_schema
from session_service.errors import SchemaError
from tests.support.cluster_template import SERVICE_ROLE
from tests.support.servers import Database, TestServers

DESCRIBE = """
SELECT format('%s.%s.%s %s %s %s', table_schema, table_name, column_name, data_type, is_nullable, column_default)
    AS line
FROM information_schema.columns WHERE table_schema IN ('session', 'simulator', 'sandbox', 'public')
UNION ALL
SELECT format('%s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
WHERE connamespace::regnamespace::text IN ('session', 'simulator', 'sandbox', 'public')
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname IN ('session', 'simulator', 'sandbox', 'public')
UNION ALL
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace::regnamespace::text IN ('session', 'simulator', 'sandbox', 'public')
UNION ALL
SELECT format('%s on %s: %s %s %s', policyname, tablename, cmd, qual, with_check) FROM pg_policies
UNION ALL
SELECT format('%s: %s %s', oid::regclass, relrowsecurity, relforcerowsecurity) FROM pg_class WHERE relrowsecurity
UNION ALL
SELECT format('%s: %s', viewname, definition) FROM pg_views WHERE schemaname = 'sandbox'
ORDER BY 1
"""


async def test_schema_file_equals_the_chain_of_migrations(servers: TestServers, database: Database) -> None:
    maintenance = await asyncpg.connect(servers.postgres.dsn("postgres"))
    await maintenance.execute("CREATE DATABASE from_schema_file")
    from_file = await asyncpg.connect(servers.postgres.dsn("from_schema_file"))
    migrated = await asyncpg.connect(database.owner_dsn)
    try:
        await from_file.execute(load_schema())
        expected = [
            row["line"] for row in await migrated.fetch(DESCRIBE) if "session_service_migrations" not in row[0]
        ]
        described = [row["line"] for row in await from_file.fetch(DESCRIBE)]
        assert len(described) > 60
        assert described == expected
    finally:
        await from_file.close()
        await migrated.close()
        await maintenance.execute("DROP DATABASE from_schema_file")
        await maintenance.close()


async def test_five_jobs_at_once_apply_it_once(servers: TestServers) -> None:
    maintenance = await asyncpg.connect(servers.postgres.dsn("postgres"))
    await maintenance.execute("CREATE DATABASE five_jobs")
    try:
        dsn = servers.postgres.dsn("five_jobs")
        reports = await asyncio.gather(*(migrate(dsn, service_role=SERVICE_ROLE) for _ in range(5)))
        assert sorted(len(report.applied) for report in reports) == [0, 0, 0, 0, len(load_migrations())]
        assert len({report.database_id for report in reports}) == 1
    finally:
        await maintenance.execute("DROP DATABASE five_jobs WITH (FORCE)")
        await maintenance.close()


async def test_a_newer_schema_is_refused(database: Database) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("INSERT INTO public.session_service_migrations VALUES (9999, 'future', 'x')")
    await connection.close()
    with pytest.raises(SchemaError, match=r"9999, newer than .*: start the newer release, or restore a backup"):
        await migrate(database.owner_dsn)


async def test_a_changed_migration_is_refused(database: Database) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("UPDATE public.session_service_migrations SET checksum = 'x' WHERE version = 1")
    await connection.close()
    with pytest.raises(SchemaError, match="0001_pre_live_sessions was applied with other contents"):
        await migrate(database.owner_dsn)


OF_THE_OWNER = "named_session_order."  # of a command, on tables that its transaction makes


async def test_every_named_statement_can_be_prepared_by_the_service_role(database: Database) -> None:
    queries = load_queries()
    connection = await asyncpg.connect(database.service_dsn)
    try:
        for name in queries:
            if not name.startswith(OF_THE_OWNER):
                await connection.prepare(queries[name])
    finally:
        await connection.close()
    assert len(list(queries)) > 30


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE session.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE session.active_sessions ADD COLUMN x int",
        "DROP TABLE simulator.teardowns",
        "TRUNCATE simulator.instances",
        "UPDATE session.installation SET simulator_key = 'x'",
        "CREATE ROLE other",
        "DELETE FROM public.session_service_migrations",
    ],
)
async def test_the_service_role_has_no_ddl(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(database.service_dsn)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()
