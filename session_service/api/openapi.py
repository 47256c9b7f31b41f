"""The OpenAPI 3.1 document of every route: schemas come from the bodies' own types, paths from the table below."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from session_service import __version__
from session_service.api.errors import PUBLIC_ERRORS
from session_service.api.health import Liveness, Readiness
from session_service.api.json_schemas import REF, Schema, component_schemas
from session_service.domain.inbox import InboxStatus
from session_service.domain.named_session import MAX_TITLE_LENGTH
from session_service.domain.sandbox_session import MAX_DEPTH
from session_service.domain.session import SessionStatus
from session_service.errors import ErrorCode
from session_service.wire.fields import MAX_ID_LENGTH
from session_service.wire.named_sessions import Detail, InvalidInputAnswer, NewSession, SessionRead
from session_service.wire.rest import (
    CreateSessionRequest,
    EndSessionsRequest,
    ErrorAnswer,
    OrderAnswer,
    OrdersAnswer,
    ReconnectRequest,
    SessionCreated,
    SessionEnded,
    SessionKept,
    SessionReady,
    SessionsEnded,
    SimulatorAnswer,
    SimulatorStarted,
    SimulatorStopped,
    StartSimulatorRequest,
    SubmitOrderRequest,
)
from session_service.wire.sandbox_sessions import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    ChangedSandboxSession,
    ClaimedSandboxSession,
    ClaimRequest,
    CompleteRequest,
    ExtendRequest,
    FailRequest,
    NewMessage,
    NewSandboxSession,
    SandboxChildren,
    SandboxSessionList,
    SandboxSessionRow,
)


class Reply(msgspec.Struct, frozen=True):
    """One successful answer. ``body`` is a type of ``wire.rest``, or the name of a schema written out here."""

    description: str
    body: type[msgspec.Struct] | str | None = None
    media_type: str = "application/json"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: a method of a path, what goes in, and everything that comes out."""

    method: str
    path: str
    tag: str
    operation_id: str
    summary: str
    replies: Mapping[int, Reply]
    description: str = ""
    body: type[msgspec.Struct] | None = None
    body_required: bool = True
    parameters: tuple[Schema, ...] = ()
    errors: tuple[ErrorCode, ...] = ()
    details: Mapping[int, str] | None = None  # errors as ``{"detail": …}``, by status, instead of by code
    authenticated: bool = True


def _query(name: str, description: str, *, required: bool = False, schema: Schema | None = None) -> Schema:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema or {"type": "string"},
    }


