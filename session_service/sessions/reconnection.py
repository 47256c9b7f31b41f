"""reconnection: sockets that come and go, and clients that come back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from session_service.database.events import EventBus
from session_service.database.sessions import SessionRepository, SocketKind, SocketRow
from session_service.domain.events import EventType
from session_service.domain.identity import Identity
from session_service.domain.session import Session
from session_service.errors import (
    ConnectionReplacedError,
    DatabaseUnavailableError,
    DeviceMismatchError,
    SessionNotFoundError,
)
from session_service.sessions.session_ops import SessionOps

log = structlog.get_logger(__name__)


FULL_ROUND_EVERY = 10


class Reconnection:
    """Keeps ``session.sockets`` true for this pod: each of its sockets has a row, and no other row names it."""

    def __init__(
        self, repository: SessionRepository, sessions: SessionOps, events: EventBus, *, pod_name: str, pod_id: str
    ) -> None:
        self._repository = repository
        self._sessions = sessions
        self._events = events
        self._pod_name = pod_name
        self._pod_id = pod_id
        self._rounds = 0
        self._open: dict[tuple[str, str], SocketRow] = {}
        self._under_way: Counter[SocketRow] = Counter()  # being opened or closed at this moment
        # Closed while PostgreSQL was away: said later, so that no session counts a socket that is gone.
        self._unsaid: dict[tuple[str, str], tuple[SocketRow, bool]] = {}

    async def reconnect(self, identity: Identity, session_id: str, device_id: str, attempt: int) -> Session:
        """The client says that it is back. Raises SessionNotFoundError, SessionExpiredError, DeviceMismatchError."""
        session = await self._sessions.own(identity, session_id)
        check_device(session, device_id)
        again = await self._repository.reconnected(session_id, identity.user_id, {"pod_name": self._pod_name})
        if again is None:
            raise SessionNotFoundError
        return again

    async def socket_opened(
        self, session_id: str, user_id: str, client_id: str, attempt: int, kind: SocketKind
    ) -> None:
        """Count a socket: the session is ACTIVE, its expiry moves.

        Raises SessionNotFoundError, SessionExpiredError; ConnectionReplacedError where a later attempt of the same
        client is connected already; DatabaseUnavailableError, after which the socket does not count.
        """
        row = SocketRow(session_id, client_id, attempt, kind)
        now = int(time.time())
        fields = {"pod_name": self._pod_name, "pod_terminating": False}
        fields["last_ws_connection" if kind == "websocket" else "last_sse_connection"] = now
        with self._noted(row):
            if not await self._repository.open_socket(row, self._pod_id, fields):
                raise ConnectionReplacedError
        self._open[session_id, client_id] = row
        self._unsaid.pop((session_id, client_id), None)
        self._events.emit(EventType.CLIENT_CONNECTED, session_id=session_id, user_id=user_id, client_id=client_id)

    async def socket_closed(
        self, session_id: str, user_id: str, client_id: str, attempt: int, *, by_client: bool
    ) -> None:
        """Uncount a socket. Never raises: while PostgreSQL is away it is noted, and said by ``assert_sockets``."""
        row = self._open.get((session_id, client_id))
        if row is None or row.attempt != attempt:
            return  # a newer socket of the client has taken its place
        del self._open[session_id, client_id]
        with self._noted(row):
            await self._say_closed(row, by_client)
        self._events.emit(EventType.CLIENT_DISCONNECTED, session_id=session_id, user_id=user_id, client_id=client_id)

    async def round(self) -> set[str]:
        """Compare this pod's sockets with their rows. Returns the sessions with a socket here that have ended.

        Most rounds are one statement that counts; what does not add up, and every tenth round, is looked into row by
        row. Raises DatabaseUnavailableError.
        """
        self._keep_streams_alive()
        self._rounds += 1
        counted, ended = await self._repository.tally_sockets(self._pod_id)
        if counted == len(self._open) and not self._unsaid and self._rounds % FULL_ROUND_EVERY:
            return ended
        await self.assert_sockets()
        return await self.lost_sessions()

    async def assert_sockets(self) -> None:
        """Say what could not be said, write rows again where they are missing, remove those that stray."""
        for row, by_client in list(self._unsaid.values()):
            await self._say_closed(row, by_client)
        rows = list(self._open.values())
        if rows:
            await self._repository.assert_sockets(rows, self._pod_id)
        for row in rows:
            if (row.session_id, row.client_id) not in self._open:
                # It closed while the statement was on its way, which may have written it after its end.
                await self._say_closed(row, by_client=False)
        for row in await self._repository.stray_sockets(list(self._open.values()), self._pod_id):
            key = (row.session_id, row.client_id)
            if key not in self._open and key not in self._unsaid and row not in self._under_way:
                # Opened by a statement whose reply was lost: nobody else here will ever close it.
                await self._say_closed(row, by_client=False)

    def _keep_streams_alive(self) -> None:
        """A server-sent event stream sends nothing upstream: that it is open is its session's activity."""
        for row in self._open.values():
            if row.kind == "sse":
                self._sessions.touch(row.session_id)

    async def lost_sessions(self) -> set[str]:
        """Sessions with a socket here that have ended: finds what a lost event would have told."""
        session_ids = {row.session_id for row in self._open.values()}
        if not session_ids:
            return set()
        return session_ids - await self._repository.still_there(sorted(session_ids))

    @contextmanager
    def _noted(self, row: SocketRow) -> Iterator[None]:
        """What PostgreSQL has of this row is not known before the statement is over."""
        self._under_way[row] += 1
        try:
            yield
        finally:
            self._under_way[row] -= 1
            if not self._under_way[row]:
                del self._under_way[row]

    async def _say_closed(self, row: SocketRow, by_client: bool) -> None:
        kind = "ws" if row.kind == "websocket" else "sse"
        key = (row.session_id, row.client_id)
        try:
            fields = {f"last_{kind}_disconnection": int(time.time())}
            await self._repository.close_socket(row, self._pod_id, fields, by_client=by_client)
        except DatabaseUnavailableError:
            self._unsaid[key] = (row, by_client)
        else:
            self._unsaid.pop(key, None)


def check_device(session: Session, device_id: str) -> None:
    """Raises DeviceMismatchError where the session belongs to another device of the user."""
    if session.device_id is not None and session.device_id != device_id:
        raise DeviceMismatchError
