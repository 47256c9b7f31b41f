"""WebSocketRegistry: which connections this pod has, by session, client id and user, and which of them must go."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from session_service.domain.session import Session
from session_service.websocket.connection import ClientConnection
from session_service.websocket.session_entry import SessionEntry

MAX_CONNECTIONS_PER_SESSION = 8


class Placement(msgspec.Struct, frozen=True):
    """What follows from a connection's arrival.

    ``superseded``: a newer attempt of its client id is already here, so the arrival itself is the one to close.
    ``replaced``: older attempts, to be closed once the arrival's first frame is out.
    """

    superseded: bool
    replaced: tuple[ClientConnection, ...] = ()


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

    def add(self, connection: ClientConnection, session: Session) -> Placement:
        """Register a connection under its client id and attempt, and say which others must go.

        Of one client id the highest attempt stays; of equal ones the newest arrival. A superseded arrival is not
        registered.
        """
        others = self._connections.get(session.session_id, [])
        same_client = [one for one in others if one.client_id == connection.client_id and not one.is_leaving()]
        if any(one.attempt > connection.attempt for one in same_client):
            return Placement(superseded=True)
        entry = self._entries.get(session.session_id)
        if entry is None:
            entry = self._entries[session.session_id] = SessionEntry(session)
            theirs = self._sessions_of_user.get(session.user_id, ())
            self._sessions_of_user[session.user_id] = (*theirs, session.session_id)
        entry.expires_at = session.expires_at
        connection.entry = entry
        self._connections.setdefault(session.session_id, []).append(connection)
        return Placement(superseded=False, replaced=tuple(same_client))

    def over_limit(self, arrival: ClientConnection) -> tuple[ClientConnection, ...]:
        """Who must go now that ``arrival`` is open, and its session may have more than eight: the most silent.

        Asked only then, since several may arrive at once: each must see those that were opened before it.
        """
        if arrival.entry is None:
            return ()
        members = self._connections.get(arrival.entry.session_id, [])
        others = [one for one in members if one.is_open and not one.is_leaving() and one is not arrival]
        excess = len(others) + 1 - MAX_CONNECTIONS_PER_SESSION
        if excess <= 0:
            return ()
        return tuple(sorted(others, key=lambda one: one.last_message_s)[:excess])

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