_SESSIONS, _SIMULATORS, _ORDERS, _LIVE, _OPERATIONS = "sessions", "simulators", "orders", "live", "operations"
_NAMED = "named sessions"
_SANDBOX = "sandbox sessions"
_ONE_SANDBOX = (ErrorCode.FORBIDDEN, ErrorCode.SESSION_NOT_FOUND)
_CLAIMED_SANDBOX = (*_ONE_SANDBOX, ErrorCode.CLAIM_LOST)
_ONE_SESSION = (ErrorCode.SESSION_NOT_FOUND, ErrorCode.SESSION_EXPIRED)
_NAMED_ERRORS = {
    401: "Unauthorized: the token, or its subject, which is no integer from 1 to 2147483647",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ONE_ORDER = (ErrorCode.SIMULATOR_NOT_FOUND, ErrorCode.SIMULATOR_NOT_RUNNING, ErrorCode.ORDER_NOT_FOUND)


def _moved(method: str, path: str, operation_id: str) -> Operation:
    """A path with a slash too few or too many."""
    return Operation(
        method=method,
        path=path,
        tag=_NAMED,
        operation_id=operation_id,
        summary="The path as it should be",
        replies={307: Reply("See `Location`; method and body stay")},
        details={},
        authenticated=False,
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/api/sessions",
        tag=_SESSIONS,
        operation_id="createSession",
        summary="Make the session of this user and device, or find it",
        description="Idempotent per user and device. At the limit, the oldest session without a connection is ended.",
        body=CreateSessionRequest,
        replies={
            201: Reply("A new session", SessionCreated),
            200: Reply("The session that was there", SessionCreated),
        },
        errors=(ErrorCode.SESSION_LIMIT_REACHED,),
    ),
    Operation(
        method="GET",
        path="/api/sessions",
        tag=_SESSIONS,
        operation_id="listSessions",
        summary="The caller's sessions",
        replies={200: Reply("The caller's sessions", "SessionsAnswer")},
    ),
    Operation(
        method="DELETE",
        path="/api/sessions",
        tag=_SESSIONS,
        operation_id="endSessions",
        summary="End the session of one device, or all of the caller's",
        description="The device is named in the query or in the body; the query counts where both name one. A device "
        "without a session is no error.",
        body=EndSessionsRequest,
        body_required=False,
        parameters=(_query("deviceId", "End this device's session only"),),
        replies={200: Reply("What was ended", SessionsEnded)},
    ),
    Operation(
        method="GET",
        path="/api/sessions/{session_id}",
        tag=_SESSIONS,
        operation_id="getSession",
        summary="One session with its metadata",
        description="Tokens with the scope `simulators` may read any user's session, and see the simulator's "
        "endpoint and token.",
        replies={200: Reply("The session", "SessionAnswer")},
        errors=_ONE_SESSION,
    ),
    Operation(
        method="DELETE",
        path="/api/sessions/{session_id}",
        tag=_SESSIONS,
        operation_id="endSession",
        summary="End one session; its simulator is stopped",
        replies={200: Reply("It is ended", SessionEnded)},
        errors=_ONE_SESSION,
    ),
    Operation(
        method="GET",
        path="/api/sessions/{session_id}/ready",
        tag=_SESSIONS,
        operation_id="sessionReady",
        summary="Whether the session can be used now",
        replies={200: Reply("It can", SessionReady)},
        errors=(*_ONE_SESSION, ErrorCode.SESSION_NOT_READY),
    ),
    Operation(
        method="POST",
        path="/api/sessions/{session_id}/keepalive",
        tag=_SESSIONS,
        operation_id="keepSession",
        summary="Extend the session's life",
        replies={200: Reply("When it expires now", SessionKept)},
        errors=_ONE_SESSION,
    ),
    Operation(
        method="POST",
        path="/api/sessions/{session_id}/reconnect",
        tag=_SESSIONS,
        operation_id="reconnectSession",
        summary="Take the session up again from its device",
        body=ReconnectRequest,
        replies={200: Reply("The session", "SessionAnswer")},
        errors=(*_ONE_SESSION, ErrorCode.DEVICE_MISMATCH),
    ),
    Operation(
        method="POST",
        path="/api/simulators",
        tag=_SIMULATORS,
        operation_id="startSimulator",
        summary="Start a session's simulator",
        description="Answers at once; the simulator's status says how far it is. Without a sessionId: of the "
        "caller's only session.",
        body=StartSimulatorRequest,
        body_required=False,
        replies={
            202: Reply("A new simulator starts", SimulatorStarted),
            200: Reply("The session has a live one", SimulatorStarted),
        },
        errors=(*_ONE_SESSION, ErrorCode.SESSION_REQUIRED, ErrorCode.SIMULATOR_LIMIT_REACHED),
    ),
    Operation(
        method="GET",
        path="/api/simulators",
        tag=_SIMULATORS,
        operation_id="findSimulator",
        summary="A session's simulator; null where there is none",
        parameters=(_query("sessionId", "The session", required=True),),
        replies={200: Reply("The simulator", SimulatorAnswer)},
        errors=(ErrorCode.INVALID_REQUEST, *_ONE_SESSION),
    ),
    Operation(
        method="DELETE",
        path="/api/simulators",
        tag=_SIMULATORS,
        operation_id="stopSessionSimulator",
        summary="Stop a session's simulator; idempotent",
        parameters=(_query("sessionId", "The session", required=True),),
        replies={200: Reply("Its status now; NONE where there is none", SimulatorStopped)},
        errors=(ErrorCode.INVALID_REQUEST, *_ONE_SESSION),
    ),
    Operation(
        method="GET",
        path="/api/simulators/{simulator_id}",
        tag=_SIMULATORS,
        operation_id="getSimulator",
        summary="One simulator",
        replies={200: Reply("The simulator", SimulatorAnswer)},
        errors=(ErrorCode.SIMULATOR_NOT_FOUND,),
    ),
    Operation(
        method="DELETE",
        path="/api/simulators/{simulator_id}",
        tag=_SIMULATORS,
        operation_id="stopSimulator",
        summary="Stop one simulator; idempotent",
        replies={200: Reply("Its status now", SimulatorStopped)},
        errors=(ErrorCode.SIMULATOR_NOT_FOUND,),
    ),
    Operation(
        method="POST",
        path="/api/simulators/{simulator_id}/orders",
        tag=_ORDERS,
        operation_id="submitOrder",
        summary="Submit an order",
        description="The same requestId with the same content gives the same answer. A rejected order is answered "
        "with 200, `success: false`, the status REJECTED and the reason.",
        body=SubmitOrderRequest,
        replies={200: Reply("The order", OrderAnswer)},
        errors=(
            ErrorCode.SIMULATOR_NOT_FOUND,
            ErrorCode.SIMULATOR_NOT_RUNNING,
            ErrorCode.REQUEST_ID_REUSED,
            ErrorCode.UNKNOWN_SYMBOL,
        ),
    ),
    Operation(
        method="GET",
        path="/api/simulators/{simulator_id}/orders",
        tag=_ORDERS,
        operation_id="listOrders",
        summary="The simulator's orders, open ones first",
        replies={200: Reply("The orders", OrdersAnswer)},
        errors=(ErrorCode.SIMULATOR_NOT_FOUND, ErrorCode.SIMULATOR_NOT_RUNNING),
    ),
    Operation(
        method="GET",
        path="/api/simulators/{simulator_id}/orders/{order_id}",
        tag=_ORDERS,
        operation_id="getOrder",
        summary="One order",
        replies={200: Reply("The order", OrderAnswer)},
        errors=_ONE_ORDER,
    ),
    Operation(
        method="DELETE",
        path="/api/simulators/{simulator_id}/orders/{order_id}",
        tag=_ORDERS,
        operation_id="cancelOrder",
        summary="Cancel an open order",
        replies={200: Reply("The order", OrderAnswer)},
        errors=(*_ONE_ORDER, ErrorCode.ORDER_NOT_CANCELABLE),
    ),
    Operation(
        method="GET",
        path="/api/sessions/{session_id}/events",
        tag=_LIVE,
        operation_id="streamEvents",
        summary="The session's live frames as server-sent events",
        description="`event` is the frame's type, `id` is epoch:sequence, and Last-Event-ID resumes. A comment comes "
        "every 15 s. Commands go by the other routes.",
        parameters=(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "epoch:sequence of the last event that was read",
                "schema": {"type": "string"},
            },
        ),
        replies={200: Reply("The stream", "EventStream", "text/event-stream")},
        errors=(
            ErrorCode.INVALID_REQUEST,
            *_ONE_SESSION,
            ErrorCode.CONNECTION_REPLACED,
            ErrorCode.OVERLOADED,
            ErrorCode.POD_TERMINATING,
        ),
    ),
    Operation(
        method="GET",
        path="/api/v1/sandbox-sessions/events",
        tag=_SANDBOX,
        operation_id="streamSandboxSessionChanges",
        summary="Changes of sandbox sessions as server-sent events",
        description="`event: change` for each row that was made, changed or removed, by whatever means: its id and "
        "its status. `event: reset` where changes cannot be told any more: list anew. `event: position` has nothing "
        "but an id. Last-Event-ID resumes for half an hour. A comment comes every 15 s. Needs the scope `sandbox`.",
        parameters=(
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The id of the last event that was read",
                "schema": {"type": "string"},
            },
        ),
        replies={200: Reply("The stream", "EventStream", "text/event-stream")},
        errors=(ErrorCode.FORBIDDEN,),
    ),
    Operation(
        method="POST",
        path="/api/v1/sandbox-sessions",
        tag=_SANDBOX,
        operation_id="createSandboxSession",
        summary="Make a sandbox session",
        description="`pending` work, unless `inbox_status` says otherwise; null is a session that is no work. A "
        "body has at most 1 MiB, as have `messages` and `sbx_config`. Needs the scope `sandbox`, as all of these.",
        body=NewSandboxSession,
        replies={201: Reply("The session", SandboxSessionRow)},
        errors=(ErrorCode.FORBIDDEN,),
    ),
    Operation(
        method="GET",
        path="/api/v1/sandbox-sessions",
        tag=_SANDBOX,
        operation_id="listSandboxSessions",
        summary="Sandbox sessions, the oldest first",
        description="A page may have fewer than `limit` where sessions are large; the last one has no cursor. A "
        "session that is there from the first page to the last comes once.",
        parameters=(
            _query("status", "Only those with this status", schema={"enum": list(InboxStatus)}),
            _query("parent", "Only those right below this session", schema={"type": "string", "format": "uuid"}),
            _query(
                "limit",
                "How many",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            ),
            _query("cursor", "The `cursor` of the page before"),
        ),
        replies={200: Reply("A page of them", SandboxSessionList)},
        errors=(ErrorCode.FORBIDDEN, ErrorCode.INVALID_REQUEST),
    ),
    Operation(
        method="POST",
        path="/api/v1/sandbox-sessions/claim",
        tag=_SANDBOX,
        operation_id="claimSandboxSession",
        summary="Claim the next piece of work",
        description="The oldest that is pending, or that was claimed and has run out. With `waitSeconds` the answer "
        "waits for work; a client that leaves meanwhile has claimed nothing. After `visibilitySeconds` others may "
        "claim the work.",
        body=ClaimRequest,
        replies={
            200: Reply("The work; `claim` is the token to extend, complete or fail it with", ClaimedSandboxSession),
            204: Reply("There is none"),
        },
        errors=(ErrorCode.FORBIDDEN,),
    ),
    Operation(
        method="GET",
        path="/api/v1/sandbox-sessions/{session_id}",
        tag=_SANDBOX,
        operation_id="getSandboxSession",
        summary="One sandbox session",
        replies={200: Reply("The session", SandboxSessionRow)},
        errors=_ONE_SANDBOX,
    ),
    Operation(
        method="PATCH",
        path="/api/v1/sandbox-sessions/{session_id}",
        tag=_SANDBOX,
        operation_id="changeSandboxSession",
        summary="Set fields of a sandbox session",
        description="Absent fields stay as they are, null is a value. Another `inbox_status` ends a claim.",
        body=ChangedSandboxSession,
        replies={200: Reply("The session", SandboxSessionRow)},
        errors=_ONE_SANDBOX,
    ),
    Operation(
        method="DELETE",
        path="/api/v1/sandbox-sessions/{session_id}",
        tag=_SANDBOX,
        operation_id="deleteSandboxSession",
        summary="Delete a sandbox session; its children stay",
        replies={204: Reply("It is deleted")},
        errors=_ONE_SANDBOX,
    ),
    Operation(
        method="POST",
        path="/api/v1/sandbox-sessions/{session_id}/messages",
        tag=_SANDBOX,
        operation_id="appendSandboxMessage",
        summary="Append a message",
        description="Atomic: of two at once both stay. A `messages` that is no array becomes its first element.",
        body=NewMessage,
        replies={200: Reply("The session", SandboxSessionRow)},
        errors=_ONE_SANDBOX,
    ),
    Operation(
        method="GET",
        path="/api/v1/sandbox-sessions/{session_id}/children",
        tag=_SANDBOX,
        operation_id="listSandboxChildren",
        summary="What stands below a sandbox session",
        parameters=(
            _query(
                "depth",
                "How many levels",
                schema={"type": "integer", "minimum": 1, "maximum": MAX_DEPTH, "default": 1},
            ),
        ),
        replies={200: Reply("The sessions, level by level", SandboxChildren)},
        errors=(*_ONE_SANDBOX, ErrorCode.INVALID_REQUEST),
    ),
    Operation(
        method="POST",
        path="/api/v1/sandbox-sessions/{session_id}/extend",
        tag=_SANDBOX,
        operation_id="extendSandboxClaim",
        summary="Hold a claim for longer",
        body=ExtendRequest,
        replies={200: Reply("The session", SandboxSessionRow)},
        errors=_CLAIMED_SANDBOX,
    ),
    Operation(
        method="POST",
        path="/api/v1/sandbox-sessions/{session_id}/complete",
        tag=_SANDBOX,
        operation_id="completeSandboxSession",
        summary="The work is done",
        body=CompleteRequest,
        replies={200: Reply("The session", SandboxSessionRow)},
        errors=_CLAIMED_SANDBOX,
    ),
    Operation(
        method="POST",
        path="/api/v1/sandbox-sessions/{session_id}/fail",
        tag=_SANDBOX,
        operation_id="failSandboxSession",
        summary="The work was not done",
        description="`pending` again after a back-off while `retry` holds and attempts are left, else `failed`.",
        body=FailRequest,
        replies={200: Reply("The session", SandboxSessionRow)},
        errors=_CLAIMED_SANDBOX,
    ),
    Operation(
        method="GET",
        path="/ws",
        tag=_LIVE,
        operation_id="openWebSocket",
        summary="Upgrade to a WebSocket: frames and commands of one session",
        description="docs/protocol.md describes the frames. The token comes in the subprotocols "
        "`session.v1, bearer.<base64url token>`, in Authorization, or in the first message. Without a sessionId: the "
        "session of the user and device, made if there is none.",
        parameters=(
            _query("deviceId", "The client's device", required=True),
            _query("sessionId", "The session"),
            _query("clientId", "The client, constant over its reconnections"),
            _query("attempt", "The client's count of connections", schema={"type": "integer", "minimum": 0}),
            _query("epoch", "Where to resume: the epoch", schema={"type": "integer", "minimum": 0}),
            _query("sequence", "Where to resume: the last sequence seen", schema={"type": "integer", "minimum": 0}),
            _query("symbols", "Symbols to receive, separated by commas; all when absent"),
        ),
        replies={101: Reply("The WebSocket is open")},
        errors=(
            ErrorCode.INVALID_REQUEST,
            ErrorCode.ORIGIN_NOT_ALLOWED,
            *_ONE_SESSION,
            ErrorCode.SESSION_LIMIT_REACHED,
            ErrorCode.DEVICE_MISMATCH,
            ErrorCode.CONNECTION_REPLACED,
            ErrorCode.OVERLOADED,
            ErrorCode.POD_TERMINATING,
        ),
    ),
    Operation(
        method="GET",
        path="/api/v1/sessions/",
        tag=_NAMED,
        operation_id="listNamedSessions",
        summary="The caller's named sessions, the oldest first",
        replies={200: Reply("All of them", "NamedSessions")},
        details=_NAMED_ERRORS,
    ),
    Operation(
        method="POST",
        path="/api/v1/sessions/",
        tag=_NAMED,
        operation_id="createNamedSession",
        summary="Make a named session, which becomes the active one",
        body=NewSession,
        replies={200: Reply("The session", SessionRead)},
        details={
            **_NAMED_ERRORS,
            400: "Bad Request: the body cannot be read",
            409: "Conflict: the caller has a session of that title",
            413: "Request Entity Too Large",
            422: "Unprocessable Entity: what is wrong with the body, and where",
        },
    ),
    Operation(
        method="GET",
        path="/api/v1/sessions/active",
        tag=_NAMED,
        operation_id="getActiveNamedSession",
        summary="The id of the active session",
        replies={200: Reply("The id", "ActiveSessionId")},
        details={**_NAMED_ERRORS, 404: "Not Found: the caller has no active session"},
    ),
    Operation(
        method="POST",
        path="/api/v1/sessions/active/{title}",
        tag=_NAMED,
        operation_id="setActiveNamedSession",
        summary="Make the session of that title the active one",
        description="The title is the rest of the path, slashes included.",
        replies={200: Reply("It is active", Detail)},
        details={
            **_NAMED_ERRORS,
            404: "Not Found: the caller has no session of that title",
            422: "Unprocessable Entity: what cannot be a title",
        },
    ),
    Operation(
        method="DELETE",
        path="/api/v1/sessions/{title}",
        tag=_NAMED,
        operation_id="deleteNamedSession",
        summary="Delete the session of that title, unless it is active",
        description="The title is the rest of the path, slashes included.",
        replies={200: Reply("It is deleted", Detail)},
        details={
            **_NAMED_ERRORS,
            400: "Bad Request: the session is active",
            404: "Not Found: the caller has no session of that title",
            422: "Unprocessable Entity: what cannot be a title",
        },
    ),
    _moved("GET", "/api/v1/sessions", "namedSessionsWithSlash"),
    _moved("POST", "/api/v1/sessions", "newNamedSessionWithSlash"),
    _moved("GET", "/api/v1/sessions/active/", "activeNamedSessionWithoutSlash"),
    Operation(
        method="GET",
        path="/health",
        tag=_OPERATIONS,
        operation_id="health",
        summary="Liveness: the process and its event loop",
        replies={200: Reply("It lives", Liveness)},
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/readiness",
        tag=_OPERATIONS,
        operation_id="readiness",
        summary="Whether this pod should get traffic",
        replies={
            200: Reply("It should", Readiness),
            503: Reply("Not now: starting, draining, or no database", Readiness),
        },
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/metrics",
        tag=_OPERATIONS,
        operation_id="metrics",
        summary="Prometheus metrics; on METRICS_PORT alone where it is set",
        replies={200: Reply("Prometheus text format", "Text", "text/plain")},
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        tag=_OPERATIONS,
        operation_id="openapi",
        summary="This document",
        replies={200: Reply("OpenAPI 3.1", "Object")},
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/asyncapi.json",
        tag=_OPERATIONS,
        operation_id="asyncapi",
        summary="The WebSocket's messages",
        replies={200: Reply("AsyncAPI 3.0", "Object")},
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/docs",
        tag=_OPERATIONS,
        operation_id="docs",
        summary="This document as a page",
        replies={200: Reply("A page", "Text", "text/html")},
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/docs/docs.js",
        tag=_OPERATIONS,
        operation_id="docsScript",
        summary="The page's script",
        replies={200: Reply("A script", "Text", "text/javascript")},
        authenticated=False,
    ),
    Operation(
        method="GET",
        path="/docs/docs.css",
        tag=_OPERATIONS,
        operation_id="docsStyle",
        summary="The page's style",
        replies={200: Reply("A style sheet", "Text", "text/css")},
        authenticated=False,
    ),
)

