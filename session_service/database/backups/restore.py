"""Restores a backup into an empty database, compares every table with what the backup says, and makes it ready.

What a backup has of things that were running (pods, who owns what, sockets) holds no more: see ``_settle``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import msgspec

from session_service.database import sandbox_roles
from session_service.database.backups.backup_file import read_manifest
from session_service.database.backups.client_program import run_client_program
from session_service.database.backups.contents import Connection, connect, contents_of
from session_service.database.backups.manifest import Difference, Manifest, differences
from session_service.database.backups.roles import make_missing_roles, remove_roles
from session_service.database.migrations import MigrationReport, migrate
from session_service.database.postgres_programs import client_programs
from session_service.database.sql_files import Queries, load_migrations, load_queries
from session_service.errors import BackupError, SchemaError

_REMOVE_LIMIT_S = 10.0
_LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_OF_A_COPY = (
    "backups.new_identity",
    "backups.end_simulators",
    "backups.forget_spares",
    "backups.forget_workloads",
)
_OF_EVERY_RESTORE = (
    "backups.end_what_was_running",
    "backups.end_connections",
    "backups.doubt_cache",
    "backups.renumber_users",
    "backups.renumber_simulators",
    "backups.renumber_removals",
)


class RestoreReport(msgspec.Struct, frozen=True):
    """``differing``: tables that are not as they were backed up; then nothing was done with the database after that.

    ``made_roles``: roles that the server did not have. ``migration`` is None where tables differ.
    """

    manifest: Manifest
    differing: dict[str, Difference]
    made_roles: tuple[str, ...]
    migration: MigrationReport | None


async def restore_backup(
    dsn: str,
    path: Path,
    *,
    environ: Mapping[str, str],
    service_role: str | None = None,
    service_password: str | None = None,
    as_copy: bool = False,
) -> RestoreReport:
    """Restore ``path`` into the empty database at ``dsn``, compare, settle, and migrate it to this release.

    The objects will belong to the role of ``dsn``. Until the last table is there, the database stays empty: a failure
    or a cancellation before that undoes everything, roles included. ``as_copy``: the database gets an identity of its
    own and no simulator, so that it can serve beside the original.

    Raises BackupError for a file that is not whole or of a later release, a database that is not empty or in use,
    what pg_restore says, and whatever happens after it has ended, a cancellation too; ConfigurationError where there
    is no pg_restore that is new enough; ``asyncpg.PostgresError`` and ``OSError`` as they come.
    """
    queries = load_queries()
    manifest = await read_manifest(path)
    newest = max(migration.version for migration in load_migrations())
    if manifest.schema_version > newest:
        raise BackupError(
            f"{path} has schema version {manifest.schema_version}, newer than this release's {newest}:"
            f" restore it with release {manifest.release} or a later one"
        )
    programs = client_programs("pg_restore", manifest.dump_major)
    connection = await connect(dsn)
    try:
        await _refuse_unfit(connection, queries, manifest)
        roles = set(manifest.roles) | ({service_role} if service_role else set())
        made = await make_missing_roles(connection, roles, service_role=service_role)
        try:
            await run_client_program(
                programs.directory / "pg_restore",
                dsn,
                ["--single-transaction", "--exit-on-error", "--no-owner", str(path)],
                environ=environ,
            )
        except BaseException as error:
            await _remove_roles(connection, made, error)
            raise
        try:
            await sandbox_roles.show_every_row_to_owner(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                differing = differences(manifest.tables, await contents_of(connection, queries))
            if differing:
                return RestoreReport(manifest, differing, made, None)
            migration = await migrate(dsn, service_role=service_role, service_password=service_password)
            await _settle(connection, queries, as_copy=as_copy)
            await sandbox_roles.assert_restored(connection)
            await connection.execute("ANALYZE")  # no archive has statistics, and pods shall not wait for autovacuum
        except (asyncio.CancelledError, SchemaError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise BackupError(
                f"the rows are there, but no pod may serve them: drop the database; {error!r}"
            ) from error
    finally:
        await connection.close(timeout=5)
    return RestoreReport(manifest, {}, made, migration)


async def _remove_roles(connection: Connection, made: tuple[str, ...], cause: BaseException) -> None:
    try:
        async with asyncio.timeout(_REMOVE_LIMIT_S):
            await remove_roles(connection, made)
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        raise BackupError(
            f"{cause}; the database is as it was, but has these roles now: {', '.join(made)}"
        ) from cause


async def _refuse_unfit(connection: Connection, queries: Queries, manifest: Manifest) -> None:
    server_major = connection.get_server_version().major
    if server_major < manifest.server_major:
        raise BackupError(
            f"the server is PostgreSQL {server_major}, older than the {manifest.server_major} that the backup is from"
        )
    if found := await connection.fetchval(queries["backups.first_object"]):
        raise BackupError(f"the database is not empty (it has {found}): restore into one that was just created")
    if others := await connection.fetchval(queries["backups.others_connected"]):
        raise BackupError(f"{others} others are connected to the database: end them (pods, poolers) before a restore")


async def _settle(connection: Connection, queries: Queries, *, as_copy: bool) -> None:
    """Make a database whose rows are those of an instant in the past one that pods can serve from."""
    async with connection.transaction():
        for name in (*_OF_A_COPY, *_OF_EVERY_RESTORE) if as_copy else _OF_EVERY_RESTORE:
            await connection.execute(queries[name])
        await connection.execute("ALTER TABLE public.session DISABLE TRIGGER USER")
        await connection.execute(queries["backups.renumber_sandbox_sessions"])
        await connection.execute("ALTER TABLE public.session ENABLE TRIGGER USER")
