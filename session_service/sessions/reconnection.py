"""reconnection: sockets that come and go, and clients that come back."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress

import msgspec
import structlog

from session_service.database.events import EventBus
from session_service.database.sessions import SessionRepository
from session_service.database.sockets import Counted, LostSocket, SocketKind, SocketRepository, SocketRow
from session_service.domain import reconnect
from session_service.domain.events import EventType
from session_service.domain.identity import Identity
from session_service.domain.session import MAX_CONNECTIONS_PER_SESSION, Session
from session_service.errors import DatabaseUnavailableError, SessionNotFoundError
from session_service.sessions.session_ops import SessionOps

log = structlog.get_logger(__name__)

FULL_ROUND_EVERY = 10
# A new socket waits for its stream for a second: until then its client has only the older one.
FIRST_FRAME_LIMIT_S = 1.5


class OpenSocket(msgspec.Struct):
    """A counted socket of this pod. ``announced``: its first frame is out, and the other pods were told."""

    row: SocketRow
    user_id: str
    connections: int
    announced: bool = False


class Reconnection:
    """Keeps ``session.sockets`` true for this pod: each of its sockets has a row, and no other row names it.

    A row may move to the pod of a newer socket of the same client; then the older one is found by ``round``, where
    the event ``client_connected`` did not tell of it.
    """

    def __init__(
        self,
        repository: SessionRepository,
        sockets: SocketRepository,
        sessions: SessionOps,
        events: EventBus,
        *,
        pod_name: str,
        pod_id: Callable[[], str],
    ) -> None:
        self._repository = repository
        self._sockets = sockets
        self._sessions = sessions
        self._events = events
        self._pod_name = pod_name
        self._pod_id = pod_id
        self._rounds = 0
        self._open: dict[int, OpenSocket] = {}  # by arrival
        self._of_session: defaultdict[str, set[int]] = defaultdict(set)
        self._under_way: Counter[tuple[str, str]] = Counter()  # being opened or closed at this moment
        # Closed while PostgreSQL was away: said later, so that no session counts a socket that is gone.
        self._unsaid: dict[int, tuple[SocketRow, bool]] = {}

    async def reconnect(
        self, identity: Identity, session_id: str, device_id: str, client_id: str | None, attempt: int
    ) -> Session:
        """The client says that it is back; counted once for each attempt, whatever way it is said.

        Raises SessionNotFoundError, SessionExpiredError, DeviceMismatchError, DatabaseUnavailableError.
        """
        session = await self._sessions.own(identity, session_id)
        comeback = reconnect.said(session, device_id, client_id, attempt)
        again = await self._repository.reconnected(
            session_id, identity.user_id, comeback.counted_as, attempt, {"pod_name": self._pod_name}
        )
        if again is None:
            raise SessionNotFoundError
        return again

    # --- sockets -------------------------------------------------------------------------------------------------

    async def socket_opened(
        self, session_id: str, user_id: str, client_id: str, attempt: int, kind: SocketKind, *, named: bool
    ) -> Counted:
        """Count a socket: the session is ACTIVE, its expiry moves, and a reconnect is counted with it.

        ``named``: the client gave its id. Raises SessionNotFoundError, SessionExpiredError; ConnectionReplacedError
        where a later attempt of the same client is connected already; DatabaseUnavailableError, after which the
        socket does not count.
        """
        fields = {"pod_name": self._pod_name, "pod_terminating": False}
        fields["last_ws_connection" if kind == "websocket" else "last_sse_connection"] = int(time.time())
        comeback = reconnect.connected(client_id if named else None, attempt)
        with self._noted(session_id, client_id):
            counted = await self._sockets.open(
                session_id,
                client_id,
                attempt,
                kind,
                self._pod_id(),
                fields,
                reconnect_as=None if comeback is None else comeback.counted_as,
            )
            row = SocketRow(session_id, client_id, attempt, kind, counted.arrival)
            self._open[row.arrival] = OpenSocket(row, user_id, counted.connections)
            self._of_session[session_id].add(row.arrival)
        return counted

    def first_frame_sent(self, arrival: int) -> None:
        """From now on an older socket of the client may be closed, wherever it is: all pods are told."""
        socket = self._open.get(arrival)
        if socket is None:
            return
        socket.announced = True
        row = socket.row
        self._events.emit(
            EventType.CLIENT_CONNECTED,
            session_id=row.session_id,
            user_id=socket.user_id,
            client_id=row.client_id,
            attempt=row.attempt,
            arrival=row.arrival,
            connections=socket.connections,
        )

    async def make_room(self, arrival: int, silent_s: Callable[[str], Mapping[int, float]]) -> None:
        """Let the most silent sockets go where a new one is its session's ninth, whichever pod they are on.

        ``silent_s(session_id)``: for how long each socket here has said nothing, by arrival. Never raises: what stays
        for want of PostgreSQL goes with the next arrival or round.
        """
        socket = self._open.get(arrival)
        if socket is None or socket.connections <= MAX_CONNECTIONS_PER_SESSION:
            return
        session_id = socket.row.session_id
        try:
            await self._evict(session_id, arrival, silent_s(session_id))
        except DatabaseUnavailableError:
            log.warning("eviction_postponed", session_id=session_id)

    async def socket_closed(self, arrival: int, *, by_client: bool) -> None:
        """Uncount a socket. Never raises: while PostgreSQL is away it is noted, and said by ``round``."""
        socket = self._open.pop(arrival, None)
        if socket is None:
            return
        row = socket.row
        arrivals = self._of_session[row.session_id]
        arrivals.discard(arrival)
        if not arrivals:
            del self._of_session[row.session_id]
        with self._noted(row.session_id, row.client_id):
            if not socket.announced:
                # Else its pod closes the older one, and the client, which has opened the newer one, tries again.
                with suppress(DatabaseUnavailableError):
                    await self._sockets.reinstate(row)
            was_counted = await self._say_closed(row, by_client)
        if was_counted and socket.announced:  # else a newer one of the client is there
            self._events.emit(
                EventType.CLIENT_DISCONNECTED,
                session_id=row.session_id,
                user_id=socket.user_id,
                client_id=row.client_id,
            )

    # --- rounds --------------------------------------------------------------------------------------------------

    async def round(self, silent_s: Callable[[str], Mapping[int, float]]) -> list[LostSocket]:
        """Compare this pod's sockets with their rows. Returns those that have to be closed, and why.

        Most rounds are one statement that counts; what does not add up, and every tenth round, is looked into row by
        row. ``silent_s``: as in ``make_room``. Raises DatabaseUnavailableError.
        """
        self._keep_streams_alive()
        self._rounds += 1
        tally = await self._sockets.tally(self._pod_id())
        await self._hear(tally.crowded, silent_s)
        adds_up = (tally.sockets, tally.arrivals) == (len(self._open), sum(self._open))
        if adds_up and not self._unsaid and self._rounds % FULL_ROUND_EVERY:
            return [
                LostSocket(session_id, arrival, "expired")
                for session_id in tally.expired
                for arrival in self._of_session.get(session_id, ())
            ]
        return await self._assert_sockets()

    async def look_again(self, arrivals: Iterable[int]) -> list[LostSocket]:
        """As ``round``, for these sockets only. Raises DatabaseUnavailableError."""
        rows = [self._open[arrival].row for arrival in arrivals if arrival in self._open]
        return await self._assert(rows) if rows else []

    async def _assert(self, rows: Sequence[SocketRow]) -> list[LostSocket]:
        lost = await self._sockets.assert_own(rows, self._pod_id(), FIRST_FRAME_LIMIT_S)
        for row in rows:
            if row.arrival not in self._open:
                # It closed while the statement was on its way, which may have written it after its end.
                await self._say_closed(row, by_client=False)
        return lost

    async def _assert_sockets(self) -> list[LostSocket]:
        """Say what could not be said, write rows again where they are missing, remove those that stray."""
        for row, by_client in list(self._unsaid.values()):
            await self._say_closed(row, by_client)
        rows = [socket.row for socket in self._open.values()]
        lost = await self._assert(rows) if rows else []
        for row in await self._sockets.strays([socket.row for socket in self._open.values()], self._pod_id()):
            if (
                row.arrival not in self._open
                and row.arrival not in self._unsaid
                and (row.session_id, row.client_id) not in self._under_way
            ):
                # Opened by a statement whose reply was lost: nobody else here will ever close it.
                await self._say_closed(row, by_client=False)
        return lost

    async def _hear(self, crowded: Set[str], silent_s: Callable[[str], Mapping[int, float]]) -> None:
        """Write when the sockets of crowded sessions were last heard, so that any pod can choose the most silent."""
        heard = {
            (session_id, arrival): seconds
            for session_id in crowded
            for arrival, seconds in silent_s(session_id).items()
        }
        if not heard:
            return
        for session_id, connections in (await self._sockets.hear(heard)).items():
            if connections > MAX_CONNECTIONS_PER_SESSION:
                newest = max(self._of_session.get(session_id, {0}))
                await self._evict(session_id, newest, silent_s(session_id))

    async def _evict(self, session_id: str, arrival: int, silent_s: Mapping[int, float]) -> None:
        """Mark who goes, and tell their pods. Raises DatabaseUnavailableError."""
        for evicted in await self._sockets.evict(session_id, arrival, MAX_CONNECTIONS_PER_SESSION, silent_s):
            self._events.emit(
                EventType.CLIENT_EVICTED,
                session_id=session_id,
                client_id=evicted.client_id,
                arrival=evicted.arrival,
            )

    def _keep_streams_alive(self) -> None:
        """A server-sent event stream sends nothing upstream: that it is open is its session's activity."""
        for socket in self._open.values():
            if socket.row.kind == "sse":
                self._sessions.touch(socket.row.session_id)

    @contextmanager
    def _noted(self, session_id: str, client_id: str) -> Iterator[None]:
        """What PostgreSQL has of this client is not known before the statement is over."""
        key = (session_id, client_id)
        self._under_way[key] += 1
        try:
            yield
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    async def _say_closed(self, row: SocketRow, by_client: bool) -> bool:
        """Whether the row was there; false as well while that cannot be known."""
        kind = "ws" if row.kind == "websocket" else "sse"
        try:
            fields = {f"last_{kind}_disconnection": int(time.time())}
            was_counted = await self._sockets.close(row, fields, by_client=by_client)
        except DatabaseUnavailableError:
            self._unsaid[row.arrival] = (row, by_client)
            return False
        self._unsaid.pop(row.arrival, None)
        return was_counted
