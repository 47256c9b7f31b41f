"""Roles that log in as sandboxes do, over one test's own database."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg

from session_service.database import sandbox_roles
from session_service.database.migrations import migrate
from tests.support.cluster_template import SANDBOX_PASSWORD, SERVICE_PASSWORD, SERVICE_ROLE
from tests.support.servers import Database
from tests.support.sql import Sql


class Sandboxes:
    """Use as an asynchronous context manager: connections are closed and roles removed at its end."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._exits = AsyncExitStack()
        self._names: list[str] = []

    async def __aenter__(self) -> Sandboxes:
        # A copy of the template has its schema, not the rights on the database itself.
        await migrate(
            self.database.owner_dsn,
            service_role=SERVICE_ROLE,
            service_password=SERVICE_PASSWORD,
            sandbox_password=SANDBOX_PASSWORD,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()
        for name in self._names:
            await sandbox_roles.remove_role(self.database.owner_dsn, name)

    @property
    def shared_dsn(self) -> str:
        return self.dsn_of(sandbox_roles.SHARED_ROLE, SANDBOX_PASSWORD)

    def dsn_of(self, role: str, password: str) -> str:
        return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{self.database.port}/{self.database.name}"

    async def own_dsn(self, name: str) -> str:
        """Of the sandbox ``name``, whose role is made, or gets a new password."""
        if name not in self._names:
            self._names.append(name)
        return self.dsn_of(*await sandbox_roles.make_role(self.database.owner_dsn, name))

    async def owner(self) -> Sql:
        return await self.connect(self.database.owner_dsn)

    async def service(self) -> Sql:
        return await self.connect(self.database.service_dsn)

    async def shared(self) -> Sql:
        return await self.connect(self.shared_dsn)

    async def own(self, name: str) -> Sql:
        return await self.connect(await self.own_dsn(name))

    async def connect(self, dsn: str) -> Sql:
        connection: Sql = await asyncpg.connect(dsn)
        self._exits.push_async_callback(connection.close, timeout=5)
        return connection


async def put(connection: Sql, *, status: str | None = "pending", parent: UUID | None = None, **columns: Any) -> UUID:
    """A new row's id."""
    names = ["inbox_status", "parent", *columns]
    places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    made: UUID = await connection.fetchval(
        f"INSERT INTO session ({', '.join(names)}) VALUES ({places}) RETURNING id",  # noqa: S608 - names of columns
        status,
        parent,
        *columns.values(),
    )
    return made
