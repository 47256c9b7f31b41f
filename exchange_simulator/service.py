"""The gRPC service exchange.ExchangeSimulator (protos/exchange/exchange.proto, docs/simulator.md)."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from exchange_api.exchange_pb2 import (
    CancelOrderRequest,
    CancelOrderResponse,
    ExchangeDataUpdate,
    GetOrderStatusRequest,
    GetOrderStatusResponse,
    GetSimulatorStatusRequest,
    GetSimulatorStatusResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    StartSimulatorRequest,
    StartSimulatorResponse,
    StopSimulatorRequest,
    StopSimulatorResponse,
    StreamRequest,
    SubmitOrderRequest,
    SubmitOrderResponse,
)
from exchange_simulator.caller import Caller, caller_from
from exchange_simulator.engine import OrderTicket
from exchange_simulator.errors import (
    CallRefusedError,
    MetadataError,
    OtherSessionError,
    OwnerFencedError,
    RequestIdReusedError,
    SessionUnknownError,
    SimulatorMismatchError,
    StartRefusedError,
    TokenRefusedError,
    TooManySessionsError,
)
from exchange_simulator.fence import OwnerFence
from exchange_simulator.orders import OrderStatus
from exchange_simulator.session import Session
from exchange_simulator.sessions import Sessions, wall_clock_ms
from exchange_simulator.settings import Settings

SERVICE_NAME = "exchange.ExchangeSimulator"
MAX_REQUEST_ID_LENGTH = 64
HIGHEST_EPOCH_TRAILER = "x-highest-epoch"

STATUS_OF: dict[type[CallRefusedError], grpc.StatusCode] = {
    TokenRefusedError: grpc.StatusCode.UNAUTHENTICATED,
    MetadataError: grpc.StatusCode.INVALID_ARGUMENT,
    SessionUnknownError: grpc.StatusCode.NOT_FOUND,
    OtherSessionError: grpc.StatusCode.FAILED_PRECONDITION,
    SimulatorMismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    OwnerFencedError: grpc.StatusCode.FAILED_PRECONDITION,
    RequestIdReusedError: grpc.StatusCode.ALREADY_EXISTS,
    TooManySessionsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
UnaryContext = grpc.aio.ServicerContext[Request, Response]
StreamContext = grpc.aio.ServicerContext[StreamRequest, bytes]


class ExchangeSimulatorService:
    """Every call as a function of its request and its caller; refusals are raised as CallRefusedError.

    The unary calls do not wait for anything, so each is atomic in the event loop.
    """

    def __init__(
        self, settings: Settings, sessions: Sessions, loop: asyncio.AbstractEventLoop, *, fence: OwnerFence
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._loop = loop
        self._fence = fence
        self._only_session = settings.session_id  # empty: any
        self._stopping = False

    def handler(self) -> grpc.GenericRpcHandler:
        """The service for a grpc.aio server. Updates pass as the bytes that the engine encoded once."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "StartSimulator": unary(self.start, StartSimulatorRequest),
                "StopSimulator": unary(self.stop, StopSimulatorRequest),
                "StreamExchangeData": grpc.unary_stream_rpc_method_handler(
                    self.stream, request_deserializer=StreamRequest.FromString
                ),
                "Heartbeat": unary(self.heartbeat, HeartbeatRequest),
                "SubmitOrder": unary(self.submit_order, SubmitOrderRequest),
                "CancelOrder": unary(self.cancel_order, CancelOrderRequest),
                "GetOrderStatus": unary(self.order_status, GetOrderStatusRequest),
                "GetSimulatorStatus": unary(self.simulator_status, GetSimulatorStatusRequest),
            },
        )

    def shut_down(self) -> None:
        """Ends every stream with UNAVAILABLE; the process is about to go."""
        self._stopping = True
        self._sessions.drop_all("shutdown")

    def start(self, request: StartSimulatorRequest, caller: Caller) -> StartSimulatorResponse:
        """Makes the session's state, or leaves a living one as it is; success=false says what was wrong."""
        self._check(request.session_id, caller)
        self._check_owner(request.session_id, caller)
        simulator_id = self._settings.simulator_id or caller.simulator_id
        try:
            session = self._sessions.start(
                request.session_id, simulator_id, request.initial_symbols, request.initial_cash
            )
        except StartRefusedError as error:
            return StartSimulatorResponse(success=False, error_message=str(error))
        if self._settings.single_session:
            self._only_session = session.session_id  # for good: a stop does not make it another's
        session.heard_at_s = self._loop.time()
        return StartSimulatorResponse(success=True, simulator_id=session.simulator_id)

    def stop(self, request: StopSimulatorRequest, caller: Caller) -> StopSimulatorResponse:
        """Drops the session's state and ends its streams. A session that is not there is stopped: success."""
        self._check(request.session_id, caller)
        self._check_owner(request.session_id, caller)
        self._sessions.drop(request.session_id, "stopped")
        return StopSimulatorResponse(success=True)

    def heartbeat(self, request: HeartbeatRequest, caller: Caller) -> HeartbeatResponse:
        """Renews the session's time to live."""
        session = self._admit(request.session_id, caller)
        self._check_owner(request.session_id, caller)
        session.heard_at_s = self._loop.time()
        return HeartbeatResponse(success=True, server_timestamp=wall_clock_ms())

    def submit_order(self, request: SubmitOrderRequest, caller: Caller) -> SubmitOrderResponse:
        """Places an order. A request_id seen before gets the first answer again, whatever happened since."""
        session = self._admit(request.session_id, caller)
        if len(request.request_id) > MAX_REQUEST_ID_LENGTH:
            raise MetadataError(f"request_id has at most {MAX_REQUEST_ID_LENGTH} characters")
        content = request.SerializeToString(deterministic=True)
        if request.request_id:
            answered = session.answers.find(request.request_id, content)
            if answered is not None:
                return answered
        is_limit = request.type != SubmitOrderRequest.Type.MARKET
        ticket = OrderTicket(request.symbol, request.side, request.quantity, request.price if is_limit else None)
        order = session.submit_order(ticket, wall_clock_ms())
        rejected = order.status is OrderStatus.REJECTED
        answer = SubmitOrderResponse(
            success=not rejected,
            order_id=order.order_id,
            error_message=order.reason if rejected else "",
            status=order.status,
            filled_quantity=order.filled,
            average_price=order.average_price,
        )
        if request.request_id:
            session.answers.remember(request.request_id, content, answer)
        return answer

    def cancel_order(self, request: CancelOrderRequest, caller: Caller) -> CancelOrderResponse:
        """Cancels an open order; success=false for one that is unknown or already closed."""
        session = self._admit(request.session_id, caller)
        objection = session.cancel_order(request.order_id, wall_clock_ms())
        return CancelOrderResponse(success=not objection, error_message=objection)

    def order_status(self, request: GetOrderStatusRequest, caller: Caller) -> GetOrderStatusResponse:
        """The order's present state; UNKNOWN for one that never was or is forgotten."""
        order = self._admit(request.session_id, caller).order(request.order_id)
        if order is None:
            return GetOrderStatusResponse(error_message="unknown order")
        return GetOrderStatusResponse(
            status=GetOrderStatusResponse.Status.Value(order.status),
            filled_quantity=order.filled,
            avg_price=order.average_price,
            error_message=order.reason,
        )

    def simulator_status(self, request: GetSimulatorStatusRequest, caller: Caller) -> GetSimulatorStatusResponse:
        """RUNNING, with the simulator's id and the age of its state."""
        session = self._admit(request.session_id, caller)
        return GetSimulatorStatusResponse(
            status="RUNNING",
            simulator_id=session.simulator_id,
            uptime_seconds=int(self._loop.time() - session.started_at_s),
        )

    async def stream(self, request: StreamRequest, context: StreamContext) -> None:
        """Sends updates without a gap, from where the request resumes or from a snapshot, until cancelled.

        A reader so slow that its next update has left the window gets a snapshot. Ends with OK when the session
        is stopped, with UNAVAILABLE when the process stops.
        """
        try:
            session = self._admit(request.session_id, caller_from(context.invocation_metadata() or ()))
            symbols = frozenset(request.symbols)
            if not symbols.issubset(session.symbols):
                raise MetadataError(f"unknown symbols: {', '.join(sorted(symbols.difference(session.symbols)))}")
        except CallRefusedError as error:
            await refuse(context, error)
        with session.streaming(self._loop):
            # A client that waits at the head sees that it was accepted, however long the next update takes.
            await context.send_initial_metadata(())
            await send_updates(session, request, symbols, context.write)
        if self._stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the simulator is stopping")

    def _admit(self, session_id: str, caller: Caller) -> Session:
        self._check(session_id, caller)
        return self._sessions.get(session_id)

    def _check(self, session_id: str, caller: Caller) -> None:
        """Token, then session, then simulator: whoever lacks the token learns nothing about the others."""
        settings = self._settings
        if settings.token and not hmac.compare_digest(caller.token.encode(), settings.token.encode()):
            raise TokenRefusedError
        if self._only_session and session_id != self._only_session:
            raise OtherSessionError
        session = self._sessions.find(session_id)
        present = session.simulator_id if session is not None else settings.simulator_id
        if caller.simulator_id and present and caller.simulator_id != present:
            raise SimulatorMismatchError

    def _check_owner(self, session_id: str, caller: Caller) -> None:
        if caller.owner_epoch is not None:
            self._fence.admit(session_id, caller.owner_epoch, caller.owner_pod)