_INSTANT: Schema = {"type": "string", "format": "date-time"}
_UNIX_TIME: Schema = {"type": "number", "description": "Unix seconds"}
_COUNT: Schema = {"type": "integer", "minimum": 0}

# Metadata that this service writes; others may stand beside it.
_METADATA: Mapping[str, Schema] = {
    "pod_name": {"type": "string"},
    "ip_address": {"type": "string"},
    "device_id": {"type": "string"},
    "user_agent": {"type": "string"},
    "reconnect_count": _COUNT,
    "last_reconnect": _UNIX_TIME,
    "frontend_connections": _COUNT,
    "last_ws_connection": _UNIX_TIME,
    "last_ws_disconnection": _UNIX_TIME,
    "sse_connections": _COUNT,
    "last_sse_connection": _UNIX_TIME,
    "connection_quality": {"enum": ["GOOD", "DEGRADED", "POOR"]},
    "heartbeat_latency": {"type": "number", "description": "Milliseconds"},
    "missed_heartbeats": _COUNT,
    "last_quality_update": _UNIX_TIME,
    "simulator_id": {"type": "string"},
    "simulator_endpoint": {"type": "string", "description": "Only with the scope `simulators`"},
    "simulator_token": {"type": "string", "description": "Only with the scope `simulators`"},
    "simulator_status": {"type": "string"},
    "last_simulator_heartbeat_sent": _UNIX_TIME,
    "pod_terminating": {"type": "boolean"},
    "termination_time": _UNIX_TIME,
    "previous_pod": {"type": "string"},
}

