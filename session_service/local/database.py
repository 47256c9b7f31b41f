"""The database of a local run: made once, its schema applied at every start."""

from __future__ import annotations

import asyncpg

from session_service.database.migrations import migrate
from session_service.local.server_error import ServerStartError

CONNECT_LIMIT_S = 10.0
CREATE_LIMIT_S = 30.0


async def ensure_database(
    maintenance_dsn: str,
    dsn: str,
    *,
    database: str,
    service_role: str,
    service_password: str,
    sandbox_password: str | None = None,
) -> str:
    """Create ``database`` if it is not there, migrate it, and say what was done. Pods of an earlier run are dead.

    Raises SchemaError for a schema newer than this release, ServerStartError for what else PostgreSQL refuses.
    """
    # The server has no TLS; asked for it, the client would look for certificates in a home directory that may be
    # somebody else's.
    without_tls = "?sslmode=disable"
    try:
        connection = await asyncpg.connect(
            maintenance_dsn + without_tls, timeout=CONNECT_LIMIT_S, command_timeout=CREATE_LIMIT_S
        )
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", database):
                await connection.execute(f'CREATE DATABASE "{database}"')
            # The server is this run's own, and nobody but its owner has business in the databases that came with it.
            await connection.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
        finally:
            await connection.close()
        report = await migrate(
            dsn + without_tls,
            service_role=service_role,
            service_password=service_password,
            sandbox_password=sandbox_password,
        )
        await _declare_pods_dead(dsn + without_tls)
    except asyncpg.PostgresError as error:
        raise ServerStartError("the database", str(error)) from error
    done = f"applied {', '.join(report.applied)}" if report.applied else "up to date"
    return f"version {report.version}, {done}"


async def _declare_pods_dead(dsn: str) -> None:
    """No pod is left of an earlier run, however it ended, and none of this one has begun: nobody need observe that.

    What they owned is adopted by this run's pods at once, and their simulators, gone with it, are found to be so.
    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_LIMIT_S, command_timeout=CREATE_LIMIT_S)
    try:
        await connection.execute("UPDATE session.pods SET dead = TRUE, died_at = now() WHERE NOT dead")
    finally:
        await connection.close()
