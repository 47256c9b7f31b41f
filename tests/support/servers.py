"""The real servers of a test session: embedded PostgreSQL and Valkey, and a database per test."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import msgspec

from session_service.local.binaries import find_postgres, find_valkey
from session_service.local.postgres import EmbeddedPostgres
from session_service.local.valkey import EmbeddedValkey
from tests.support.cluster_template import SERVICE_PASSWORD, SERVICE_ROLE, TEMPLATE, ClusterTemplate
from tests.support.memory_directory import MemoryDirectory


class Database(msgspec.Struct, frozen=True):
    """One test's own database, with the schema applied. ``owner_dsn``: the superuser's."""

    name: str
    port: int
    owner_dsn: str
    service_dsn: str

    def environ(self) -> dict[str, str]:
        """What a pod needs to use it."""
        return {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.port),
            "DB_NAME": self.name,
            "DB_USER": SERVICE_ROLE,
            "DB_PASSWORD": SERVICE_PASSWORD,
            "DB_SSLMODE": "disable",
        }


class TestServers:
    """Both servers, over a copy of ``template``. ``start`` and ``stop`` run on one loop of the main thread."""

    __test__ = False

    def __init__(self, directory: Path, template: ClusterTemplate) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._memory = MemoryDirectory(directory / "clusters")
        self._template = template
        self._cluster = self._memory.path / "postgres"
        self.postgres = EmbeddedPostgres(
            find_postgres(), self._cluster, password=template.password, log=directory / "postgres.log"
        )
        self.valkey = EmbeddedValkey(find_valkey(), password=secrets.token_hex(8), log=directory / "valkey.log")
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        self._template.copy_to(self._cluster)
        await self.postgres.prepare()
        await self.postgres.start()
        await self.valkey.start()

    async def stop(self) -> None:
        await self.valkey.stop()
        await self.postgres.stop()
        self.postgres.close()
        self._memory.remove()

    async def create_database(self) -> Database:
        """A copy of the template: the schema is there, the rows are this test's own."""
        name = f"test_{next(self._numbers)}"
        # File by file: less work than the default, which writes each page to the log, for a template so small.
        await self._on_maintenance(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}" STRATEGY FILE_COPY')
        owner_dsn = self.postgres.dsn(name)
        # A copy has the template's identity; two installations never have the same.
        await _execute(owner_dsn, "UPDATE session.installation SET database_id = gen_random_uuid()")
        port = self.postgres.port
        password = quote(SERVICE_PASSWORD, safe="")
        return Database(name, port, owner_dsn, f"postgresql://{SERVICE_ROLE}:{password}@127.0.0.1:{port}/{name}")

    async def drop_database(self, database: Database) -> None:
        await self._on_maintenance(f'DROP DATABASE "{database.name}" WITH (FORCE)')

    def redis_environ(self) -> dict[str, str]:
        parts = urlsplit(self.valkey.url())
        return {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(parts.port),
            "REDIS_PASSWORD": parts.password or "",
        }

    async def _on_maintenance(self, statement: str) -> None:
        await _execute(self.postgres.dsn("postgres"), statement)


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
