"""Statements that were carried out although their caller was told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_service.database.sockets import Counted, SocketRepository
from session_service.errors import DatabaseUnavailableError
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect


class LosesReplies(SocketRepository):
    """Opens the socket, and loses the first reply."""

    def __init__(self, real: SocketRepository) -> None:
        self.__dict__ = real.__dict__
        self.lost = 0

    async def open(self, *socket: Any, reconnect_as: str | None) -> Counted:
        counted = await super().open(*socket, reconnect_as=reconnect_as)
        if self.lost == 0:
            self.lost += 1
            raise DatabaseUnavailableError
        return counted


async def test_a_socket_whose_opening_was_carried_out_unknown_to_us_is_uncounted(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    """Else its session would count a socket for ever: never INACTIVE, its simulator never idle."""
    service: Service = await make_service(POD_LEASE_SECONDS="1")
    reconnection = service.server._sessions.reconnection
    repository = reconnection._sockets = LosesReplies(reconnection._sockets)
    async with connect(service, connected=False) as refused:
        assert (await refused.receive())["errorCode"] == "SERVICE_UNAVAILABLE"
    assert repository.lost == 1
    async with connect(service):  # another client id of the same session: it stays

        async def is_alone() -> bool:
            return bool(await sql.fetchval("SELECT count(*) = 1 FROM session.sockets"))

        await eventually(is_alone, within_s=20, what="one row for one socket")
        assert await sql.fetchval("SELECT status FROM session.active_sessions") == "ACTIVE"

    async def waits_for_its_client() -> bool:
        return bool(await sql.fetchval("SELECT status <> 'ACTIVE' FROM session.active_sessions"))

    await eventually(waits_for_its_client, within_s=20, what="no socket")
