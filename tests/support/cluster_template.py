"""A PostgreSQL cluster at rest, with the schema in one of its databases: made once, and copied for each server."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import asyncpg

from session_service.database.migrations import migrate
from session_service.local.binaries import find_postgres
from session_service.local.postgres import EmbeddedPostgres
from tests.support.memory_directory import MemoryDirectory

TEMPLATE = "sessiondb_template"
SERVICE_ROLE = "session_service"
SERVICE_PASSWORD = "service-role-password-of-the-tests"
SANDBOX_PASSWORD = "sandbox-password-of-the-tests"
SETTINGS = {
    # Tests kill processes, not the machine, and each makes and drops a database: none waits for a disk.
    "fsync": "off",
    # Nor does it pile up a log, of which nobody will recover more than the last second.
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
}


class ClusterTemplate:
    """``make`` it on a loop of the main thread; ``password``: its superuser's, and that of every copy.

    The copies have one system identifier (initdb(1)): a test of two servers that have to differ makes one without.
    """

    def __init__(self, directory: Path) -> None:
        self._memory = MemoryDirectory(directory / "template")
        self._cluster = self._memory.path / "postgres"
        self._log = directory / "template.log"
        self.password = secrets.token_hex(8)

    async def make(self) -> None:
        postgres = EmbeddedPostgres(find_postgres(), self._cluster, password=self.password, log=self._log)
        await postgres.prepare()
        await postgres.start()
        connection = await asyncpg.connect(postgres.dsn("postgres"))
        for name, value in SETTINGS.items():
            await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await connection.execute(f'CREATE DATABASE "{TEMPLATE}"')
        await connection.close()
        await migrate(
            postgres.dsn(TEMPLATE),
            service_role=SERVICE_ROLE,
            service_password=SERVICE_PASSWORD,
            sandbox_password=SANDBOX_PASSWORD,
        )
        await postgres.stop()
        postgres.close()

    def copy_to(self, cluster: Path) -> None:
        """Make ``cluster`` what an EmbeddedPostgres over it finds whole. Files keep their owners and modes."""
        cluster.mkdir(parents=True)
        subprocess.run(["cp", "-a", self._cluster / "data", cluster / "data"], check=True)

    def remove(self) -> None:
        self._memory.remove()
