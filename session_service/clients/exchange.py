"""ExchangeClient: every call that a pod makes to simulators (docs/simulator.md), and what their failures mean.

One HTTP/2 channel per endpoint, shared by the simulators behind it; one circuit breaker per simulator, so that a dead
one costs the others nothing. Every unary call has a deadline; a stream has a watchdog.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

import grpc
import msgspec
import structlog
from google.protobuf.message import DecodeError, Message

from exchange_api import exchange_pb2 as pb
from session_service.clients.circuit_breaker import BreakerState, CircuitBreaker
from session_service.clients.exchange_decoding import GarbageError, decode_update, finite, order_status
from session_service.domain.market import MarketUpdate
from session_service.domain.simulator import (
    OPEN_ORDER_STATUSES,
    OrderRequest,
    OrderState,
    OrderStatus,
    OrderType,
    Side,
    SimulatorAddress,
    SimulatorStatus,
)
from session_service.errors import (
    ExchangeStateLostError,
    ExchangeUnavailableError,
    FencedError,
    InvalidRequestError,
    OrderNotCancelableError,
    OrderNotFoundError,
    RequestIdReusedError,
    SessionServiceError,
    SimulatorNotRunningError,
)
from session_service.telemetry.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

DEADLINE_S = 2.0  # of every unary call
SILENCE_LIMIT_S = 3.0  # a simulator sends at least one update a second: three seconds without one, and it is lost
BREAKER_MAX_OPEN_S = 5.0  # the reconciler has found out by then whether the simulator lives
MIN_SWEEP = 64
CLOSE_GRACE_S = 1.0
IDLE_LINK_S = 600.0
SERVICE = "exchange"
HIGHEST_EPOCH_TRAILER = "x-highest-epoch"
HIGHEST_EPOCH = 2**63 - 2  # PostgreSQL's largest BIGINT, and one to go above
_PATH = "/exchange.ExchangeSimulator/"

CHANNEL_OPTIONS = (
    # A frozen peer keeps its TCP connection: pings find it within 2 + 3 s. Without the second limit gRPC waits 70 s.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # Between calls nobody needs to know, and a server that is strict about pings would close the connection.
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # A simulator that comes back is found at once; gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # Endpoints are addresses inside the cluster: a proxy from the environment has no business there.
    ("grpc.enable_http_proxy", 0),
)

Response = TypeVar("Response", bound=Message)


class Fence(msgspec.Struct, frozen=True):
    """The owner's claim that Start, Stop and Heartbeat carry (docs/simulator.md#metadata-of-calls)."""

    epoch: int
    pod: str


class ExchangeStatus(msgspec.Struct, frozen=True):
    """The answer to GetSimulatorStatus."""

    status: str
    simulator_id: str
    uptime_s: int


class _Channel:
    """One HTTP/2 connection and the simulators that use it."""

    __slots__ = ("channel", "users")

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
        self.users: set[str] = set()


class _Link:
    """What the calls to one simulator share."""

    __slots__ = ("address", "breaker", "calls", "channel", "metadata", "used_at_s")

    def __init__(self, address: SimulatorAddress, channel: grpc.aio.Channel, breaker: CircuitBreaker) -> None:
        self.address = address
        self.channel = channel
        self.breaker = breaker
        self.metadata = (("x-simulator-token", address.token), ("x-simulator-id", address.simulator_id))
        self.calls = 0  # under way
        self.used_at_s = 0.0


_NEVER_S = float("inf")
HELD_UP_S = 0.1  # a timer that is later than this: the loop does not keep up