_WRITTEN_SCHEMAS: Mapping[str, Schema] = {
    "Session": {
        "type": "object",
        "description": "A session's columns with its metadata flattened beside them. A metadata field is there once "
        "it was written, and may be null.",
        "required": ["session_id", "user_id", "status", "created_at", "last_active", "expires_at"],
        "properties": {
            "session_id": {"type": "string"},
            "user_id": {"type": "string"},
            "status": {"enum": list(SessionStatus)},
            "created_at": _INSTANT,
            "last_active": _INSTANT,
            "expires_at": _INSTANT,
            **{name: {"anyOf": [schema, {"type": "null"}]} for name, schema in _METADATA.items()},
        },
        "additionalProperties": True,
    },
    "SessionAnswer": {
        "type": "object",
        "required": ["success", "session"],
        "properties": {"success": {"const": True}, "session": {"$ref": REF.format(name="Session")}},
    },
    "SessionsAnswer": {
        "type": "object",
        "required": ["success", "sessions"],
        "properties": {
            "success": {"const": True},
            "sessions": {"type": "array", "items": {"$ref": REF.format(name="Session")}},
        },
    },
    "NamedSessions": {"type": "array", "items": {"$ref": REF.format(name="SessionRead")}},
    "ActiveSessionId": {"type": "string", "format": "uuid"},
    "EventStream": {"type": "string", "description": "text/event-stream (HTML §9.2)"},
    "Text": {"type": "string"},
    "Object": {"type": "object"},
}

