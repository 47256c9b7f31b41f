"""A database to back up, and another server, which knows none of its roles, to restore to."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from session_service.database import sandbox_roles
from session_service.local.binaries import find_postgres
from session_service.local.postgres import EmbeddedPostgres
from tests.support.filled_database import VM, fill
from tests.support.memory_directory import MemoryDirectory
from tests.support.servers import Database
from tests.support.sql import Sql

ENVIRON = {"PATH": os.environ["PATH"]}
DATABASES = itertools.count(1)


class Target:
    """An empty database on the other server."""

    def __init__(self, server: EmbeddedPostgres, name: str) -> None:
        self.server = server
        self.name = name
        self._exits = AsyncExitStack()

    @property
    def dsn(self) -> str:
        return self.server.dsn(quote(self.name))

    async def __aenter__(self) -> Target:
        self.maintenance = await asyncpg.connect(self.server.dsn("postgres"))
        self._exits.push_async_callback(self.maintenance.close)
        await self.maintenance.execute(f'CREATE DATABASE "{self.name}"')
        return self

    async def __aexit__(self, *_: object) -> None:
        """The database and every role go that the server did not come with."""
        await self.maintenance.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        for role in await self.roles():
            await self.maintenance.execute(f'DROP ROLE "{role}"')
        await self._exits.aclose()

    async def roles(self) -> set[str]:
        rows = await self.maintenance.fetch("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND oid <> 10")
        return {row["rolname"] for row in rows}

    async def connect(self) -> Sql:
        connection = await asyncpg.connect(self.dsn)
        self._exits.push_async_callback(connection.close)
        return connection


@pytest.fixture(scope="package")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    directory = tmp_path_factory.mktemp("other")
    memory = MemoryDirectory(directory / "cluster")
    server = EmbeddedPostgres(find_postgres(), memory.path / "postgres", password="other", log=directory / "log")

    async def start() -> None:
        await server.prepare()
        await server.start()
        connection = await asyncpg.connect(server.dsn("postgres"))
        await connection.execute("ALTER SYSTEM SET fsync = off")  # as of the servers of all tests
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()

    with asyncio.Runner() as runner:
        runner.run(start())
        yield server
        runner.run(server.stop())
        server.close()
    memory.remove()


@pytest.fixture
async def target(other_server: EmbeddedPostgres) -> AsyncIterator[Target]:
    async with Target(other_server, f"restored {next(DATABASES)}") as made:
        yield made


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def filled(database: Database, owner: Sql) -> AsyncIterator[str]:
    """Rows in every table of ``database``; the DSN of a sandbox's own role."""
    yield await fill(database, owner)
    await sandbox_roles.remove_role(database.owner_dsn, VM)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "today's backup"


@pytest.fixture(autouse=True)
def directory(file: Path) -> Path:
    file.parent.mkdir()
    return file.parent
