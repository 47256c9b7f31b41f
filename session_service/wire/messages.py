"""Every WebSocket message of docs/protocol.md as a type, and the reading of what clients send.

JSON objects with ``type``, camelCase; unknown fields are ignored. Server messages carry ``timestamp`` in milliseconds
since 1970. The same server messages go out as server-sent events. ``exchange_data`` is encoded by
``wire.exchange_frames``, since one encoding serves many sockets.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from session_service.domain.quality import Quality
from session_service.domain.session import MAX_CONNECTIONS_PER_SESSION, SessionStatus
from session_service.domain.simulator import MAX_SYMBOLS, OrderType, Side, SimulatorStatus
from session_service.errors import ErrorCode
from session_service.wire.fields import (
    MAX_ID_LENGTH,
    Cash,
    DeviceId,
    Price,
    Quantity,
    RequestId,
    SequenceNumber,
    Symbol,
    Symbols,
    in_words,
)

# A symbol nobody trades is UNKNOWN_SYMBOL, said by the stream; so any short text is a readable symbol here.
SymbolText = Annotated[str, Meta(min_length=1, max_length=32)]
SymbolFilter = Annotated[list[SymbolText], Meta(max_length=MAX_SYMBOLS)]
ObjectId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Token = Annotated[str, Meta(min_length=1, max_length=8192)]
SessionVerdict = Literal["valid", "invalid"]


# --- client → server -------------------------------------------------------------------------------------------


class _ClientMessage(msgspec.Struct, tag_field="type", rename="camel", kw_only=True):
    pass


class Heartbeat(_ClientMessage, tag="heartbeat"):
    """``connectionQuality`` and ``sequence`` are the client's view, for its own logs; nothing depends on them."""

    timestamp: int | float  # the client's own clock, echoed as it came
    device_id: DeviceId
    connection_quality: Any = None
    sequence: Any = None


class Reconnect(_ClientMessage, tag="reconnect"):
    """``sessionToken`` is accepted and not read: the socket's own token counts."""

    request_id: RequestId
    device_id: DeviceId
    session_token: Any = None
    epoch: SequenceNumber | None = None
    sequence: SequenceNumber | None = None
    symbols: SymbolFilter | None = None


class StartSimulator(_ClientMessage, tag="start_simulator"):
    request_id: RequestId
    initial_symbols: Symbols | None = None
    initial_cash: Cash | None = None


class StopSimulator(_ClientMessage, tag="stop_simulator"):
    request_id: RequestId


class RequestSession(_ClientMessage, tag="request_session"):
    request_id: RequestId


class RequestFullRefresh(_ClientMessage, tag="request_full_refresh"):
    request_id: RequestId


class Subscribe(_ClientMessage, tag="subscribe"):
    """An empty list means every symbol."""

    request_id: RequestId
    symbols: SymbolFilter


class SubmitOrder(_ClientMessage, tag="submit_order"):
    request_id: RequestId
    symbol: Symbol
    side: Side
    quantity: Quantity
    order_type: OrderType
    price: Price | None = None


class CancelOrder(_ClientMessage, tag="cancel_order"):
    request_id: RequestId
    order_id: ObjectId


class ConnectionQualityReport(_ClientMessage, tag="connection_quality"):
    latency_ms: Annotated[float, Meta(ge=0, le=1e9)]
    missed_heartbeats: Annotated[int, Meta(ge=0, le=1_000_000)]
    connection_type: Any = None


class Authenticate(_ClientMessage, tag="authenticate"):
    """First message of a socket whose request had no token; later the refresh. ``result`` answers a request id."""

    token: Token
    request_id: RequestId | None = None

    def __repr__(self) -> str:
        return "Authenticate(token=…)"  # a token never reaches a log


Command = (
    Reconnect
    | StartSimulator
    | StopSimulator
    | RequestSession
    | RequestFullRefresh
    | Subscribe
    | SubmitOrder
    | CancelOrder
)
ClientMessage = Heartbeat | ConnectionQualityReport | Authenticate | Command

CLIENT_MESSAGES: tuple[type[_ClientMessage], ...] = (
    Heartbeat,
    ConnectionQualityReport,
    Authenticate,
    Reconnect,
    StartSimulator,
    StopSimulator,
    RequestSession,
    RequestFullRefresh,
    Subscribe,
    SubmitOrder,
    CancelOrder,
)
CLIENT_MESSAGE_TYPES = frozenset(str(struct.__struct_config__.tag) for struct in CLIENT_MESSAGES)
ANSWERED_BY_RESULT = CLIENT_MESSAGE_TYPES - {"heartbeat", "connection_quality", "authenticate"}

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class UnreadableMessage(msgspec.Struct, frozen=True):
    """Why a text message is refused. The socket stays open."""

    code: ErrorCode
    message: str
    type: str | None = None  # the message's type, where it is a known one
    request_id: str | None = None  # where it could be read
    field: str | None = None  # the first wrong field, camelCase


