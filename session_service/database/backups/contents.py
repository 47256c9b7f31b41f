"""What the tables of a database hold: rows and checksums, of one snapshot."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg

from session_service.database.backups.manifest import TableContents
from session_service.database.sql_files import Queries
from session_service.errors import BackupError

Connection: TypeAlias = "asyncpg.Connection[Any]"

# How a row's text is written depends on these. The limits are a role's own, for shorter work than this.
SETTINGS = {
    "application_name": "session-service",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_TRANSACTION_TIMEOUT_SINCE = 17

# SHA-256: MD5 is not to be had everywhere, and PostgreSQL's own hash functions may change from version to version.
_CONTENTS = """
    SELECT count(*) AS rows, coalesce(sum(
        ('x' || left(encode(sha256(convert_to("row of backup"::text, 'UTF8')), 'hex'), 16))::bit(64)::bigint
    ), 0)::text AS checksum
    FROM ONLY {table} AS "row of backup"
"""


async def connect(dsn: str, *, timeout_s: float = 10.0) -> Connection:
    """A connection that may work for as long as it takes, and writes rows as text the same way everywhere."""
    connection = await asyncpg.connect(dsn, timeout=timeout_s, server_settings=SETTINGS)
    if connection.get_server_version().major >= _TRANSACTION_TIMEOUT_SINCE:
        await connection.execute("SET transaction_timeout = 0")
    return connection


async def contents_of(connection: Connection, queries: Queries) -> dict[str, TableContents]:
    """Every table whose rows pg_dump writes, by its quoted name; unlogged ones are not among them.

    To be called in a REPEATABLE READ transaction, which makes it one snapshot. Raises BackupError where row-level
    security may keep rows from the role that asks: it would not know how many there are.
    """
    tables = await connection.fetch(queries["backups.tables"])
    hidden = [table["name"] for table in tables if table["rows_may_be_hidden"]]
    if hidden:
        raise BackupError(
            f"row-level security may keep rows of {', '.join(hidden)} from the role that connects:"
            " it has to own the database's objects, or be a superuser, or have BYPASSRLS (MIGRATE_DB_USER)"
        )
    contents = {}
    for table in tables:
        row = await connection.fetchrow(_CONTENTS.format(table=table["name"]))
        if row is not None:
            contents[table["name"]] = TableContents(row["rows"], row["checksum"])
    return contents
