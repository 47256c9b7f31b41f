"""The init job: applies the numbered migrations and the service role's rights.

Safe to run by several jobs at once: a session-level advisory lock lets one in. It is polled rather than waited for,
so that a job which waits holds no snapshot, and it lives on a connection of its own, never on a pooled one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec

from session_service.database import sandbox_roles
from session_service.database.sql_files import Migration, load_migrations
from session_service.errors import SchemaError

_LOCK_KEY = 0x5E55_1075  # any constant of ours
_LOCK_POLL_S = 0.1
_LOCK_LIMIT_S = 120.0

_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS public.session_service_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
)
"""

# What the service may do: read and write rows and call functions. No DDL: it owns nothing and may create nothing.
_SERVICE_SCHEMAS = ("session", "simulator")


NAMED_SESSIONS_NOT_IN_ORDER = (
    "public.sessions has rows that break the rules of named sessions, which are not served until it is in order:"
    " run `session-service order-named-sessions` (docs/named-sessions.md)"
)


class MigrationReport(msgspec.Struct, frozen=True):
    """What ``migrate`` did. ``applied`` are names such as ``0001_pre_live_sessions``; empty when nothing was due.

    ``notes``: what is left to do, or could not be done with the rights of the role that migrates, a line each.
    """

    applied: tuple[str, ...]
    version: int
    database_id: str
    notes: tuple[str, ...] = ()


async def migrate(
    dsn: str,
    *,
    service_role: str | None = None,
    service_password: str | None = None,
    sandbox_password: str | None = None,
    connect_timeout_s: float = 10.0,
) -> MigrationReport:
    """Bring the database at ``dsn`` to this release's schema, and give ``service_role`` its rights.

    The role is created with ``service_password`` when it does not exist, and its password set when one is given. So
    is ``sessionuser`` with ``sandbox_password``; without one it is created so that nobody can log in as it.
    Each migration is one transaction with its ledger row: an interrupted run goes on where it stopped.

    Raises SchemaError when the schema is newer than this release, or an applied file has changed since;
    ``asyncpg.PostgresError`` and ``OSError`` as they come.
    """
    connection = await asyncpg.connect(dsn, timeout=connect_timeout_s)
    try:
        await _lock(connection)
        applied = await _apply(connection, load_migrations())
        if service_role:
            await _grant(connection, service_role, service_password)
        notes = await sandbox_roles.prepare(connection, service_role=service_role, password=sandbox_password)
        if not await connection.fetchval("SELECT in_order FROM session.named_session_cache"):
            notes = (*notes, NAMED_SESSIONS_NOT_IN_ORDER)
        database_id = await connection.fetchval("SELECT database_id::text FROM session.installation")
        version = await connection.fetchval("SELECT max(version) FROM public.session_service_migrations")
        return MigrationReport(tuple(applied), version, database_id, notes)
    finally:
        # Closing the connection releases the lock, whatever happened before.
        await connection.close(timeout=5)


async def _lock(connection: asyncpg.Connection[Any]) -> None:
    deadline = asyncio.get_running_loop().time() + _LOCK_LIMIT_S
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if asyncio.get_running_loop().time() > deadline:
            raise SchemaError(f"another migration has held the lock for {_LOCK_LIMIT_S:.0f} s")
        await asyncio.sleep(_LOCK_POLL_S)


async def _apply(connection: asyncpg.Connection[Any], migrations: list[Migration]) -> list[str]:
    await connection.execute(_CREATE_LEDGER)
    rows = await connection.fetch("SELECT version, checksum FROM public.session_service_migrations")
    ledger = {row["version"]: row["checksum"] for row in rows}
    known = {migration.version for migration in migrations}
    if ledger and max(ledger) > max(known):
        raise SchemaError(
            f"the database's schema has version {max(ledger)}, newer than this release's {max(known)}: "
            "start the newer release, or restore a backup from before it was migrated"
        )
    applied = []
    for migration in migrations:
        label = f"{migration.version:04d}_{migration.phase}_{migration.name}"
        checksum = ledger.get(migration.version)
        if checksum is None:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO public.session_service_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                    migration.version,
                    label,
                    migration.checksum,
                )
            applied.append(label)
        elif checksum != migration.checksum:
            raise SchemaError(f"{label} was applied with other contents: a migration must not change once released")
    return applied


async def _grant(connection: asyncpg.Connection[Any], role: str, password: str | None) -> None:
    exists = await connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)", role)
    if await connection.fetchval("SELECT current_user = $1", role):
        return  # a trial database with one role for everything
    quoted = _quote_identifier(role)
    async with connection.transaction():
        if not exists:
            await connection.execute(f"CREATE ROLE {quoted} LOGIN")
        if password:
            # ALTER ROLE takes no parameters: PostgreSQL itself quotes the literal.
            literal = await connection.fetchval("SELECT quote_literal($1)", password)
            await connection.execute(f"ALTER ROLE {quoted} PASSWORD {literal}")
        for schema in _SERVICE_SCHEMAS:
            await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}")
            await connection.execute(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {quoted}"
            )
            await connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}")
            await connection.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {quoted}")
        await connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON session.installation FROM {quoted}")
        await connection.execute(f"GRANT SELECT ON public.session_service_migrations TO {quoted}")
        await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.sessions TO {quoted}")


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
