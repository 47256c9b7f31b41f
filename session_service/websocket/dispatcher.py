"""WebSocketDispatcher: every client message of docs/protocol.md, to the part of the service that does it.

Heartbeats and quality reports are answered at once, from memory. Commands of one socket are carried out one after the
other, in the order in which they came: an order and its cancel never change places. A command that has begun is
finished even when its socket closes, since an order in flight may already stand; those that wait are dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from session_service.clients.auth import AuthClient
from session_service.domain.identity import Identity
from session_service.domain.market import Position
from session_service.domain.simulator import OrderState, OrderStatus
from session_service.errors import (
    AuthenticationError,
    DeviceMismatchError,
    ErrorCode,
    InvalidRequestError,
    SessionExpiredError,
    SessionNotFoundError,
    SessionServiceError,
    SimulatorNotRunningError,
    UnknownSymbolError,
)
from session_service.sessions.manager import SessionManager
from session_service.websocket.auth import token_deadline_s, validate
from session_service.websocket.connection import WebSocketConnection
from session_service.websocket.emitters import Emitters, Outgoing
from session_service.websocket.session_entry import SessionEntry
from session_service.websocket.traffic import Traffic
from session_service.wire.close_codes import CloseCode
from session_service.wire.messages import (
    ANSWERED_BY_RESULT,
    Authenticate,
    CancelOrder,
    ClientMessage,
    Command,
    ConnectionQualityReport,
    Heartbeat,
    Reconnect,
    RequestFullRefresh,
    RequestSession,
    StartSimulator,
    StopSimulator,
    SubmitOrder,
    Subscribe,
    UnreadableMessage,
)
from session_service.wire.rest import StartSimulatorRequest, SubmitOrderRequest

log = structlog.get_logger(__name__)

STREAM_WAIT_S = 1.0  # how long an answer waits to know where the stream continues
MAX_WAITING_COMMANDS = 64  # the rate limit allows bursts of 40; only a stuck simulator lets more wait


class Answer(msgspec.Struct, frozen=True):
    """What answers a command. ``then`` is called once it was sent: it lets frames flow that must not come before."""

    outgoing: Outgoing
    then: Callable[[], None] | None = None


class WebSocketDispatcher:
    def __init__(
        self,
        sessions: SessionManager,
        auth: AuthClient,
        emitters: Emitters,
        traffic: Traffic,
        clock: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._auth = auth
        self._emitters = emitters
        self._traffic = traffic
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def dispatch(self, connection: WebSocketConnection, entry: SessionEntry, message: ClientMessage) -> None:
        """Handle one message of an open connection. Never blocks."""
        self._traffic.received(str(message.__struct_config__.tag))
        self._sessions.session_ops.touch(entry.session_id)
        if type(message) is Heartbeat:
            connection.send(
                self._emitters.heartbeat_ack(
                    entry, message, connection.quality, reconnect_recommended=connection.reconnect_recommended
                )
            )
        elif isinstance(message, ConnectionQualityReport):
            self._quality(connection, entry, message)
        elif isinstance(message, Authenticate):
            self._spawn(self._refresh(connection, message))
        elif not isinstance(message, Heartbeat):
            self._enqueue(connection, entry, message)

    def refuse(self, connection: WebSocketConnection, refusal: UnreadableMessage) -> None:
        """Answer a message that cannot be read: a command with a readable requestId by its ``result``."""
        self._traffic.received(refusal.type)
        self._traffic.error(refusal.code.lower())
        if refusal.request_id is not None and refusal.type in ANSWERED_BY_RESULT:
            connection.send(self._emitters.failure(refusal.request_id, refusal.code, refusal.message, refusal.field))
        else:
            connection.send(self._emitters.refusal(refusal))

    async def finish(self, limit_s: float) -> None:
        """Wait for commands in flight, ``limit_s`` at most; then they are cancelled, their outcome unknown."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(tuple(self._tasks), timeout=limit_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    # --- at once -------------------------------------------------------------------------------------------

    def _quality(self, connection: WebSocketConnection, entry: SessionEntry, report: ConnectionQualityReport) -> None:
        verdict = self._sessions.connection_quality.report(
            entry.session_id, connection.client_id, report.latency_ms, report.missed_heartbeats
        )
        connection.quality = verdict.quality
        connection.reconnect_recommended = verdict.reconnect_recommended
        connection.send(
            self._emitters.quality_update(verdict.quality, reconnect_recommended=verdict.reconnect_recommended)
        )

    async def _refresh(self, connection: WebSocketConnection, message: Authenticate) -> None:
        """A token for the time after the present one, of the same user; one that is refused ends the socket."""
        try:
            identity = await validate(self._auth, message.token)
            if connection.identity is None or identity.user_id != connection.identity.user_id:
                raise AuthenticationError("the refreshed token is another user's")
        except AuthenticationError as error:
            log.info("token_refresh_refused", reason=error.reason, client_id=connection.client_id)
            connection.send(self._emitters.error(error, message.request_id))
            connection.close(CloseCode.TOKEN_INVALID, "the token was refused")
        except SessionServiceError as error:
            connection.send(self._emitters.error(error, message.request_id))  # the present token still counts
        else:
            connection.identity = identity
            now_s = self._clock()
            connection.protocol.token_refreshed(token_deadline_s(identity, now_s, time.time()), now_s)
            if message.request_id is not None:
                connection.send(self._emitters.result(message.request_id))

    # --- commands ------------------------------------------------------------------------------------------

    def _enqueue(self, connection: WebSocketConnection, entry: SessionEntry, command: Command) -> None:
        if connection.commands is not None:
            if len(connection.commands) >= MAX_WAITING_COMMANDS:
                connection.close(CloseCode.RATE_LIMITED, "too many commands at once")
                return
            connection.commands.append(command)
            return
        connection.commands = deque((command,))
        self._spawn(self._run_commands(connection, entry))

    async def _run_commands(self, connection: WebSocketConnection, entry: SessionEntry) -> None:
        structlog.contextvars.bind_contextvars(session_id=entry.session_id, user_id=entry.user_id)
        commands = connection.commands
        try:
            while commands and not connection.is_leaving() and connection.identity is not None:
                command = commands.popleft()
                answer = await self._answer(connection, connection.identity, entry, command)
                connection.send(answer.outgoing)
                if answer.then is not None and not connection.is_leaving():
                    answer.then()
        finally:
            connection.commands = None

    async def _answer(
        self, connection: WebSocketConnection, identity: Identity, entry: SessionEntry, command: Command
    ) -> Answer:
        try:
            if isinstance(command, Reconnect):
                return await self._reconnect(connection, identity, entry, command)
            if isinstance(command, Subscribe):
                return self._subscribe(connection, command)
            if isinstance(command, RequestFullRefresh):
                return self._refresh_data(connection, entry, command)
            return Answer(await self._carry_out(identity, entry, command))
        except SessionServiceError as error:
            self._traffic.error(error.code.lower())
            field = error.field if isinstance(error, InvalidRequestError) else None
            return Answer(self._emitters.failure(command.request_id, error.code, error.message, field))
        except Exception:  # a fault of ours must cost the client one answer, not its connection
            log.exception("command_failed", command=str(command.__struct_config__.tag))
            self._traffic.error(ErrorCode.INTERNAL_ERROR.lower())
            return Answer(self._emitters.failure(command.request_id, ErrorCode.INTERNAL_ERROR, "Internal error"))

    async def _carry_out(
        self,
        identity: Identity,
        entry: SessionEntry,
        command: StartSimulator | StopSimulator | RequestSession | SubmitOrder | CancelOrder,
    ) -> Outgoing:
        simulators, request_id = self._sessions.simulator_ops, command.request_id
        if isinstance(command, SubmitOrder):
            order = SubmitOrderRequest(
                symbol=command.symbol,
                side=command.side,
                quantity=command.quantity,
                order_type=command.order_type,
                request_id=request_id,
                price=command.price,
            ).to_order()
            state = await simulators.submit_order(identity, _simulator_of(entry), order)
            return self._order_result(request_id, state)
        if isinstance(command, CancelOrder):
            state = await simulators.cancel_order(identity, _simulator_of(entry), command.order_id)
            return self._order_result(request_id, state)
        if isinstance(command, StartSimulator):
            StartSimulatorRequest(initial_symbols=command.initial_symbols).check()
            simulator, _ = await simulators.start_simulator(
                identity, entry.session_id, command.initial_symbols, command.initial_cash
            )
            return self._emitters.started(request_id, simulator)
        if isinstance(command, StopSimulator):
            status = await simulators.stop_for_session(identity, entry.session_id)
            return self._emitters.result(request_id, status=status)
        session = await self._sessions.session_ops.own(identity, entry.session_id)
        current = await simulators.newest(entry.session_id)
        return self._emitters.session_info(request_id, session, current)

    def _subscribe(self, connection: WebSocketConnection, command: Subscribe) -> Answer:
        """The result, then a snapshot under the new filter."""
        attachment, symbols = connection.attachment, frozenset(command.symbols) or None
        outgoing = self._emitters.result(command.request_id, symbols=command.symbols)
        if attachment is None:
            return Answer(outgoing)
        attachment.check_symbols(symbols)
        return Answer(outgoing, lambda: attachment.set_symbols(symbols))

    def _refresh_data(
        self, connection: WebSocketConnection, entry: SessionEntry, command: RequestFullRefresh
    ) -> Answer:
        """The result, then a snapshot."""
        attachment = connection.attachment
        if attachment is None:
            raise SimulatorNotRunningError(entry.simulator_status)
        attachment.check_running()
        return Answer(self._emitters.result(command.request_id), attachment.refresh)

    def _order_result(self, request_id: str, order: OrderState) -> Outgoing:
        rejected = order.status is OrderStatus.REJECTED
        return self._emitters.order_result(
            request_id,
            order_id=order.order_id,
            status=order.status,
            filled_quantity=order.filled_quantity,
            average_price=order.average_price,
            rejected_code=ErrorCode.ORDER_REJECTED if rejected else None,
            reason=(order.reason or "The exchange rejected the order") if rejected else order.reason,
        )

    async def _reconnect(
        self, connection: WebSocketConnection, identity: Identity, entry: SessionEntry, request: Reconnect
    ) -> Answer:
        """Only what is known of session and device is said to be invalid; what could not be asked stays valid."""
        success, gone, resumed, message = False, False, False, "reconnected"
        try:
            session = await self._sessions.reconnection.reconnect(
                identity,
                entry.session_id,
                request.device_id,
                connection.client_id if connection.named else None,
                connection.attempt,
            )
            entry.expires_at = session.expires_at
            success = True
        except (SessionNotFoundError, SessionExpiredError) as error:
            gone, message = True, error.message
        except DeviceMismatchError as error:
            message = error.message
        except SessionServiceError as error:
            message = error.message
        attachment = connection.attachment
        if success and attachment is not None:
            position = None
            if request.epoch is not None and request.sequence is not None:
                position = Position(request.epoch, request.sequence)
            attachment.resume(position)  # holds the frames: they continue after the result
            try:
                if request.symbols is not None:
                    attachment.set_symbols(frozenset(request.symbols) or None)
            except UnknownSymbolError as error:
                success, message = False, error.message
            await attachment.ready(STREAM_WAIT_S)
            resumed = attachment.resumed
        outgoing = self._emitters.reconnect_result(
            entry, request, success=success, message=message, gone=gone, resumed=resumed
        )
        return Answer(outgoing, None if attachment is None else attachment.start)

    def _spawn(self, coro: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _simulator_of(entry: SessionEntry) -> str:
    if entry.simulator_id is None:
        raise SimulatorNotRunningError(entry.simulator_status)
    return entry.simulator_id