async def send_updates(
    session: Session, request: StreamRequest, symbols: frozenset[str], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Writes a session's updates until it ends. The position in the window is all that a stream keeps."""
    window = session.window
    resumes = window.can_resume(request.epoch, request.from_sequence)
    position = request.from_sequence if resumes else 0
    while True:
        encoded = window.get(position)
        if encoded is not None:
            position += 1
        elif position <= window.head:
            encoded = session.snapshot(wall_clock_ms())
            position = window.head + 1
        elif session.ended:
            return
        else:
            await session.changed()
            continue
        await write(filtered(encoded, symbols) if symbols else encoded)


def filtered(encoded: bytes, symbols: frozenset[str]) -> bytes:
    """The update with the market data of these symbols only; orders and portfolio always pass."""
    update = ExchangeDataUpdate.FromString(encoded)
    wanted = [quote for quote in update.market_data if quote.symbol in symbols]
    del update.market_data[:]
    update.market_data.extend(wanted)
    return update.SerializeToString()


def unary(
    answer: Callable[[Request, Caller], Response], request_type: type[Request]
) -> "grpc.RpcMethodHandler[Request, Response]":  # generic in its stubs only
    """A call as gRPC's method handler: metadata read, refusals turned into statuses."""

    async def behaviour(request: Request, context: UnaryContext[Request, Response]) -> Response:
        try:
            return answer(request, caller_from(context.invocation_metadata() or ()))
        except CallRefusedError as error:
            await refuse(context, error)

    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=request_type.FromString, response_serializer=encode
    )


def encode(message: Message) -> bytes:
    return message.SerializeToString()


async def refuse(context: UnaryContext[Request, Response] | StreamContext, error: CallRefusedError) -> NoReturn:
    """Ends the call with the refusal's status; the trailer tells a fenced owner the epoch it must exceed."""
    trailers = ((HIGHEST_EPOCH_TRAILER, str(error.highest_epoch)),) if isinstance(error, OwnerFencedError) else ()
    await context.abort(STATUS_OF[type(error)], str(error), trailers)
