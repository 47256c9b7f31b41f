"""Bodies of the REST API for live sessions: what requests may hold, and the exact shape of every answer.

Pure. A body is read as JSON whatever its Content-Type says: calls carry a Bearer token, which no page of another site
can add by itself, so a stricter rule would guard nothing. Answers are camelCase and begin with ``success``; only the
session object is snake_case, since other services read it so. Instants are RFC 3339 in UTC with the offset ``Z``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec

from session_service.domain.session import EndedSession, Session
from session_service.domain.simulator import (
    LIVE_STATUSES,
    OrderRequest,
    OrderState,
    OrderStatus,
    OrderType,
    Side,
    Simulator,
    SimulatorStatus,
)
from session_service.errors import ErrorCode, InvalidRequestError
from session_service.wire.fields import (
    Attempt,
    Cash,
    ClientId,
    DeviceId,
    Price,
    Quantity,
    RequestId,
    Symbol,
    Symbols,
    in_words,
)

# Metadata never replaces a column, never shows a token, and names the simulator's place only to those who may see it.
_COLUMNS = frozenset({"session_id", "user_id", "status", "created_at", "last_active", "expires_at"})
_HIDDEN_METADATA = _COLUMNS | {"token", "simulator_endpoint", "simulator_token"}


class RequestBody(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of request bodies. Unknown fields are ignored; of a field given twice, the last counts."""


class CreateSessionRequest(RequestBody, frozen=True, kw_only=True):
    device_id: DeviceId


class ReconnectRequest(RequestBody, frozen=True, kw_only=True):
    device_id: DeviceId
    attempt: Attempt
    client_id: ClientId | None = None


class EndSessionsRequest(RequestBody, frozen=True, kw_only=True):
    device_id: str | None = None


class StartSimulatorRequest(RequestBody, frozen=True, kw_only=True):
    session_id: str | None = None
    initial_symbols: Symbols | None = None
    initial_cash: Cash | None = None

    def check(self) -> None:
        """The rule that no single field's type can say. Raises InvalidRequestError."""
        symbols = self.initial_symbols
        if symbols is not None and len(set(symbols)) != len(symbols):
            raise InvalidRequestError("initialSymbols", "names a symbol twice")


class SubmitOrderRequest(RequestBody, frozen=True, kw_only=True):
    symbol: Symbol
    side: Side
    quantity: Quantity
    order_type: OrderType
    request_id: RequestId
    price: Price | None = None

    def to_order(self) -> OrderRequest:
        """The order, once price and type agree. Raises InvalidRequestError."""
        if self.order_type is OrderType.LIMIT and self.price is None:
            raise InvalidRequestError("price", "is required for a LIMIT order")
        if self.order_type is OrderType.MARKET and self.price is not None:
            raise InvalidRequestError("price", "is not allowed for a MARKET order")
        return OrderRequest(
            symbol=self.symbol,
            side=self.side,
            quantity=int(self.quantity),
            order_type=self.order_type,
            price=self.price,
            request_id=self.request_id,
        )


Body = TypeVar("Body", bound=RequestBody)
Instant = Annotated[datetime, msgspec.Meta(tz=True)]  # with its offset: what JSON Schema calls a date-time


def decode_body(decoder: msgspec.json.Decoder[Body], raw: bytes) -> Body:
    """Decode a request body. Raises InvalidRequestError, which names the field where there is one to name."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        field, message = _explain(str(error))
        raise InvalidRequestError(field, message) from None
    except RecursionError:
        raise InvalidRequestError(None, "The body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequestError(None, "The body is not valid JSON") from None


def _explain(message: str) -> tuple[str | None, str]:
    """Split msgspec's ``Expected `int` - at `$.attempt``` into the field's public name and what is wrong with it."""
    missing = message.removeprefix("Object missing required field `")
    if missing is not message and missing.endswith("`"):
        return missing.removesuffix("`"), "is required"
    problem, separator, path = message.rpartition(" - at `$.")
    if not separator:
        return None, f"The body is not valid: {message}"
    return path.removesuffix("`"), in_words(problem)


class Answer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of answers."""

    success: bool = True


class ErrorAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Every error, whatever its status. ``errorMessage`` repeats ``error``."""

    success: bool = False
    code: ErrorCode
    error: str
    error_message: str


class SessionCreated(Answer, frozen=True, kw_only=True):
    session_id: str
    is_new: bool
    status: str
    expires_at: Instant
    pod_name: str


class SessionReady(Answer, frozen=True, kw_only=True):
    status: str = "ready"


class SessionKept(Answer, frozen=True, kw_only=True):
    expires_at: Instant


class SessionEnded(Answer, frozen=True, kw_only=True):
    simulator_stopped: bool


class SessionsEnded(Answer, frozen=True, kw_only=True):
    ended: int
    session_ids: tuple[str, ...]


class SimulatorStarted(Answer, frozen=True, kw_only=True):
    simulator_id: str
    status: SimulatorStatus


class SimulatorStopped(Answer, frozen=True, kw_only=True):
    status: SimulatorStatus


class SimulatorView(msgspec.Struct, frozen=True, rename="camel"):
    simulator_id: str
    session_id: str
    status: SimulatorStatus
    reason: str | None
    created_at: Instant
    last_active: Instant
    initial_symbols: tuple[str, ...]
    initial_cash: float
    uptime_seconds: int
    queue_position: int | msgspec.UnsetType = msgspec.UNSET


class SimulatorAnswer(Answer, frozen=True, kw_only=True):
    simulator: SimulatorView | None


class OrderView(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """One order of a list; ``symbol`` and ``reason`` are left out where the exchange does not say."""

    order_id: str
    status: OrderStatus
    filled_quantity: int
    average_price: float
    symbol: str | None = None
    reason: str | None = None


class OrderAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One order. A rejected one has ``success: false``, and ``code``, ``error``, ``errorMessage`` and ``reason``."""

    success: bool
    order_id: str
    status: OrderStatus
    filled_quantity: int
    average_price: float
    symbol: str | msgspec.UnsetType = msgspec.UNSET
    code: ErrorCode | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET
    error_message: str | msgspec.UnsetType = msgspec.UNSET


class OrdersAnswer(Answer, frozen=True, kw_only=True):
    orders: tuple[OrderView, ...]


def utc(instant: datetime) -> datetime:
    """The same instant in UTC, which is written with the offset ``Z``."""
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def session_view(session: Session, *, simulator_token: str | None, shows_simulator: bool) -> dict[str, Any]:
    """The session object: columns, then every metadata field beside them, snake_case.

    ``shows_simulator``: the caller may see the simulator's endpoint, and its token where there is one to show.
    """
    view: dict[str, Any] = {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "status": session.status,
        "created_at": utc(session.created_at),
        "last_active": utc(session.last_active),
        "expires_at": utc(session.expires_at),
    }
    view.update((name, value) for name, value in session.metadata.items() if name not in _HIDDEN_METADATA)
    if session.device_id is not None:
        view.setdefault("device_id", session.device_id)
    if shows_simulator:
        view["simulator_endpoint"] = session.metadata.get("simulator_endpoint")
        view["simulator_token"] = simulator_token
    return view


def sessions_ended(ended: list[EndedSession]) -> SessionsEnded:
    return SessionsEnded(ended=len(ended), session_ids=tuple(one.session_id for one in ended))


def simulator_view(simulator: Simulator, now: datetime, queue_position: int | None = None) -> SimulatorView:
    """``uptimeSeconds`` counts from ``createdAt`` to now, or to the last activity where it lives no more.
    ``queuePosition`` is there while it waits to be created.
    """
    until = now if simulator.status in LIVE_STATUSES else simulator.last_active
    return SimulatorView(
        simulator_id=simulator.simulator_id,
        session_id=simulator.session_id,
        status=simulator.status,
        reason=simulator.reason,
        created_at=utc(simulator.created_at),
        last_active=utc(simulator.last_active),
        initial_symbols=simulator.initial_symbols,
        initial_cash=simulator.initial_cash,
        # The row's instants are the database's: another clock may be a little behind it.
        uptime_seconds=max(0, int((until - simulator.created_at).total_seconds())),
        queue_position=msgspec.UNSET if queue_position is None else queue_position,
    )


def order_view(order: OrderState) -> OrderView:
    return OrderView(
        order_id=order.order_id,
        status=order.status,
        filled_quantity=order.filled_quantity,
        average_price=order.average_price,
        symbol=order.symbol,
        reason=order.reason,
    )


def order_answer(order: OrderState) -> OrderAnswer:
    rejected = order.status is OrderStatus.REJECTED
    explanation = order.reason or "The exchange rejected the order"
    return OrderAnswer(
        success=not rejected,
        order_id=order.order_id,
        status=order.status,
        filled_quantity=order.filled_quantity,
        average_price=order.average_price,
        symbol=order.symbol if order.symbol is not None else msgspec.UNSET,
        code=ErrorCode.ORDER_REJECTED if rejected else msgspec.UNSET,
        reason=explanation if rejected else order.reason or msgspec.UNSET,
        error=explanation if rejected else msgspec.UNSET,
        error_message=explanation if rejected else msgspec.UNSET,
    )


def error_answer(code: ErrorCode, message: str) -> ErrorAnswer:
    return ErrorAnswer(code=code, error=message, error_message=message)


def milliseconds(instant_s: float) -> int:
    """Unix seconds as the integer milliseconds of ``timestamp`` fields."""
    return int(instant_s * 1000)
