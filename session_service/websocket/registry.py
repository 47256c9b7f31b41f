"""WebSocketRegistry: which connections this pod has, by session, client id and user, and which of them must go."""

from __future__ import annotations

from collections.abc import Iterator

from session_service.domain.session import Session
from session_service.websocket.connection import ClientConnection
from session_service.websocket.session_entry import SessionEntry


class WebSocketRegistry:
    def __init__(self) -> None:
        self._entries: dict[str, SessionEntry] = {}
        self._connections: dict[str, list[ClientConnection]] = {}
        self._sessions_of_user: dict[str, tuple[str, ...]] = {}  # most users have one: a set would be four times it

    def __len__(self) -> int:
        return sum(map(len, self._connections.values()))

    def __iter__(self) -> Iterator[ClientConnection]:
        for connections in self._connections.values():
            yield from connections

    def entry(self, session_id: str) -> SessionEntry | None:
        return self._entries.get(session_id)

    def of_session(self, session_id: str) -> tuple[ClientConnection, ...]:
        return tuple(self._connections.get(session_id, ()))

    def of_client(self, session_id: str, client_id: str) -> tuple[ClientConnection, ...]:
        return tuple(one for one in self._connections.get(session_id, ()) if one.client_id == client_id)

    def of_user(self, user_id: str) -> tuple[ClientConnection, ...]:
        sessions = self._sessions_of_user.get(user_id, ())
        return tuple(one for session_id in sessions for one in self._connections[session_id])

    def session_ids(self) -> tuple[str, ...]:
        return tuple(self._connections)

    def add(self, connection: ClientConnection, session: Session) -> bool:
        """Register a connection under its client id. False: a higher attempt is here, so it is the one to close."""
        others = self._connections.get(session.session_id, [])
        for one in others:
            if one.client_id == connection.client_id and one.attempt > connection.attempt and not one.is_leaving():
                return False
        entry = self._entries.get(session.session_id)
        if entry is None:
            entry = self._entries[session.session_id] = SessionEntry(session)
            theirs = self._sessions_of_user.get(session.user_id, ())
            self._sessions_of_user[session.user_id] = (*theirs, session.session_id)
        entry.expires_at = session.expires_at
        connection.entry = entry
        self._connections.setdefault(session.session_id, []).append(connection)
        return True

    def outdone_by(self, session_id: str, client_id: str, attempt: int, arrival: int) -> tuple[ClientConnection, ...]:
        """Who must go now that this socket of the client has had its first frame, here or on another pod.

        Of one client id the highest attempt stays, of equal ones the latest arrival, so that an event which comes
        late never closes the newer socket. One that is not counted yet may be the newer: PostgreSQL will say.
        """
        return tuple(
            one
            for one in self.of_client(session_id, client_id)
            if one.arrival is not None and (one.attempt, one.arrival) < (attempt, arrival)
        )

    def counted(self, session_id: str) -> dict[int, ClientConnection]:
        """The session's counted connections here, by arrival."""
        return {one.arrival: one for one in self._connections.get(session_id, ()) if one.arrival is not None}

    def remove(self, connection: ClientConnection) -> bool:
        """Forget a connection, and its session with the last one. False for one that is not registered."""
        entry = connection.entry
        connections = [] if entry is None else self._connections.get(entry.session_id, [])
        if entry is None or connection not in connections:
            return False
        connections.remove(connection)
        if not connections:
            del self._connections[entry.session_id]
            del self._entries[entry.session_id]
            left = tuple(one for one in self._sessions_of_user.pop(entry.user_id) if one != entry.session_id)
            if left:
                self._sessions_of_user[entry.user_id] = left
        return True
