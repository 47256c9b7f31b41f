"""Claims of the sandboxes' inbox per second, beside plain SQL that notifies too, in the same run; and as rows grow.

The comparator is the documented table with its documented indexes and trigger, and the index that a queue needs,
(created_at) of what is pending: SKIP LOCKED, a status, and a notification. It gives no token, no time limit and no
attempts. Both are called by the same number of workers over prepared statements, and all sizes are there at once and
measured in turns, so that all see the same machine; each figure is the median of its rounds. After each round the
claimed rows are pending again, and vacuumed.

A server waits for the disk at each commit, and commits that notify do so one after the other. The growth is measured
without that wait, which has nothing to do with the rows and would hide what has.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.support import report
from session_service.local.binaries import find_postgres
from session_service.local.database import ensure_database
from session_service.local.postgres import EmbeddedPostgres

ROWS = [int(rows) for rows in os.environ.get("BENCH_ROWS", "1000 10000 100000 1000000").split()]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
WORKERS = 8
CLAIMS = 400  # a round; at the smallest size most of what is pending
SERVER = {"shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off"}

PLAIN_TABLE = """
    CREATE SCHEMA plain;
    CREATE TABLE plain.session (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(), messages JSONB, inbox_status public.inbox_status,
        sbx_config JSONB, parent UUID REFERENCES plain.session (id) ON DELETE SET NULL,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(), updated_at TIMESTAMPTZ NOT NULL DEFAULT now());
    CREATE INDEX ON plain.session (parent);
    CREATE INDEX ON plain.session (inbox_status);
    CREATE INDEX ON plain.session (created_at) WHERE inbox_status = 'pending';
    CREATE FUNCTION plain.touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
    CREATE TRIGGER update_session_updated_at BEFORE UPDATE ON plain.session
        FOR EACH ROW EXECUTE FUNCTION plain.touch();
"""
FILL = """
    INSERT INTO {table} (messages, sbx_config, inbox_status, created_at)
    SELECT jsonb_build_array(jsonb_build_object('task', repeat('x', 200))), '{{"config": "value"}}',
           (ARRAY['pending', 'completed'])[1 + n % 2]::public.inbox_status, now() - make_interval(secs => n)
    FROM generate_series(1, $1::int) n
"""
RESET = """
    UPDATE {table} SET inbox_status = 'pending' WHERE inbox_status = 'processing'
"""
CLAIM = {
    "public.session": "SELECT * FROM public.session_claim('worker', 300)",
    "plain.session": """
        WITH claimed AS (
            UPDATE plain.session SET inbox_status = 'processing' WHERE id = (
                SELECT id FROM plain.session WHERE inbox_status = 'pending'
                ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING *)
        SELECT *, pg_notify('plain_inbox', id::text) FROM claimed
    """,
}
OURS, PLAIN = CLAIM
Connection = Any  # asyncpg's is generic in its stubs only


async def claims_per_s(owner: Connection, workers: list[Connection], table: str, *, durable: bool) -> float:
    statements = []
    for worker in workers:
        await worker.execute(f"SET synchronous_commit = {'on' if durable else 'off'}")
        statements.append(await worker.prepare(CLAIM[table]))
    left = iter(range(CLAIMS))
    claimed = set()

    async def work(statement: Any) -> None:
        for _ in left:
            row = await statement.fetchrow()
            claimed.add(row["id"])

    began_s = time.perf_counter()
    await asyncio.gather(*(work(statement) for statement in statements))
    took_s = time.perf_counter() - began_s
    if len(claimed) != CLAIMS:
        raise SystemExit(f"{table}: {len(claimed)} rows for {CLAIMS} claims: the figures would mean nothing")
    await owner.execute(RESET.format(table=table))
    await owner.execute(f"VACUUM {table}")
    return CLAIMS / took_s


async def prepare(postgres: EmbeddedPostgres, rows: int, password: str) -> tuple[Connection, list[Connection]]:
    """A database with so many rows in each table; its owner's connection, and those of the workers."""
    database = f"rows_{rows}"
    await ensure_database(
        postgres.dsn("postgres"),
        postgres.dsn(database),
        database=database,
        service_role="session_service",
        service_password=secrets.token_hex(8),
        sandbox_password=password,
    )
    owner = await asyncpg.connect(postgres.dsn(database))
    await owner.execute(PLAIN_TABLE)
    await owner.execute("GRANT USAGE ON SCHEMA plain TO sessionuser; GRANT ALL ON plain.session TO sessionuser")
    await owner.execute("SET ROLE sessionuser")  # whose the rows are to be, without its time limits
    for table in CLAIM:
        await owner.execute(FILL.format(table=table), rows)
    await owner.execute("RESET ROLE")
    await owner.execute("VACUUM (ANALYZE)")
    return owner, [await asyncpg.connect(postgres.dsn(database, "sessionuser", password)) for _ in range(WORKERS)]


async def measure(postgres: EmbeddedPostgres) -> dict[str, Any]:
    password = secrets.token_hex(8)
    databases = {rows: await prepare(postgres, rows, password) for rows in ROWS}
    rates: dict[tuple[int, str, bool], list[float]] = {}
    for round_number in range(ROUNDS + 1):
        for rows, (owner, workers) in databases.items():
            for durable in (True, False):
                for table in CLAIM:
                    rate = await claims_per_s(owner, workers, table, durable=durable)
                    if round_number:  # the first warms up
                        rates.setdefault((rows, table, durable), []).append(rate)
    figures: dict[str, Any] = {}
    for rows, durable in ((rows, durable) for rows in ROWS for durable in (True, False)):
        where = f"{rows} rows{'' if durable else ', not waiting for the disk'}"
        ours, plain = rates[rows, OURS, durable], rates[rows, PLAIN, durable]
        figures[f"claims/s, {where}"] = round(statistics.median(ours))
        figures[f"plain SQL/s, {where}"] = round(statistics.median(plain))
        figures[f"ratio, {where} (at least 0.8)"] = round(
            statistics.median(one / other for one, other in zip(ours, plain, strict=True)), 2
        )
    fewest, most = rates[min(ROWS), OURS, False], rates[max(ROWS), OURS, False]
    slower = statistics.median(less / more for less, more in zip(fewest, most, strict=True))
    figures[f"{max(ROWS)} to {min(ROWS)} rows (at most 1.3)"] = round(slower, 2)
    for owner, workers in databases.values():
        for connection in (owner, *workers):
            await connection.close()
    return figures


async def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sandbox-claims-") as directory:
        home = Path(directory)
        postgres = EmbeddedPostgres(
            find_postgres(), home / "postgres", password=secrets.token_hex(8), log=home / "postgres.log"
        )
        await postgres.prepare()
        await postgres.start()
        try:
            connection = await asyncpg.connect(postgres.dsn("postgres"))
            for name, value in SERVER.items():
                await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            await connection.close()
            await postgres.stop()
            await postgres.start()
            return await measure(postgres)
        finally:
            await postgres.stop()
            postgres.close()


if __name__ == "__main__":
    report("sandbox_claims", ("asyncpg",), asyncio.run(run()))