def decode(payload: bytes) -> ClientMessage | UnreadableMessage:
    """Read one client message. Never raises; ``payload`` is UTF-8 of a bounded size."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        return _explain(payload, error)


def _explain(payload: bytes, error: Exception) -> UnreadableMessage:
    try:
        content = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return UnreadableMessage(ErrorCode.INVALID_MESSAGE, "The message is not JSON")
    if not isinstance(content, dict):
        return UnreadableMessage(ErrorCode.INVALID_MESSAGE, "The message is not a JSON object")
    request_id = content.get("requestId")
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= 64:
        request_id = None
    type_ = content.get("type")
    if not isinstance(type_, str):
        return UnreadableMessage(ErrorCode.INVALID_MESSAGE, "type: must be a string", None, request_id, "type")
    if type_ not in CLIENT_MESSAGE_TYPES:
        return UnreadableMessage(
            ErrorCode.UNKNOWN_MESSAGE_TYPE, "type: is not a known message type", None, request_id, "type"
        )
    field, reason = _field_and_reason(str(error))
    message = f"{field}: {reason}" if field else reason
    return UnreadableMessage(ErrorCode.INVALID_REQUEST, message, type_, request_id, field)


_WITH_PATH = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.(?P<field>[A-Za-z]+)[^`]*`)?$", re.DOTALL)
_MISSING = re.compile(r"required field `(?P<field>[A-Za-z]+)`")


def _field_and_reason(text: str) -> tuple[str | None, str]:
    """The decoder's text, taken apart. It quotes types and limits; of the message only a wrong enum value."""
    text = text[:200]
    missing = _MISSING.search(text)
    if missing:
        return missing["field"], "is required"
    match = _WITH_PATH.match(text)
    if match is None:
        return None, "The message is invalid"
    reason = in_words(match["reason"])
    return match["field"], reason[:1].lower() + reason[1:]


# --- server → client -------------------------------------------------------------------------------------------


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """What ``connected`` tells of the limits that hold for this socket."""

    max_message_bytes: int = 64 * 1024
    messages_per_second: int = 20
    message_burst: int = 40
    connections_per_session: int = MAX_CONNECTIONS_PER_SESSION


class ServerMessage(msgspec.Struct, tag_field="type", rename="camel", kw_only=True):
    """``timestamp``: milliseconds since 1970, when the message was made."""

    TYPE: ClassVar[str] = ""
    timestamp: int


class Connected(ServerMessage, tag="connected"):
    TYPE: ClassVar[str] = "connected"
    client_id: str
    device_id: str | None
    session_id: str
    is_new: bool
    pod_name: str
    epoch: SequenceNumber | None  # where this socket continues; None: unknown, a snapshot will say
    sequence: SequenceNumber | None
    resumed: bool
    simulator_status: SimulatorStatus
    heartbeat_interval_ms: int
    expires_at: str  # RFC 3339
    limits: Limits


class HeartbeatAck(ServerMessage, tag="heartbeat_ack"):
    TYPE: ClassVar[str] = "heartbeat_ack"
    client_timestamp: int | float
    device_id: str
    device_id_valid: bool
    session_status: SessionVerdict
    simulator_status: SimulatorStatus
    connection_quality: Quality
    reconnect_recommended: bool


class ReconnectResult(ServerMessage, tag="reconnect_result"):
    TYPE: ClassVar[str] = "reconnect_result"
    request_id: str
    success: bool
    message: str
    device_id: str
    device_id_valid: bool
    session_status: SessionVerdict
    simulator_status: SimulatorStatus
    resumed: bool


class SimulatorStatusMessage(ServerMessage, tag="simulator_status", omit_defaults=True):
    TYPE: ClassVar[str] = "simulator_status"
    simulator_id: str | None
    status: SimulatorStatus
    reason: str | None = None
    queue_position: int | None = None  # while it waits to be created; 1 is next


class SessionInfo(ServerMessage, tag="session_info"):
    TYPE: ClassVar[str] = "session_info"
    request_id: str
    session_id: str
    user_id: str
    status: SessionStatus
    device_id: str | None
    created_at: str  # RFC 3339, as is the next
    expires_at: str
    simulator_id: str | None
    simulator_status: SimulatorStatus


class Result(ServerMessage, tag="result", omit_defaults=True):
    """Answer to a command: ``success``, else ``code`` and ``error``; beside them the fields of the REST answer."""

    TYPE: ClassVar[str] = "result"
    request_id: str
    success: bool
    code: ErrorCode | None = None
    error: str | None = None
    field: str | None = None  # the wrong one, where the code is INVALID_REQUEST
    reason: str | None = None  # the exchange's own words on an order
    simulator_id: str | None = None
    status: str | None = None
    order_id: str | None = None
    filled_quantity: int | None = None
    average_price: float | None = None
    symbols: list[str] | None = None


class ConnectionQualityUpdate(ServerMessage, tag="connection_quality_update"):
    TYPE: ClassVar[str] = "connection_quality_update"
    quality: Quality
    reconnect_recommended: bool


class PodTerminating(ServerMessage, tag="pod_terminating"):
    TYPE: ClassVar[str] = "pod_terminating"
    reconnect_after_ms: int  # this client's own slot
    deadline_ms: int  # from now; then every socket that is left is closed with 1012
    reason: str


class SessionEnded(ServerMessage, tag="session_ended"):
    TYPE: ClassVar[str] = "session_ended"
    reason: str


class ConnectionReplaced(ServerMessage, tag="connection_replaced"):
    TYPE: ClassVar[str] = "connection_replaced"
    reason: str


class ErrorMessage(ServerMessage, tag="error", omit_defaults=True):
    TYPE: ClassVar[str] = "error"
    error_code: ErrorCode
    message: str
    request_id: str | None = None
    details: dict[str, str] | None = None


SERVER_MESSAGES: tuple[type[ServerMessage], ...] = (  # all but exchange_data, which wire.exchange_frames encodes
    Connected,
    HeartbeatAck,
    ReconnectResult,
    SimulatorStatusMessage,
    SessionInfo,
    Result,
    ConnectionQualityUpdate,
    PodTerminating,
    SessionEnded,
    ConnectionReplaced,
    ErrorMessage,
)
