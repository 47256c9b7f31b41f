"""The roles that an archive names: they are the server's, and no archive of a database holds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[Any]"


async def make_missing_roles(
    connection: Connection, roles: Iterable[str], *, service_role: str | None
) -> tuple[str, ...]:
    """Make those that the server does not have, and return them. They cannot log in, but for ``service_role``, which
    has no password yet. Raises ``asyncpg.PostgresError`` as it comes: then none was made.
    """
    made = []
    async with connection.transaction():
        for role in sorted(set(roles)):
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
                await connection.execute(
                    f"CREATE ROLE {_quote(role)} {'LOGIN' if role == service_role else 'NOLOGIN'}"
                )
                made.append(role)
    return tuple(made)


async def remove_roles(connection: Connection, roles: Iterable[str]) -> None:
    """Of a restore that failed; what named them is not there. Raises ``asyncpg.PostgresError`` as it comes."""
    async with connection.transaction():
        for role in roles:
            await connection.execute(f"DROP ROLE IF EXISTS {_quote(role)}")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
