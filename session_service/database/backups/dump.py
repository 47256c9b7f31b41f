"""Takes a backup: an archive of pg_dump, and behind it what every table held in the same snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import asyncpg

from session_service import __version__
from session_service.database.backups import manifest as manifests
from session_service.database.backups.backup_file import NewBackupFile, sha256_of
from session_service.database.backups.client_program import run_client_program
from session_service.database.backups.contents import connect, contents_of
from session_service.database.backups.manifest import Manifest
from session_service.database.postgres_programs import client_programs
from session_service.database.sql_files import load_queries
from session_service.errors import BackupError

_LOCK_LIMIT_MS = 120_000


async def take_backup(dsn: str, path: Path, *, environ: Mapping[str, str], replace: bool = False) -> Manifest:
    """Write the database at ``dsn`` to ``path``, mode 0600, of one snapshot, beside those who work with it.

    ``environ`` is passed on to pg_dump (PATH, PGSSLROOTCERT). The file is whole under its name or not there; one that
    is there is replaced only if ``replace`` says so, and only at the end. Cancelled, it leaves nothing.

    Raises BackupError for what pg_dump refuses, and where ``dsn`` is no database of this service or its role does not
    see every row; ConfigurationError where there is no pg_dump that is new enough; ``asyncpg.PostgresError`` and
    ``OSError`` as they come.
    """
    queries = load_queries()
    connection = await connect(dsn)
    try:
        server_major = connection.get_server_version().major
        programs = client_programs("pg_dump", server_major)
        with NewBackupFile(path, replace=replace) as new:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                try:
                    identity = await connection.fetchrow(queries["backups.identity"])
                except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                    identity = None
                if identity is None:
                    raise BackupError("the database has no schema of this service: run `session-service migrate`")
                snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
                tables = await contents_of(connection, queries)
                roles = await connection.fetch(queries["backups.roles"])
                await run_client_program(
                    programs.directory / "pg_dump",
                    dsn,
                    [
                        "--format=custom",
                        f"--snapshot={snapshot}",
                        "--no-unlogged-table-data",
                        # That it sees every row is known; without this it refuses those who see them by a policy.
                        "--enable-row-security",
                        f"--lock-wait-timeout={_LOCK_LIMIT_MS}",
                    ],
                    environ=environ,
                    stdout=new.file,
                )
            length_bytes = new.file.seek(0, 2)
            manifest = Manifest(
                release=__version__,
                taken_at=identity["now"],
                database_id=identity["database_id"],
                schema_version=identity["schema_version"],
                server_major=server_major,
                dump_major=programs.major,
                roles=tuple(row["role"] for row in roles),
                tables=tables,
                archive_bytes=length_bytes,
                archive_sha256=await sha256_of(new.file, length_bytes),
            )
            new.append(manifests.encode(manifest))
            new.keep()
    except asyncpg.InsufficientPrivilegeError as error:
        raise BackupError(f"{error}: connect as the owner of the database's objects (MIGRATE_DB_USER)") from error
    finally:
        await connection.close(timeout=5)
    return manifest
