"""The document's snippets and queries run as they are written there; host, port and password aside.

``documented/`` holds them word for word. psql comes with the embedded PostgreSQL, psycopg2 with the development
packages, and pg for Node.js by ``make .venv/.node-pg``, which ``make test`` calls.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from session_service.database.migrations import migrate
from session_service.local.binaries import find_postgres
from tests.support.cluster_template import SANDBOX_PASSWORD
from tests.support.sandboxes import Sandboxes, put
from tests.support.servers import Database, TestServers

DOCUMENTED = Path(__file__).parent / "documented"
LIMIT_S = 60.0
ROW = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
async def sessiondb(servers: TestServers) -> AsyncIterator[Sandboxes]:
    """A database that is called as the document calls it."""
    maintenance = await asyncpg.connect(servers.postgres.dsn("postgres"))
    await maintenance.execute("CREATE DATABASE sessiondb")
    port = servers.postgres.port
    try:
        await migrate(servers.postgres.dsn("sessiondb"))
        database = Database("sessiondb", port, servers.postgres.dsn("sessiondb"), "")
        async with Sandboxes(database) as made:
            yield made
    finally:
        await maintenance.execute("DROP DATABASE sessiondb WITH (FORCE)")
        await maintenance.close()


def psql() -> str:
    """The program that belongs to the embedded server, else an installed one."""
    own = find_postgres().directory / "psql"
    found = str(own) if own.exists() else shutil.which("psql")
    if found is None:
        pytest.skip("neither the embedded PostgreSQL nor this machine has psql")
    return found


async def run(*command: str, sandboxes: Sandboxes, stdin: str | None = None, **environ: str) -> str:
    """Standard output; a failure, or anything on standard error, fails the test."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PGPASSWORD": SANDBOX_PASSWORD, **environ},
    )
    async with asyncio.timeout(LIMIT_S):
        output, errors = await process.communicate(None if stdin is None else stdin.encode())
    assert (process.returncode, errors.decode()) == (0, "")
    return output.decode()


def snippet(name: str, sandboxes: Sandboxes) -> str:
    """As documented, with this server's address and password."""
    text = (DOCUMENTED / name).read_text(encoding="utf-8")
    replaced = text.replace("10.1.0.1", "127.0.0.1").replace("5432", str(sandboxes.database.port))
    return replaced.replace("sessionpass123", SANDBOX_PASSWORD)


async def run_psql(sandboxes: Sandboxes, statements: str) -> str:
    where = ("-h", "127.0.0.1", "-p", str(sandboxes.database.port), "-U", "sessionuser", "-d", "sessiondb")
    quiet = ("--no-psqlrc", "-v", "ON_ERROR_STOP=1", "--tuples-only", "--no-align")
    return await run(psql(), *where, *quiet, sandboxes=sandboxes, stdin=statements)


async def test_the_queries_with_psql(sessiondb: Sandboxes) -> None:
    shared = await sessiondb.shared()
    parent = await put(shared, messages='{"msg": "Hello"}', sbx_config='{"config": "value"}')
    child = await put(shared, status="processing", parent=parent)
    month_ago = await shared.fetchval("SELECT now() - interval '31 days'")
    old = await put(shared, status="completed", created_at=month_ago)
    young = await put(shared, status="completed")
    output = await run_psql(sessiondb, (DOCUMENTED / "queries.sql").read_text(encoding="utf-8"))
    lines = output.splitlines()
    assert [line.split("|")[0] for line in lines[:4]] == [str(row) for row in (young, child, parent, old)]
    assert {*lines[4:7]} == {"pending|1", "processing|1", "completed|2"}
    assert [line.split("|")[0] for line in lines[7:]] == [str(child), "DELETE 1"]  # children; no orphan; the delete
    assert {row["id"] for row in await shared.fetch("SELECT id FROM session")} == {young, child, parent}


async def test_the_monitoring_queries_with_psql(sessiondb: Sandboxes) -> None:
    output = await run_psql(sessiondb, (DOCUMENTED / "monitoring.sql").read_text(encoding="utf-8"))
    database_size, table_size, connections = output.splitlines()
    assert re.fullmatch(r"\d+ (kB|MB)", database_size)
    assert re.fullmatch(r"\d+ (bytes|kB)", table_size)
    assert int(connections) >= 1


async def test_the_python_client(sessiondb: Sandboxes) -> None:
    output = await run(sys.executable, "-c", snippet("client.py.txt", sessiondb), sandboxes=sessiondb)
    made, row = output.splitlines()
    assert re.fullmatch(f"Created session: {ROW}", made)
    # The documented columns come first, in the documented order.
    assert row.startswith(
        f"('{made.split()[-1]}', {{'msg': 'Hello'}}, 'pending', {{'config': 'value'}}, None, datetime"
    )


async def test_the_node_client(sessiondb: Sandboxes) -> None:
    node = shutil.which("node", path=f"{os.environ['PATH']}{os.pathsep}{Path(sys.prefix) / 'bin'}")
    if node is None:
        pytest.skip("there is no Node.js")
    packages = Path(sys.prefix) / "node-pg" / "node_modules"
    if not (packages / "pg").exists():
        pytest.skip("pg for Node.js is not installed: make .venv/.node-pg")
    output = await run(node, "-e", snippet("client.js", sessiondb), sandboxes=sessiondb, NODE_PATH=str(packages))
    assert re.match(f"Created session: {ROW}\n", output)
    assert "messages: { msg: 'Hello' }" in output
    assert "sbx_config: { config: 'value' }" in output


async def test_the_documented_table(sessiondb: Sandboxes) -> None:
    """Columns, types, defaults, indexes and the trigger."""
    shared = await sessiondb.shared()
    columns = await shared.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute"
        " WHERE attrelid = 'session'::regclass AND attnum > 0 ORDER BY attnum LIMIT 7"
    )
    assert [tuple(column) for column in columns] == [
        ("id", "uuid", True),
        ("messages", "jsonb", False),
        ("inbox_status", "inbox_status", False),
        ("sbx_config", "jsonb", False),
        ("parent", "uuid", False),
        ("created_at", "timestamp with time zone", True),
        ("updated_at", "timestamp with time zone", True),
    ]
    labels = await shared.fetchval("SELECT enum_range(NULL::inbox_status)::text")
    assert labels == "{pending,processing,completed,failed}"
    row = await shared.fetchrow("INSERT INTO session DEFAULT VALUES RETURNING *")
    assert row is not None
    assert row["inbox_status"] is None
    assert row["created_at"] == row["updated_at"]
    assert await shared.fetchval("SELECT now() - $1::timestamptz < interval '1 minute'", row["created_at"])
    changed = await shared.fetchrow("UPDATE session SET messages = '[]' RETURNING created_at, updated_at")
    assert changed is not None
    assert changed["updated_at"] > changed["created_at"] == row["created_at"]
    triggers = await shared.fetch("SELECT tgname FROM pg_trigger WHERE tgrelid = 'session'::regclass")
    assert "update_session_updated_at" in {trigger["tgname"] for trigger in triggers}
    indexes = {
        line["indexdef"] for line in await shared.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = 'session'")
    }
    for column in ("id", "parent", "inbox_status"):
        assert any(definition.endswith(f"({column})") for definition in indexes)