_PATH_PARAMETERS = ("session_id", "simulator_id", "order_id", "title")
_PATH_LENGTHS: Mapping[str, int] = {"title": MAX_TITLE_LENGTH}  # else MAX_ID_LENGTH
# Headers by status, beyond those of every answer.
_STATUS_HEADERS: Mapping[int, tuple[str, Schema]] = {
    401: ("WWW-Authenticate", {"type": "string"}),
    405: ("Allow", {"type": "string"}),
    503: ("Retry-After", {"type": "integer", "minimum": 1}),
}


def build_document() -> Schema:
    """The whole document, ready for JSON."""
    paths: dict[str, dict[str, Schema]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Session service",
            "version": __version__,
            "description": "Sessions, their simulators and orders. Every error has the same body; its `code` is one "
            "of a fixed list; errors of named sessions are an object with `detail` alone. Unknown fields of a body "
            "are ignored; a body has at most 64 KiB, of sandbox sessions 1 MiB.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in (_SESSIONS, _SIMULATORS, _ORDERS, _LIVE, _NAMED, _SANDBOX, _OPERATIONS)],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation) -> Schema:
    document: Schema = {
        "operationId": operation.operation_id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if operation.description:
        document["description"] = operation.description
    parameters = [_path_parameter(name) for name in _PATH_PARAMETERS if f"{{{name}}}" in operation.path]
    parameters += operation.parameters
    if parameters:
        document["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": _ref(operation.body)}}
        document["requestBody"] = {"required": operation.body_required, "content": content}
    if not operation.authenticated:
        document["security"] = []
    return document


def _path_parameter(name: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": _PATH_LENGTHS.get(name, MAX_ID_LENGTH)},
    }


def _responses(operation: Operation) -> dict[str, Schema]:
    responses: dict[str, Schema] = {}
    for success_status, reply in operation.replies.items():
        response: Schema = {"description": reply.description}
        if reply.body is not None:
            response["content"] = {reply.media_type: {"schema": _ref(reply.body)}}
        responses[str(success_status)] = response
    if operation.details is not None:
        for detail_status, description in sorted(operation.details.items()):
            body = InvalidInputAnswer if detail_status == 422 else Detail
            responses[str(detail_status)] = _with_headers(detail_status, description, body)
        return responses
    codes_by_status: dict[int, list[ErrorCode]] = {}
    for code in dict.fromkeys((*operation.errors, *_common_errors(operation))):
        status = PUBLIC_ERRORS[code].status
        if status is not None and status not in operation.replies:
            codes_by_status.setdefault(status, []).append(code)
    for error_status, codes in sorted(codes_by_status.items()):
        responses[str(error_status)] = _error_response(error_status, codes)
    return responses


def _common_errors(operation: Operation) -> tuple[ErrorCode, ...]:
    codes: tuple[ErrorCode, ...] = (ErrorCode.INTERNAL_ERROR,)
    if operation.authenticated:
        codes += (ErrorCode.AUTHENTICATION_FAILED, ErrorCode.SERVICE_UNAVAILABLE)
    if operation.body is not None:
        codes += (ErrorCode.INVALID_REQUEST, ErrorCode.PAYLOAD_TOO_LARGE)
    return codes


def _error_response(status: int, codes: list[ErrorCode]) -> Schema:
    description = f"{HTTPStatus(status).phrase}: " + ", ".join(f"`{code}`" for code in codes)
    return _with_headers(status, description, ErrorAnswer)


def _with_headers(status: int, description: str, body: type[msgspec.Struct]) -> Schema:
    response: Schema = {
        "description": description,
        "content": {"application/json": {"schema": _ref(body)}},
    }
    if status in _STATUS_HEADERS:
        name, schema = _STATUS_HEADERS[status]
        response["headers"] = {name: {"schema": schema}}
    return response


def _ref(body: type[msgspec.Struct] | str) -> Schema:
    return {"$ref": REF.format(name=body if isinstance(body, str) else body.__name__)}


def _schemas() -> dict[str, Schema]:
    types: dict[type[msgspec.Struct], None] = {ErrorAnswer: None, Detail: None, InvalidInputAnswer: None}
    for operation in OPERATIONS:
        if operation.body is not None:
            types[operation.body] = None
        for reply in operation.replies.values():
            if isinstance(reply.body, type):
                types[reply.body] = None
    return {**component_schemas(types), **_WRITTEN_SCHEMAS}
