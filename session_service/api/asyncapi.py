"""The AsyncAPI 3.0 document of ``GET /ws``: payloads are the messages' own types, the query is OpenAPI's.

``receive`` and ``send`` are seen from the service, as the specification says: it receives what clients send.
"""

from __future__ import annotations

import msgspec

from session_service import __version__
from session_service.api.json_schemas import REF, Schema, component_schemas
from session_service.api.openapi import OPERATIONS
from session_service.wire.close_codes import CloseCode, may_reconnect
from session_service.wire.exchange_frames import ExchangeData
from session_service.wire.messages import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    Authenticate,
    CancelOrder,
    Connected,
    ConnectionQualityReport,
    ConnectionQualityUpdate,
    ConnectionReplaced,
    ErrorMessage,
    Heartbeat,
    HeartbeatAck,
    Limits,
    PodTerminating,
    Reconnect,
    ReconnectResult,
    RequestFullRefresh,
    RequestSession,
    Result,
    SessionEnded,
    SessionInfo,
    SimulatorStatusMessage,
    StartSimulator,
    StopSimulator,
    SubmitOrder,
    Subscribe,
)
from session_service.wire.protocol import AUTHENTICATION_LIMIT_S

Message = type[msgspec.Struct]


class Received(msgspec.Struct, frozen=True):
    """One row of the clients' messages, and what answers it."""

    message: Message
    summary: str
    reply: Message


class Sent(msgspec.Struct, frozen=True):
    """One row of the messages that the server sends of its own accord."""

    message: Message
    summary: str


RECEIVED: tuple[Received, ...] = (
    Received(Heartbeat, "The client is there; each `heartbeatIntervalMs`", HeartbeatAck),
    Received(ConnectionQualityReport, "How the connection is, as the client sees it", ConnectionQualityUpdate),
    Received(Authenticate, "The token: first message, or the next one before the present one expires", Result),
    Received(Reconnect, "Continue from a position, on this socket; the frames follow the result", ReconnectResult),
    Received(StartSimulator, "Start the session's simulator", Result),
    Received(StopSimulator, "Stop the session's simulator", Result),
    Received(RequestSession, "What the session is", SessionInfo),
    Received(RequestFullRefresh, "A snapshot, which follows the result", Result),
    Received(Subscribe, "Exchange data of these symbols only; a snapshot follows the result", Result),
    Received(SubmitOrder, "Submit an order; `requestId` makes it idempotent", Result),
    Received(CancelOrder, "Cancel an open order", Result),
)
SENT: tuple[Sent, ...] = (
    Sent(Connected, "Always the first message"),
    Sent(ExchangeData, "Quotes, orders and portfolio: the next updates, or all of it as a snapshot"),
    Sent(SimulatorStatusMessage, "The simulator's status has changed"),
    Sent(PodTerminating, "The pod goes: open the next connection in this client's own slot"),
    Sent(SessionEnded, "The session is over; a close follows"),
    Sent(ConnectionReplaced, "Another connection has taken this one's place; a close follows"),
    Sent(
        ErrorMessage,
        "A message could not be read, the socket stays open; or the connection is refused, a close follows",
    ),
)

_CLOSE_CAUSES = {
    CloseCode.NORMAL: "the answer to the client's own close; the old connection of a client that has moved",
    CloseCode.PROTOCOL_ERROR: "frames that RFC 6455 forbids",
    CloseCode.INVALID_TEXT: "text that is not UTF-8",
    CloseCode.MESSAGE_TOO_BIG: "a message over maxMessageBytes",
    CloseCode.INTERNAL_ERROR: "a fault of the service",
    CloseCode.SERVICE_RESTART: "the pod goes",
    CloseCode.TRY_AGAIN_LATER: "a dependency was away during a first-message authentication",
    CloseCode.TOO_SLOW: "the client reads too slowly",
    CloseCode.SILENT: "no message for 3 x heartbeatIntervalMs + 10 s",
    CloseCode.RATE_LIMITED: "too many messages",
    CloseCode.AUTHENTICATION_TIMEOUT: f"no authentication within {AUTHENTICATION_LIMIT_S:g} s",
    CloseCode.TOKEN_INVALID: "the token is refused, or has expired",
    CloseCode.SESSION_GONE: "the session has ended, or is not there",
    CloseCode.REPLACED: "a newer attempt of the same client id, or evicted by a connection too many",
    CloseCode.UNSUPPORTED: "binary frames, or a refused request",
}

