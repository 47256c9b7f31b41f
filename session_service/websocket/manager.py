"""WebSocketManager: the life of every client connection of this pod, from its request to its last byte."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11

from session_service.clients.auth import AuthClient
from session_service.config import Settings
from session_service.database.sockets import LostSocket, SocketKind
from session_service.domain.events import EventType, SessionEvent
from session_service.domain.identity import Identity
from session_service.domain.session import EndReason
from session_service.domain.simulator import Simulator, SimulatorStatus
from session_service.errors import (
    AuthenticationError,
    ConnectionReplacedError,
    DatabaseUnavailableError,
    OriginNotAllowedError,
    PodTerminatingError,
    SessionNotFoundError,
    SessionServiceError,
    UnavailableError,
    UnknownSymbolError,
)
from session_service.sessions.manager import SessionManager
from session_service.telemetry.metrics import Metrics
from session_service.websocket.admission import AdmissionControl, AdmissionLimits
from session_service.websocket.auth import (
    Admission,
    ConnectionPolicy,
    OpenedSession,
    authenticate_websocket_request,
    check_origin,
    open_session,
    request_token,
    token_deadline_s,
    validate,
)
from session_service.websocket.connection import (
    CLOSE_LIMIT_S,
    ClientConnection,
    EventStreamConnection,
    WebSocketConnection,
)
from session_service.websocket.dispatcher import STREAM_WAIT_S, WebSocketDispatcher
from session_service.websocket.drain import drain_slots
from session_service.websocket.emitters import Emitters
from session_service.websocket.handshake import SUBPROTOCOL, accept, check_upgrade, offered_subprotocols, take_over
from session_service.websocket.origin import allowed_origins
from session_service.websocket.registry import WebSocketRegistry
from session_service.websocket.session_entry import SessionEntry
from session_service.websocket.streams import StreamManager
from session_service.websocket.traffic import Traffic
from session_service.wire import event_stream, resume_query
from session_service.wire.close_codes import CloseCode, refusal_code
from session_service.wire.fields import is_object_id
from session_service.wire.messages import Authenticate, ClientMessage, UnreadableMessage
from session_service.wire.protocol import Phase, ProtocolLimits, SocketProtocol, silence_limit_s
from session_service.wire.proxies import trusted_networks
from session_service.wire.resume_query import ResumeQuery

log = structlog.get_logger(__name__)

COMMAND_LIMIT_S = 3.0  # at shutdown, for commands in flight
DUE_MARGIN_S = 0.05  # PostgreSQL's clock decides what is due


class WebSocketManager:
    """Accepts WebSockets and event streams, and closes them. ``sweep`` must be called about once a second.

    It subscribes to nothing and starts no loop: its owner feeds it the session events and calls the sweep.
    ``clock``: monotonic seconds.
    """

    def __init__(
        self,
        *,
        sessions: SessionManager,
        auth: AuthClient,
        streams: StreamManager,
        metrics: Metrics,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        admission: AdmissionLimits | None = None,
        comment_interval_s: float = event_stream.COMMENT_INTERVAL_S,
    ) -> None:
        self._sessions = sessions
        self._auth = auth
        self._streams = streams
        self._metrics = metrics
        self._clock = clock
        self._pod_name = settings.server.pod_name
        self._policy = ConnectionPolicy(
            query_token=settings.websocket.query_token,
            allowed_origins=allowed_origins(settings.server.cors_allowed_origins),
            trusted=trusted_networks(settings.server.trusted_proxies),
        )
        self._limits = ProtocolLimits(silence_s=silence_limit_s(settings.websocket.heartbeat_interval_s))
        self._comment_interval_s = comment_interval_s
        self._admission = AdmissionControl(admission or AdmissionLimits(), metrics, clock)
        self._traffic = Traffic(metrics)
        self._emitters = Emitters(self._pod_name, settings.websocket.heartbeat_interval_s)
        self._dispatcher = WebSocketDispatcher(sessions, auth, self._emitters, self._traffic, clock)
        self._verifications: dict[WebSocketConnection, asyncio.Task[None]] = {}
        self._connections: set[ClientConnection] = set()
        self._admissions: dict[WebSocketConnection, Admission] = {}  # sockets whose token has yet to come
        self._looks: set[asyncio.Task[None]] = set()
        self._draining = False
        self.registry = WebSocketRegistry()

    # --- WebSockets ----------------------------------------------------------------------------------------

    async def handle_connection(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws``. Returns when the connection is over.

        Raises, before the upgrade, the error that the HTTP answer is made of; to a request that offers ``session.v1``
        most refusals come after the upgrade instead, as an ``error`` frame and a close code. When it is cancelled,
        the connection is aborted.
        """
        check_origin(request, self._policy)
        check_upgrade(request)
        try:
            admission = await self._admit(request)
        except (OriginNotAllowedError, UnavailableError):
            raise
        except SessionServiceError as error:
            if SUBPROTOCOL not in offered_subprotocols(request):
                raise
            return await self._refuse_after_upgrade(request, error)
        response = await accept(request)
        connection = self._new_websocket(request, admission)
        if connection is None:
            return response
        try:
            take_over(request, connection)
            if admission.opened is None:
                self._admissions[connection] = admission
                self._admission.unauthenticated += 1
            else:
                await self._open_websocket(connection, admission.query, admission.opened)
            del admission  # an idle connection keeps nothing of its set-up
            await connection.ended
        finally:
            await self._leave(connection)
        return response

    async def _admit(self, request: web.Request) -> Admission:
        with self._admission.setup():
            return await authenticate_websocket_request(
                request, auth=self._auth, sessions=self._sessions, policy=self._policy, admit=self._check_admission
            )

    def _check_admission(self, identity: Identity | None) -> None:
        """May this connection be set up, or at first be held without a token? Raises PodTerminatingError,
        OverloadedError.
        """
        if self._draining:
            raise PodTerminatingError
        if identity is None:
            self._admission.check_unauthenticated()
        else:
            self._admission.admit()

    def _new_websocket(self, request: web.Request, admission: Admission) -> WebSocketConnection | None:
        """None when the peer is gone already."""
        transport = request.transport
        if transport is None:
            return None
        query, opened = admission.query, admission.opened
        now_s = self._clock()
        connection = WebSocketConnection(
            transport,
            self._traffic,
            self._clock,
            SocketProtocol(self._limits, now_s, authenticated=opened is not None),
            self,
            client_id=query.client_id or new_client_id(),
            attempt=query.attempt,
            named=query.client_id is not None,
            identity=None if opened is None else opened.identity,
        )
        self._add(connection)
        self._metrics.websocket_connections.inc()
        return connection

    async def _open_websocket(
        self, connection: WebSocketConnection, query: ResumeQuery, opened: OpenedSession
    ) -> None:
        """Register, count, attach to the stream, send ``connected``; or say why not, and close."""
        try:
            with self._admission.setup():
                entry = await self._enter(connection, query, opened, "websocket")
        except SessionServiceError as error:
            self._refuse(connection, error)
            return
        except Exception:  # a fault of ours: the client is told to come back, and the log has the rest
            log.exception("connection_failed")
            connection.close(CloseCode.INTERNAL_ERROR, "internal error")
            return
        if entry is None or connection.is_leaving():
            return
        now_s = self._clock()
        deadline_s = token_deadline_s(opened.identity, now_s, time.time())
        held = connection.protocol.opened(deadline_s, now_s)
        if connection.attachment is not None:
            connection.attachment.start()
        connection.carry_out(held)
        await self._make_room(connection)

    def on_message(self, connection: WebSocketConnection, message: ClientMessage) -> None:
        """A client's message, from the connection."""
        try:
            self._take(connection, message)
        except Exception:  # it was called while bytes were read: an error would tear the transport down unexplained
            log.exception("message_failed")
            connection.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _take(self, connection: WebSocketConnection, message: ClientMessage) -> None:
        if connection.protocol.phase is Phase.VERIFYING and isinstance(message, Authenticate):
            self._verifications[connection] = asyncio.create_task(self._verify(connection, message.token))
        elif connection.entry is not None:
            self._dispatcher.dispatch(connection, connection.entry, message)

    def on_refusal(self, connection: WebSocketConnection, refusal: UnreadableMessage) -> None:
        self._dispatcher.refuse(connection, refusal)

    async def _verify(self, connection: WebSocketConnection, token: str) -> None:
        """The first message's token: from here on as for a request that brought its own."""
        admission = self._admissions.get(connection)
        if admission is None:
            return
        self._traffic.received("authenticate")
        try:
            with self._admission.setup():
                identity = await validate(self._auth, token)
                self._check_admission(identity)
                opened = await open_session(self._sessions, identity, admission.query, admission.client)
        except SessionServiceError as error:
            self._refuse(connection, error)
            return
        except Exception:  # as above
            log.exception("authentication_failed_unexpectedly")
            connection.close(CloseCode.INTERNAL_ERROR, "internal error")
            return
        self._authenticated(connection)
        if connection.is_leaving():
            return
        connection.identity = identity
        connection.protocol.authenticated(self._clock())
        await self._open_websocket(connection, admission.query, opened)
        self._verifications.pop(connection, None)

    def _authenticated(self, connection: WebSocketConnection) -> None:
        if self._admissions.pop(connection, None) is not None:
            self._admission.unauthenticated -= 1

    def _refuse(self, connection: ClientConnection, error: SessionServiceError) -> None:
        if isinstance(error, AuthenticationError):
            log.info("authentication_failed", reason=error.reason)
        if isinstance(error, ConnectionReplacedError):
            self._replace(connection)
            return
        connection.send(self._emitters.error(error))
        code = CloseCode.SERVICE_RESTART if isinstance(error, PodTerminatingError) else refusal_code(error)
        connection.close(code, error.message)

    async def _refuse_after_upgrade(self, request: web.Request, error: SessionServiceError) -> web.StreamResponse:
        """Browsers cannot read a refused upgrade: they get the error as a frame, and a close code of 45xx."""
        response = await accept(request)
        transport = request.transport
        if transport is not None:
            now_s = self._clock()
            connection = WebSocketConnection(
                transport,
                self._traffic,
                self._clock,
                SocketProtocol(self._limits, now_s, authenticated=False),
                self,
                client_id="",
            )
            take_over(request, connection)
            self._refuse(connection, error)
            await connection.ended
        return response

    # --- server-sent events --------------------------------------------------------------------------------

    async def handle_event_stream(self, request: web.Request) -> web.StreamResponse:
        """``GET /api/sessions/{session_id}/events``: the server frames as events. Returns when the stream is over.

        Raises, before the answer began, the error that the HTTP answer is made of.
        """
        with self._admission.setup():
            token = request_token(request, self._policy.query_token)
            if token is None:
                raise AuthenticationError("no token")
            identity = await validate(self._auth, token)
            self._check_admission(identity)
            query = resume_query.parse(request.query, device_required=False)
            session_id = request.match_info["session_id"]
            if not is_object_id(session_id):
                raise SessionNotFoundError
            session = await self._sessions.session_ops.own(identity, session_id)
        return await self._serve_event_stream(request, query, OpenedSession(identity, session, False))

    async def _serve_event_stream(
        self, request: web.Request, query: ResumeQuery, opened: OpenedSession
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=event_stream.HEADERS)
        response.force_close()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        now_s = self._clock()
        connection = EventStreamConnection(
            transport,
            self._traffic,
            self._clock,
            client_id=query.client_id or new_client_id(),
            attempt=query.attempt,
            named=query.client_id is not None,
            identity=opened.identity,
            token_deadline_s=token_deadline_s(opened.identity, now_s, time.time()),
            comment_interval_s=self._comment_interval_s,
            chunked=request.version >= HttpVersion11,
        )
        self._add(connection)
        self._metrics.sse_connections.inc()
        last_event = resume_query.last_event_position(request.headers.get("Last-Event-ID"))
        if last_event is not None:  # the browser's own reconnect: newer than the address it was made with
            query = resume_query.at(query, last_event)
        try:
            try:
                await self._enter(connection, query, opened, "sse")
            except SessionServiceError as error:
                self._refuse(connection, error)
            if connection.attachment is not None and not connection.is_leaving():
                connection.attachment.start()
            await self._make_room(connection)
            await connection.ended
        finally:
            await self._leave(connection)
        return response

    # --- both ----------------------------------------------------------------------------------------------

    async def _enter(
        self, connection: ClientConnection, query: ResumeQuery, opened: OpenedSession, kind: SocketKind
    ) -> SessionEntry | None:
        """Register a connection and send its ``connected``. None when it is gone already.

        Raises ConnectionReplacedError where a newer attempt is here, and what the database says.

        The connection is registered before the database is asked: what ends the session meanwhile is either seen
        there or told by an event, never missed between the two.
        """
        session = opened.session
        structlog.contextvars.bind_contextvars(session_id=session.session_id, user_id=session.user_id)
        added = self.registry.add(connection, session)
        entry = connection.entry
        if not added or entry is None:
            raise ConnectionReplacedError
        reconnection, simulators = self._sessions.reconnection, self._sessions.simulator_ops
        version, known_version = entry.simulator_version, simulators.version
        counted = await reconnection.socket_opened(
            session.session_id,
            session.user_id,
            connection.client_id,
            connection.attempt,
            kind,
            named=connection.named,
        )
        connection.arrival = counted.arrival
        entry.simulator_read(counted.simulator, version)
        simulators.seen(counted.simulator, known_version)  # its stream is looked for next
        if connection.is_leaving():
            return None
        attachment = self._streams.attach(
            session.session_id, connection.client_id, connection, query.position, query.symbols
        )
        connection.attachment = attachment
        await attachment.ready(STREAM_WAIT_S)
        if connection.is_leaving():
            return None
        connection.send(
            self._emitters.connected(
                connection.client_id,
                entry,
                is_new=opened.is_new,
                position=attachment.position,
                resumed=attachment.resumed,
            )
        )
        connection.is_open = True
        if entry.queue_position is not None:
            connection.send(self._emitters.simulator_status(entry))
        try:
            attachment.check_symbols(query.symbols)
        except UnknownSymbolError as error:
            # The socket stays, under the filter it asked for: a `subscribe` mends it.
            connection.send(self._emitters.error(error))
        # With its first frame older ones of the client go, here and elsewhere. Where it could not be told in time how
        # this one continues, an older one is all that the client has until exchange data comes.
        announce = partial(reconnection.first_frame_sent, counted.arrival)
        if attachment.position is None and entry.simulator_status is SimulatorStatus.RUNNING:
            connection.on_exchange_data = announce
        else:
            announce()
        if connection.evicted:
            self._evict(connection)
        return entry

    async def _make_room(self, connection: ClientConnection) -> None:
        if connection.is_open and connection.arrival is not None:
            await self._sessions.reconnection.make_room(connection.arrival, self._silent_s)

    def _silent_s(self, session_id: str) -> Mapping[int, float]:
        """For how long each of the session's connections here has said nothing, by arrival."""
        now_s = self._clock()
        return {arrival: now_s - one.last_message_s for arrival, one in self.registry.counted(session_id).items()}

    def _supersede(self, connection: ClientConnection) -> None:
        """A newer socket of the client is there."""
        if self._draining:
            connection.close(CloseCode.NORMAL, "moved")
        else:
            self._replace(connection)

    def _evict(self, connection: ClientConnection) -> None:
        """The session has too many, and this one was chosen."""
        connection.evicted = True
        if connection.is_open:  # `connected` is the first frame, also of many that come at once
            self._replace(connection, "connection_limit")

    def _replace(self, connection: ClientConnection, reason: str = "newer_connection") -> None:
        connection.send(self._emitters.connection_replaced(reason))
        connection.close(CloseCode.REPLACED, reason)

    def _add(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        self._admission.connection_began()

    async def _leave(self, connection: ClientConnection) -> None:
        """Take back everything that the connection had. Never raises."""
        self._connections.discard(connection)
        self._admission.connection_ended()
        if isinstance(connection, WebSocketConnection):
            self._authenticated(connection)
            self._metrics.websocket_connections.dec()
            verification = self._verifications.pop(connection, None)
            if verification is not None:  # it may be registering the connection at this moment
                await asyncio.wait([verification])
        else:
            self._metrics.sse_connections.dec()
        if not connection.ended.done():  # the handler was cancelled: nobody will read the close frame's answer
            connection.abort()
        if connection.attachment is not None:
            connection.attachment.detach()
            connection.attachment = None
        entry = connection.entry
        if entry is None or not self.registry.remove(connection):
            return
        if not self.registry.of_client(entry.session_id, connection.client_id):
            self._sessions.connection_quality.forget(entry.session_id, connection.client_id)
        if connection.arrival is not None:
            await self._sessions.reconnection.socket_closed(connection.arrival, by_client=connection.closed_by_peer)

    # --- what happens elsewhere ----------------------------------------------------------------------------

    def on_event(self, event: SessionEvent) -> None:
        """A session event of this pod or another. Frames and closes go out before it returns."""
        session_id = event.session_id
        if session_id is None:
            return
        entry = self.registry.entry(session_id)
        if entry is None:
            return
        if event.type is EventType.SESSION_ENDED:
            self._end(self.registry.of_session(session_id), event.reason or EndReason.ENDED)
        elif event.type is EventType.CLIENT_CONNECTED:
            if event.client_id is not None and event.attempt is not None and event.arrival is not None:
                for older in self.registry.outdone_by(session_id, event.client_id, event.attempt, event.arrival):
                    self._supersede(older)
        elif event.type is EventType.CLIENT_EVICTED:
            evicted = self.registry.counted(session_id).get(event.arrival or 0)
            if evicted is not None:
                self._evict(evicted)
        elif event.simulator_id is not None and event.status is not None:
            if entry.simulator_changed(
                event.simulator_id, event.status, event.reason, event.changed_in, event.queue_position
            ):
                outgoing = self._emitters.simulator_status(entry)
                for connection in self.registry.of_session(session_id):
                    if connection.is_open:  # `connected` is the first frame, and will say it
                        connection.send(outgoing)
            if event.queue_position is None:  # a place in the queue says nothing of a stream
                self._streams.simulator_changed(session_id)

    async def socket_round(self) -> None:
        """Find what a lost event would have told of the sockets here. Raises DatabaseUnavailableError."""
        lost = await self._sessions.reconnection.round(self._silent_s)
        self._lose_due(lost)
        later = [one for one in lost if one.due_in_s > 0]
        if later:
            task = asyncio.create_task(self._look_again(later), name="replaced sockets")
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)

    async def _look_again(self, lost: Sequence[LostSocket]) -> None:
        """When they are due: until then the newer one may have ended without a frame, and the older one stays."""
        await asyncio.sleep(max(one.due_in_s for one in lost) + DUE_MARGIN_S)
        with suppress(DatabaseUnavailableError):  # the next round finds them
            self._lose_due(await self._sessions.reconnection.look_again([one.arrival for one in lost]))

    def _lose_due(self, lost: Iterable[LostSocket]) -> None:
        for one in lost:
            if one.due_in_s <= 0:
                self._lose(one)

    def _lose(self, lost: LostSocket) -> None:
        connection = self.registry.counted(lost.session_id).get(lost.arrival)
        if connection is None:
            return
        match lost.verdict:
            case "replaced":
                self._supersede(connection)
            case "evicted":
                self._evict(connection)
            case "expired":
                self._end([connection], EndReason.EXPIRED)
            case "ended":
                self._end([connection], EndReason.ENDED)

    def is_news(self, simulator: Simulator) -> bool:
        """Whether the clients here were not told of this state yet."""
        entry = self.registry.entry(simulator.session_id)
        return entry is not None and entry.would_change(
            simulator.simulator_id, simulator.status.value, simulator.reason, simulator.changed_in
        )

    def _end(self, connections: Iterable[ClientConnection], reason: str) -> None:
        outgoing = self._emitters.session_ended(reason)
        for connection in connections:
            connection.send(outgoing)
            connection.close(CloseCode.SESSION_GONE, reason)

    def cut(self, user_id: str, client_id: str) -> int:
        """Drop this user's connections of this client id without a close frame, as a network does; how many."""
        found = [one for one in self.registry.of_user(user_id) if one.client_id == client_id and not one.is_leaving()]
        for connection in found:
            connection.abort()
        return len(found)

    async def sweep(self) -> None:
        """Close what is silent, unauthenticated or past its token; comment on quiet event streams; count messages.

        One pass over all connections, instead of a timer for each: 10,000 cost about a millisecond.
        """
        now_s = self._clock()
        due = [connection for connection in self._connections if connection.deadline_s <= now_s]
        for connection in due:
            connection.expire(now_s)
        self._traffic.flush()

    async def measure_lag(self) -> None:
        """To be called every ``admission.TICK_INTERVAL_S``: how late it comes decides how many are admitted."""
        self._admission.tick()

    def refuse_new(self) -> None:
        """From now on upgrades and event streams are answered 503."""
        self._draining = True

    async def drain(self, reason: str, window_s: float) -> None:
        """Ask every client to move, each at its own slot within the window; close with 1012 who has not.

        From now on upgrades are refused. Clients that gave no client id close at their slot, as they cannot overlap
        two connections; the others stream on until they leave or the window ends. With a window of 0 everybody is
        closed at once. Returns when nobody is left; after a cancellation it may be called again.
        """
        self.refuse_new()
        slots = drain_slots(self._connections, window_s)
        for connection, slot_s in slots:
            if connection.is_open:
                connection.send(
                    self._emitters.pod_terminating(reconnect_after_s=slot_s, deadline_s=window_s, reason=reason)
                )
        started_s = self._clock()
        for connection, slot_s in slots:
            if connection.named:
                continue
            await asyncio.wait([connection.ended], timeout=max(0.0, started_s + slot_s - self._clock()))
            connection.close(CloseCode.SERVICE_RESTART, reason)
        named = [connection.ended for connection, _ in slots if connection.named and not connection.ended.done()]
        left_s = started_s + window_s - self._clock()
        if named and left_s > 0:
            await asyncio.wait(named, timeout=left_s)
        await self._close_all(reason)

    async def close(self) -> None:
        """Close everything with 1012; peers that do not answer are aborted. Takes at most some six seconds."""
        self.refuse_new()
        for look in tuple(self._looks):
            look.cancel()
        await self._close_all("shutdown")
        await self._dispatcher.finish(COMMAND_LIMIT_S)
        self._traffic.flush()

    async def _close_all(self, reason: str) -> None:
        connections = tuple(self._connections)
        for connection in connections:
            connection.close(CloseCode.SERVICE_RESTART, reason)
        if not connections:
            return
        # Each aborts itself after CLOSE_LIMIT_S; a little more for the loss to be reported.
        await asyncio.wait([connection.ended for connection in connections], timeout=CLOSE_LIMIT_S + 1.0)
        for connection in tuple(self._connections):
            connection.abort()


def new_client_id() -> str:
    return secrets.token_hex(16)
