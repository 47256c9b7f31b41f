"""What an operation costs as the rows become more (row 11): 10³ to 10⁶ sessions, live ones and named ones.

The statements are the product's own, over one connection, in databases that differ only in their rows and are
measured in turns. Everywhere as many sessions are in use, drawn from all rows: what grows are the tables and indexes
around them. New ones go wherever their random ids put them.

Commits do not wait for the disk here: how long that takes has nothing to do with the rows, and would hide what has.
PostgreSQL has memory for all rows, and makes no checkpoint while it is measured; with the 128 MB of its defaults it
is the size of the memory that is measured, and the disk.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from benchmarks.data_growth.live_sessions import LiveSessions
from benchmarks.data_growth.named_sessions import NamedSessions
from benchmarks.support import report
from session_service.database.sql_files import load_queries
from session_service.local.binaries import find_postgres
from session_service.local.database import ensure_database
from session_service.local.postgres import EmbeddedPostgres

ROWS = [int(rows) for rows in os.environ.get("BENCH_ROWS", "1000 10000 100000 1000000").split()]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "40"))
WARM_UP = 5
IN_USE = 100  # sessions, or users of named ones
SERVER = {"shared_buffers": "2GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
TEMPLATE = "migrated"

Kinds = list[tuple[str, LiveSessions | NamedSessions]]


async def configure(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres.dsn("postgres"))
    for name, value in SERVER.items():
        await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await connection.close()
    await postgres.stop()
    await postgres.start()


async def connect(postgres: EmbeddedPostgres, database: str) -> asyncpg.Connection[Any]:
    connection = await asyncpg.connect(postgres.dsn(database))
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda raw: msgspec.json.decode(raw[1:]),
    )
    await connection.execute("SET synchronous_commit = off")
    return connection


async def prepare(postgres: EmbeddedPostgres, rows: int) -> Kinds:
    """A database of as many live and as many named sessions."""
    database = f"rows_{rows}"
    maintenance = await asyncpg.connect(postgres.dsn("postgres"))
    await maintenance.execute(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE}")
    await maintenance.close()
    connection = await connect(postgres, database)
    queries = load_queries()
    kinds: Kinds = [("live", LiveSessions(connection, queries)), ("named", NamedSessions(connection, queries))]
    for _name, sessions in kinds:
        await sessions.seed(rows)
    await connection.execute("VACUUM (ANALYZE)")
    for _name, sessions in kinds:
        await sessions.draw(IN_USE)
    return kinds


async def compare(postgres: EmbeddedPostgres, all_rows: Sequence[int]) -> dict[str, Any]:
    databases = {rows: await prepare(postgres, rows) for rows in all_rows}
    maintenance = await asyncpg.connect(postgres.dsn("postgres"))
    await maintenance.execute("CHECKPOINT")
    await maintenance.close()
    times_us: dict[str, dict[int, list[float]]] = {}
    for number in range(WARM_UP + ROUNDS):
        for rows, kinds in databases.items():
            for kind, sessions in kinds:
                for operation, took_us in (await sessions.round()).items():
                    if number >= WARM_UP:
                        of_operation = times_us.setdefault(f"{kind}, {operation}", {})
                        of_operation.setdefault(rows, []).append(took_us)
    figures: dict[str, Any] = {}
    fewest, most = min(all_rows), max(all_rows)
    for operation, by_rows in times_us.items():
        for rows in all_rows:
            figures[f"{operation}: us with {rows} rows"] = round(statistics.median(by_rows[rows]))
        ratio = statistics.median(more / less for more, less in zip(by_rows[most], by_rows[fewest], strict=True))
        figures[f"{operation}: {most} to {fewest} rows (at most 1.3)"] = round(ratio, 2)
    return figures


async def main(directory: Path) -> dict[str, Any]:
    postgres = EmbeddedPostgres(
        find_postgres(), directory / "postgres", password=secrets.token_hex(8), log=directory / "postgres.log"
    )
    await postgres.prepare()
    await postgres.start()
    try:
        await configure(postgres)
        await ensure_database(
            postgres.dsn("postgres"),
            postgres.dsn(TEMPLATE),
            database=TEMPLATE,
            service_role="session_service",
            service_password=secrets.token_hex(16),
        )
        return await compare(postgres, ROWS)
    finally:
        await postgres.stop()
        postgres.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        measured = asyncio.run(main(Path(made)))
    report("growth", ("asyncpg",), measured)
