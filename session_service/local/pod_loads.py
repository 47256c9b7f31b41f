"""How much each pod of a local run has to do, for people to look at: counted by PostgreSQL, seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import asyncpg
import msgspec

from session_service.database.sql_files import load_queries

KEPT_S = 1.0  # however many look, PostgreSQL is asked once in this time
CONNECT_LIMIT_S = 2.0
COMMAND_LIMIT_S = 2.0


class PodLoad(msgspec.Struct, frozen=True):
    """What the living incarnations of one pod name have. ``simulators``: those of its sessions that are not ended."""

    sessions: int = 0
    sockets: int = 0
    simulators: int = 0


class PodLoads:
    """``dsn`` leads to the run's database. End with ``close``."""

    def __init__(self, dsn: str, clock: Callable[[], float]) -> None:
        self._dsn = dsn
        self._clock = clock
        self._statement = load_queries()["pods.loads"]
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._known: Mapping[str, PodLoad] | None = None
        self._known_until_s = 0.0
        self._asking = asyncio.Lock()

    async def read(self) -> Mapping[str, PodLoad] | None:
        """By pod name, at most KEPT_S old; None while PostgreSQL is away, which is found out in four seconds."""
        async with self._asking:
            if self._clock() >= self._known_until_s:
                self._known = await self._ask()
                self._known_until_s = self._clock() + KEPT_S
            return self._known

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()  # it holds nothing that would have to be said goodbye to

    async def _ask(self) -> Mapping[str, PodLoad] | None:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._dsn, ssl=False, timeout=CONNECT_LIMIT_S, command_timeout=COMMAND_LIMIT_S
                )
            records = await self._connection.fetch(self._statement)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self.close()
            return None
        return {
            record["pod_name"]: PodLoad(record["sessions"], record["sockets"], record["simulators"])
            for record in records
        }
