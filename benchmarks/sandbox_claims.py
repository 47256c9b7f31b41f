"""Claims of the sandboxes' inbox per second, beside plain SQL that notifies too, in the same run; and as rows grow.

The comparator is the documented table with its documented indexes and trigger, and the index that a queue needs,
(created_at) of what is pending: SKIP LOCKED, a status, and a notification. It gives no token, no time limit and no
attempts. Both are called by the same workers over prepared statements, in turns, so that both see the same machine;
each figure is the median of its rounds. After each round the claimed rows are pending again, and vacuumed.

``claims`` waits for the disk at each commit, as a server does; the growth does not, since the disk has nothing to do
with the rows and would hide what has.
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
DATABASE = "sessiondb"
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


async def measure(postgres: EmbeddedPostgres) -> dict[str, Any]:
    dsn = postgres.dsn(DATABASE)
    password = secrets.token_hex(8)
    await ensure_database(
        postgres.dsn("postgres"),
        dsn,
        database=DATABASE,
        service_role="session_service",
        service_password=secrets.token_hex(8),
        sandbox_password=password,
    )
    owner = await asyncpg.connect(dsn)
    await owner.execute(PLAIN_TABLE)
    await owner.execute("GRANT USAGE ON SCHEMA plain TO sessionuser; GRANT ALL ON plain.session TO sessionuser")
    workers = [await asyncpg.connect(postgres.dsn(DATABASE, "sessionuser", password)) for _ in range(WORKERS)]
    figures: dict[str, Any] = {}
    for rows in ROWS:
        for table in CLAIM:
            await owner.execute(f"TRUNCATE {table} CASCADE")
            await workers[0].execute(FILL.format(table=table), rows)  # so that they are the shared role's
            await owner.execute(f"VACUUM ANALYZE {table}")
        rates: dict[str, list[float]] = {table: [] for table in CLAIM}
        durable: dict[str, list[float]] = {table: [] for table in CLAIM}
        for round_number in range(ROUNDS + 1):
            for table in CLAIM:
                rate = await claims_per_s(owner, workers, table, durable=False)
                durable_rate = await claims_per_s(owner, workers, table, durable=True)
                if round_number:  # the first warms up
                    rates[table].append(rate)
                    durable[table].append(durable_rate)
        figures[f"claims_per_s_{rows}"] = round(statistics.median(durable[OURS]))
        figures[f"plain_per_s_{rows}"] = round(statistics.median(durable[PLAIN]))
        figures[f"ratio_{rows}"] = round(statistics.median(durable[OURS]) / statistics.median(durable[PLAIN]), 2)
        figures[f"without_disk_per_s_{rows}"] = round(statistics.median(rates[OURS]))
        figures[f"without_disk_ratio_{rows}"] = round(
            statistics.median(rates[OURS]) / statistics.median(rates[PLAIN]), 2
        )
    figures["growth"] = round(figures[f"without_disk_per_s_{ROWS[0]}"] / figures[f"without_disk_per_s_{ROWS[-1]}"], 2)
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
    figures = asyncio.run(run())
    report("sandbox_claims", ("asyncpg",), {**figures, "goal_ratio": 0.8, "goal_growth": 1.3})