_DESCRIPTION = """\
Everything on the socket is a JSON text frame with a string `type`; messages of the server also have `timestamp`, in
milliseconds since 1970. Unknown fields are to be ignored, by both sides. The subprotocol is `session.v1`.

**Sequence rule.** A simulator numbers its updates 1, 2, 3, ... within an epoch. An `exchange_data` covers
`fromSequence` to `sequence`; on one socket the next one begins at the last `sequence` + 1, always, or it is a
snapshot, which replaces everything. A client that states `epoch` and `sequence` when it comes back gets exactly what
follows (`resumed` true), or a snapshot. Over two overlapping sockets it applies an order update only if its own
`sequence` is above the last one applied.

**Close codes** (`x-close-codes`). After 4500-4999 a client must not reconnect; after any other, and after a
connection that was lost without one, it may, with a growing, jittered pause.

**Limits** (`x-limits`; also told in `connected`)."""

_SESSION = "session"
_CHANNEL = {"$ref": f"#/channels/{_SESSION}"}


def build_document() -> Schema:
    """The whole document, ready for JSON."""
    messages: tuple[Message, ...] = (*CLIENT_MESSAGES, *SERVER_MESSAGES, ExchangeData)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Session service: WebSocket",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"tls": _server("wss", "localhost"), "plain": _server("ws", "127.0.0.1:8080")},
        "channels": {_SESSION: _channel(messages)},
        "operations": {
            **{type_of(row.message): _received(row) for row in RECEIVED},
            **{type_of(row.message): _sent(row) for row in SENT},
        },
        "components": {
            "messages": {type_of(message): _message(message) for message in messages},
            "schemas": component_schemas(messages),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def type_of(message: Message) -> str:
    """The ``type`` that the message has on the wire."""
    return str(message.__struct_config__.tag)


_SECURITY_SCHEMES: Schema = {
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": "`session.v1, bearer.<base64url of the JWT>`, of which only `session.v1` is echoed: the way "
        "for browsers.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "query": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "Only where the operator set WEBSOCKET_QUERY_TOKEN=allow. Without any token in the request, "
        f"the first message is `authenticate`, within {AUTHENTICATION_LIMIT_S:g} s.",
    },
}


def _server(protocol: str, host: str) -> Schema:
    return {
        "host": "{host}",
        "protocol": protocol,
        "protocolVersion": "13",
        "variables": {"host": {"description": "Any pod, or what stands before them", "default": host}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY_SCHEMES],
    }


def _channel(messages: tuple[Message, ...]) -> Schema:
    (upgrade,) = [operation for operation in OPERATIONS if operation.path == "/ws"]
    query = {
        parameter["name"]: {**parameter["schema"], "description": parameter["description"]}
        for parameter in upgrade.parameters
    }
    required = [parameter["name"] for parameter in upgrade.parameters if parameter["required"]]
    limits: Schema = msgspec.to_builtins(Limits())
    return {
        "address": upgrade.path,
        "title": "One socket of a session",
        "description": "Without a `sessionId`: the session of the user and device, made if there is none.",
        "messages": {type_of(message): _ref("messages", type_of(message)) for message in messages},
        "bindings": {
            "ws": {
                "method": upgrade.method,
                "query": {"type": "object", "properties": query, "required": required},
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {
                            "type": "string",
                            "description": "`session.v1`, and a token where it comes this way",
                        },
                        "Origin": {
                            "type": "string",
                            "description": "Where it is sent: the server's own, or one of CORS_ALLOWED_ORIGINS",
                        },
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-close-codes": [
            {"code": int(code), "cause": _CLOSE_CAUSES[code], "mayReconnect": may_reconnect(code)}
            for code in CloseCode
        ],
        "x-limits": limits,
    }


def _received(row: Received) -> Schema:
    return {
        "action": "receive",
        "channel": _CHANNEL,
        "summary": row.summary,
        "messages": [_channel_message(row.message)],
        "reply": {"channel": _CHANNEL, "messages": [_channel_message(row.reply)]},
    }


def _sent(row: Sent) -> Schema:
    return {
        "action": "send",
        "channel": _CHANNEL,
        "summary": row.summary,
        "messages": [_channel_message(row.message)],
    }


def _message(message: Message) -> Schema:
    document: Schema = {"name": type_of(message), "payload": {"$ref": REF.format(name=message.__name__)}}
    if "request_id" in message.__struct_fields__:
        document["correlationId"] = {"location": "$message.payload#/requestId"}
    return document


def _channel_message(message: Message) -> Schema:
    return {"$ref": f"#/channels/{_SESSION}/messages/{type_of(message)}"}


def _ref(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