class Watchdog:
    """Cancels a stream on which nothing was heard for ``limit_s``. One timer per stream, none per message.

    A look that comes late says that this process was held up, not that the stream was silent: what has arrived
    meanwhile waits to be read. It is put off until the loop keeps up, or an overload would break every stream and be
    made worse by all the new ones.
    """

    __slots__ = ("_cancel", "_due_s", "_limit_s", "_loop", "_timer", "expired", "heard_at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, cancel: Callable[[], object], limit_s: float) -> None:
        self._loop = loop
        self._cancel = cancel
        self._limit_s = limit_s
        self.expired = False
        self.heard_at_s = loop.time()
        self._look_in(limit_s)

    def _look_in(self, delay_s: float) -> None:
        self._due_s = self._loop.time() + delay_s
        self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        left_s = self.heard_at_s + self._limit_s - now_s
        if left_s > 0:
            if left_s != _NEVER_S:
                self._look_in(left_s)
        elif now_s - self._due_s > HELD_UP_S:
            self._look_in(max(self._limit_s / 4, 2 * HELD_UP_S))
        else:
            self.expired = True
            self._cancel()

    def stop(self) -> None:
        self._timer.cancel()


class ExchangeClient:
    """Calls to simulators. Belongs to one event loop; safe for any number of concurrent calls.

    Errors of every call: ``ExchangeUnavailableError`` (no connection, no answer in time, garbage),
    ``CircuitOpenError`` (the call was not even made), ``ExchangeStateLostError`` (the simulator does not know the
    session), ``SimulatorNotRunningError`` (the endpoint serves another simulator by now), ``FencedError`` (owner's
    calls).
    Cancelling a call cancels it at the simulator too, which may have carried it out.
    """

    def __init__(
        self,
        pod_name: str,
        metrics: Metrics,
        clock: Callable[[], float],
        *,
        deadline_s: float = DEADLINE_S,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        """``clock``: monotonic seconds."""
        self._pod_name = pod_name
        self._metrics = metrics
        self._clock = clock
        self._deadline_s = deadline_s
        self._silence_limit_s = silence_limit_s
        self._channels: dict[str, _Channel] = {}
        self._links: dict[str, _Link] = {}
        self._sweep_at = MIN_SWEEP
        self._unwell: dict[str, BreakerState] = {}  # simulators whose breaker is not closed
        self._closing: set[asyncio.Task[None]] = set()
        metrics.breaker_state(SERVICE, BreakerState.CLOSED)

    async def start_simulator(
        self,
        address: SimulatorAddress,
        user_id: str,
        symbols: Sequence[str],
        cash: float,
        *,
        fence: Fence | None = None,
    ) -> None:
        """Make the session's state, or find it there. Raises ``InvalidRequestError`` where the exchange refuses."""
        request = pb.StartSimulatorRequest(
            session_id=address.session_id, user_id=user_id, initial_symbols=symbols, initial_cash=cash
        )
        answer = await self._call(address, "StartSimulator", request, pb.StartSimulatorResponse.FromString, fence)
        if not answer.success:
            raise InvalidRequestError(None, answer.error_message or "the exchange refused to start")

    async def stop_simulator(self, address: SimulatorAddress, *, fence: Fence | None = None) -> None:
        """Drop the session's state; a session without one is no error."""
        request = pb.StopSimulatorRequest(session_id=address.session_id)
        with suppress(ExchangeStateLostError):
            await self._call(address, "StopSimulator", request, pb.StopSimulatorResponse.FromString, fence)

    async def heartbeat(self, address: SimulatorAddress, *, fence: Fence | None = None) -> None:
        """Keep the session's state alive for another 120 s."""
        request = pb.HeartbeatRequest(session_id=address.session_id, client_id=self._pod_name)
        answer = await self._call(address, "Heartbeat", request, pb.HeartbeatResponse.FromString, fence)
        if not answer.success:
            raise ExchangeStateLostError

    async def submit_order(self, address: SimulatorAddress, order: OrderRequest) -> OrderState:
        """Place an order. A rejected one is an ``OrderState``. Raises ``RequestIdReusedError``."""
        request = pb.SubmitOrderRequest(
            session_id=address.session_id,
            symbol=order.symbol,
            side=pb.SubmitOrderRequest.BUY if order.side is Side.BUY else pb.SubmitOrderRequest.SELL,
            quantity=float(order.quantity),
            price=order.price or 0.0,
            type=pb.SubmitOrderRequest.LIMIT if order.order_type is OrderType.LIMIT else pb.SubmitOrderRequest.MARKET,
            request_id=order.request_id,
        )
        answer = await self._call(address, "SubmitOrder", request, pb.SubmitOrderResponse.FromString)
        if not answer.success:
            status = OrderStatus.REJECTED
        elif answer.status:
            status = order_status(answer.status)
        else:
            status = OrderStatus.NEW  # exchanges that answer with the first three fields only
        return OrderState(
            answer.order_id,
            status,
            answer.filled_quantity,
            _finite_or_unavailable(answer.average_price),
            order.symbol,
            answer.error_message or None,
        )

    async def cancel_order(self, address: SimulatorAddress, order_id: str) -> OrderState:
        """Cancel an open order. Raises ``OrderNotFoundError``, ``OrderNotCancelableError`` (it is final already)."""
        request = pb.CancelOrderRequest(session_id=address.session_id, order_id=order_id)
        answer = await self._call(address, "CancelOrder", request, pb.CancelOrderResponse.FromString)
        state = await self.get_order(address, order_id)
        if not answer.success:
            raise OrderNotCancelableError(f"The order is {state.status.value}")
        return state

    async def get_order(self, address: SimulatorAddress, order_id: str) -> OrderState:
        """Raises ``OrderNotFoundError``. The answer does not carry the symbol."""
        request = pb.GetOrderStatusRequest(session_id=address.session_id, order_id=order_id)
        answer = await self._call(address, "GetOrderStatus", request, pb.GetOrderStatusResponse.FromString)
        try:
            status = order_status(pb.GetOrderStatusResponse.Status.Name(answer.status))
        except ValueError:  # a number that this release does not know
            status = OrderStatus.UNKNOWN
        if status is OrderStatus.UNKNOWN:
            raise OrderNotFoundError
        return OrderState(
            order_id,
            status,
            int(_finite_or_unavailable(answer.filled_quantity)),
            _finite_or_unavailable(answer.avg_price),
            reason=answer.error_message or None,
        )

    async def list_orders(self, address: SimulatorAddress) -> list[OrderState]:
        """Every order that the simulator remembers, from one snapshot; open ones first, else as it sends them."""
        stream = self.stream(address, f"{self._pod_name}/orders", 0, 0)
        try:
            async with asyncio.timeout(self._deadline_s):
                snapshot = await anext(stream, None)
        except TimeoutError:
            raise ExchangeUnavailableError from None
        finally:
            await stream.aclose()
        if snapshot is None:
            raise ExchangeUnavailableError
        orders = [
            OrderState(
                order.order_id,
                order_status(order.status),
                order.filled_quantity,
                order.average_price,
                order.symbol,
                order.reason,
            )
            for order in snapshot.order_updates
        ]
        return sorted(orders, key=lambda order: order.status not in OPEN_ORDER_STATUSES)

    async def status(self, address: SimulatorAddress) -> ExchangeStatus:
        request = pb.GetSimulatorStatusRequest(session_id=address.session_id)
        answer = await self._call(address, "GetSimulatorStatus", request, pb.GetSimulatorStatusResponse.FromString)
        return ExchangeStatus(answer.status, answer.simulator_id, answer.uptime_seconds)

    async def stream(
        self,
        address: SimulatorAddress,
        client_id: str,
        epoch: int,
        from_sequence: int,
        symbols: Sequence[str] = (),
    ) -> AsyncGenerator[MarketUpdate]:
        """The simulator's updates from ``from_sequence`` of ``epoch`` on (0, 0: a snapshot first), without end.

        Each update is decoded and sane in itself; whether it follows the one before is for the reader to check. Ends
        where the simulator ends it (the session was stopped). Raises ``ExchangeUnavailableError`` where the
        connection breaks, where nothing comes for ``silence_limit_s``, and for garbage. An unnumbered simulator
        promised no pace: once it has sent something, only the keepalive watches it. The caller closes the iterator
        (``contextlib.aclosing``); that, or cancelling, ends the call.
        """
        request = pb.StreamRequest(
            session_id=address.session_id,
            client_id=client_id,
            symbols=symbols,
            epoch=epoch,
            from_sequence=from_sequence,
        )
        loop = asyncio.get_running_loop()
        with self._using(address) as link:
            multicallable: grpc.aio.UnaryStreamMultiCallable[Message, bytes]
            multicallable = link.channel.unary_stream(_PATH + "StreamExchangeData", request_serializer=_serialize)
            call = multicallable(request, metadata=link.metadata)
            watchdog = Watchdog(loop, call.cancel, self._silence_limit_s)
            outcome = "cancelled"
            try:
                async for message in call:
                    update = decode_update(message)
                    watchdog.heard_at_s = loop.time() if update.sequence else _NEVER_S
                    yield update
                outcome = "ok"
            except grpc.aio.AioRpcError as error:
                outcome = _outcome(error)
                raise _meaning(error) from error
            except GarbageError as error:
                outcome = "garbage"
                log.warning("exchange_garbage", simulator_id=address.simulator_id, error=str(error))
                raise ExchangeUnavailableError from error
            except asyncio.CancelledError:
                if _is_caller_cancelled():
                    raise
                outcome = "silent" if watchdog.expired else "forgotten"
                raise ExchangeUnavailableError from None
            finally:
                watchdog.stop()
                call.cancel()
                self._count("StreamExchangeData", outcome)

    def forget(self, simulator_id: str) -> None:
        """The simulator is gone: drop its breaker, and its channel unless others use it.

        Calls that are under way get a second to end. Does nothing for one that is not known; a later call
        makes everything anew.
        """
        link = self._links.pop(simulator_id, None)
        if link is None:
            return
        self._breaker_changed(simulator_id, SERVICE, BreakerState.CLOSED)
        endpoint = link.address.endpoint
        shared = self._channels[endpoint]
        shared.users.discard(simulator_id)
        if not shared.users:
            del self._channels[endpoint]
            task = asyncio.get_running_loop().create_task(shared.channel.close(CLOSE_GRACE_S), name="exchange-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every channel; calls under way fail after a second."""
        for simulator_id in list(self._links):
            self.forget(simulator_id)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _call(
        self,
        address: SimulatorAddress,
        method: str,
        request: Message,
        parse: Callable[[bytes], Response],
        fence: Fence | None = None,
    ) -> Response:
        with self._using(address) as link:
            metadata: tuple[tuple[str, str], ...] = link.metadata
            if fence is not None:
                metadata += (("x-owner-epoch", str(fence.epoch)), ("x-owner-pod", fence.pod))
            multicallable: grpc.aio.UnaryUnaryMultiCallable[Message, bytes]
            multicallable = link.channel.unary_unary(_PATH + method, request_serializer=_serialize)

            async def attempt() -> Response:
                outcome = "cancelled"
                try:
                    answer: bytes = await multicallable(request, metadata=metadata, timeout=self._deadline_s)
                    parsed = parse(answer)
                    outcome = "ok"
                except grpc.aio.AioRpcError as error:
                    outcome = _outcome(error)
                    raise _meaning(error) from error
                except DecodeError as error:
                    outcome = "garbage"
                    raise ExchangeUnavailableError from error
                except asyncio.CancelledError:
                    if _is_caller_cancelled():
                        raise
                    outcome = "forgotten"
                    raise ExchangeUnavailableError from None
                finally:
                    self._count(method, outcome)
                return parsed

            return await link.breaker.call(attempt)

    @contextmanager
    def _using(self, address: SimulatorAddress) -> Iterator[_Link]:
        link = self._links.get(address.simulator_id)
        if link is None or link.address != address:
            link = self._connect(address)
        link.calls += 1
        try:
            yield link
        finally:
            link.calls -= 1
            link.used_at_s = self._clock()

    def _connect(self, address: SimulatorAddress) -> _Link:
        self.forget(address.simulator_id)  # of the same name at another place, or with another token
        self._forget_idle()
        shared = self._channels.get(address.endpoint)
        if shared is None:
            shared = self._channels[address.endpoint] = _Channel(address.endpoint)
        shared.users.add(address.simulator_id)
        breaker = CircuitBreaker(
            SERVICE,
            clock=self._clock,
            max_open_s=BREAKER_MAX_OPEN_S,
            is_failure=lambda error: isinstance(error, ExchangeUnavailableError),
            on_change=partial(self._breaker_changed, address.simulator_id),
        )
        link = self._links[address.simulator_id] = _Link(address, shared.channel, breaker)
        link.used_at_s = self._clock()
        return link

    def _forget_idle(self) -> None:
        """Nobody tells a pod of the end of a simulator that it only streamed from: links end by disuse, too."""
        if len(self._links) < self._sweep_at:
            return
        now_s = self._clock()
        for simulator_id, link in list(self._links.items()):
            if not link.calls and now_s - link.used_at_s > IDLE_LINK_S:
                self.forget(simulator_id)
        self._sweep_at = 2 * len(self._links) + MIN_SWEEP

    def _breaker_changed(self, simulator_id: str, service: str, state: int) -> None:
        """The metric shows the worst breaker: its label names the kind of service, never a simulator."""
        if state == BreakerState.CLOSED:
            if self._unwell.pop(simulator_id, None) is None:
                return
        else:
            self._unwell[simulator_id] = BreakerState(state)
        worst = BreakerState.CLOSED
        if self._unwell:
            states = self._unwell.values()
            worst = BreakerState.OPEN if BreakerState.OPEN in states else BreakerState.HALF_OPEN
        self._metrics.breaker_state(service, worst)

    def _count(self, method: str, outcome: str) -> None:
        self._metrics.external_service_requests_total.labels(SERVICE, method, outcome).inc()


def _is_caller_cancelled() -> bool:
    """grpc.aio tells of its own call's end (the watchdog's, a closed channel's) as if the task had been cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _outcome(error: grpc.aio.AioRpcError) -> str:
    """The metric's label: one of gRPC's seventeen names."""
    return error.code().name.lower()


def _meaning(error: grpc.aio.AioRpcError) -> SessionServiceError:
    """What a status says to the caller; every status that tells nothing of the session is unavailability."""
    code = error.code()
    if code is grpc.StatusCode.NOT_FOUND:
        return ExchangeStateLostError()
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return RequestIdReusedError()
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequestError(None, error.details() or "the exchange refused the request")
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        for key, value in error.trailing_metadata():
            if key == HIGHEST_EPOCH_TRAILER and isinstance(value, str) and value.isdecimal():
                return _fenced(value)
        return SimulatorNotRunningError(SimulatorStatus.STOPPED)  # another one has taken its place
    return ExchangeUnavailableError()


def _fenced(highest_epoch: str) -> SessionServiceError:
    """An owner goes above what the simulator has seen: that number has to be there, as a BIGINT."""
    if len(highest_epoch) > len(str(HIGHEST_EPOCH)) or int(highest_epoch) > HIGHEST_EPOCH:
        log.warning("exchange_garbage", error="an epoch that no owner can have")
        return ExchangeUnavailableError()
    return FencedError(int(highest_epoch))


def _finite_or_unavailable(value: float) -> float:
    try:
        return finite(value)
    except GarbageError as error:
        raise ExchangeUnavailableError from error
