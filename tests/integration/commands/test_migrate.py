"""`session-service migrate` and `serve` as a deployment runs them: output and exit codes (docs/configuration.md)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from session_service.local.ports import free_port
from tests.support.cluster_template import SERVICE_PASSWORD, SERVICE_ROLE
from tests.support.servers import TestServers


@pytest.fixture
async def empty(servers: TestServers) -> AsyncIterator[dict[str, str]]:
    """The environment of a migration job for an empty database."""
    owner = urlsplit(servers.postgres.dsn("postgres"))
    connection = await asyncpg.connect(servers.postgres.dsn("postgres"))
    await connection.execute("CREATE DATABASE migrated")
    yield {
        "DB_HOST": "127.0.0.1",
        "DB_PORT": str(servers.postgres.port),
        "DB_NAME": "migrated",
        "DB_USER": SERVICE_ROLE,
        "DB_PASSWORD": SERVICE_PASSWORD,
        "DB_SSLMODE": "disable",
        "MIGRATE_DB_USER": owner.username or "",
        "MIGRATE_DB_PASSWORD": owner.password or "",
    }
    await connection.execute("DROP DATABASE migrated WITH (FORCE)")
    await connection.close()


async def run(command: str, environ: dict[str, str], directory: Path) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "session_service", command),
        env={"PATH": os.environ["PATH"], **environ},
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), error.decode()


async def test_five_jobs_at_once_and_one_more(empty: dict[str, str], servers: TestServers, tmp_path: Path) -> None:
    ended = await asyncio.gather(*(run("migrate", empty, tmp_path) for _ in range(5)))
    assert [code for code, _output, _error in ended] == [0] * 5
    assert sum("applied 0001_pre_live_sessions" in output for _code, output, _error in ended) == 1
    code, output, error = await run("migrate", empty, tmp_path)
    assert (code, error) == (0, "")
    assert "nothing to do" in output
    # The service's role has its rights and no more.
    service = await asyncpg.connect(
        f"postgresql://{SERVICE_ROLE}:{SERVICE_PASSWORD}@127.0.0.1:{servers.postgres.port}/migrated"
    )
    try:
        assert await service.fetchval("SELECT count(*) FROM session.active_sessions") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute("CREATE TABLE session.another (a INT)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute("DROP TABLE session.active_sessions")
    finally:
        await service.close()


async def test_a_newer_schema_is_refused(empty: dict[str, str], servers: TestServers, tmp_path: Path) -> None:
    assert (await run("migrate", empty, tmp_path))[0] == 0
    owner = await asyncpg.connect(servers.postgres.dsn("migrated"))
    await owner.execute("INSERT INTO public.session_service_migrations VALUES (9999, '9999_pre_later', 'x', now())")
    await owner.close()
    code, output, error = await run("migrate", empty, tmp_path)
    assert (code, output) == (1, "")
    assert "newer" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [({"DB_PORT": "nobody"}, "cannot be migrated"), ({"MIGRATE_DB_PASSWORD": "wrong"}, "password")],
)
async def test_a_database_that_cannot_be_reached_is_one_line_and_1(
    empty: dict[str, str], tmp_path: Path, change: dict[str, str], said: str
) -> None:
    change = {name: str(free_port()) if value == "nobody" else value for name, value in change.items()}
    code, output, error = await run("migrate", {**empty, **change}, tmp_path)
    assert (code, output) == (1, "")
    assert said in error
    assert "Traceback" not in error
    assert empty["DB_PASSWORD"] not in error


async def test_serve_says_what_is_wrong_in_one_line_and_ends_with_2(tmp_path: Path) -> None:
    code, output, error = await run("serve", {"SIMULATOR_BACKEND": "service"}, tmp_path)
    assert (code, output) == (2, "")
    assert error.startswith("session-service: EXCHANGE_MANAGER_SERVICE must be ")
    assert error.count("\n") == 1
