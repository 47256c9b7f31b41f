"""Public error codes as HTTP answers: the only place that maps one to the other (docs/errors.md is made from it)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from session_service.errors import (
    ErrorCode,
    ForbiddenError,
    InvalidRequestError,
    SessionServiceError,
    UnavailableError,
)
from session_service.wire.rest import error_answer

_encode = msgspec.json.Encoder().encode


class PublicError(msgspec.Struct, frozen=True):
    """What a code means to a client. ``status`` is None where only WebSocket frames carry the code."""

    status: int | None
    meaning: str


PUBLIC_ERRORS: Mapping[ErrorCode, PublicError] = {
    ErrorCode.INVALID_REQUEST: PublicError(
        400, "The body, the query or a field is missing, of the wrong type, or out of range; the message names it"
    ),
    ErrorCode.SESSION_REQUIRED: PublicError(
        400, "The caller has no session, or several, and named none: send `sessionId`"
    ),
    ErrorCode.UNKNOWN_SYMBOL: PublicError(400, "The session's simulator does not trade this symbol"),
    ErrorCode.AUTHENTICATION_FAILED: PublicError(
        401, "The token is missing, malformed, expired or not valid here; which of these is never said"
    ),
    ErrorCode.FORBIDDEN: PublicError(403, "The token lacks the scope that the call needs"),
    ErrorCode.ORIGIN_NOT_ALLOWED: PublicError(403, "The page's origin is not allowed to call this service"),
    ErrorCode.NOT_FOUND: PublicError(404, "There is no such route"),
    ErrorCode.SESSION_NOT_FOUND: PublicError(404, "There is no such session, or it belongs to somebody else"),
    ErrorCode.SIMULATOR_NOT_FOUND: PublicError(404, "There is no such simulator, or it belongs to somebody else"),
    ErrorCode.ORDER_NOT_FOUND: PublicError(404, "The simulator has no such order"),
    ErrorCode.METHOD_NOT_ALLOWED: PublicError(405, "The route exists, with the methods that `Allow` names"),
    ErrorCode.SESSION_NOT_READY: PublicError(409, "The session cannot be used at this moment; ask again"),
    ErrorCode.SESSION_LIMIT_REACHED: PublicError(
        409, "The user has as many sessions as are allowed, each with an open connection"
    ),
    ErrorCode.DEVICE_MISMATCH: PublicError(409, "The session belongs to another device of the user"),
    ErrorCode.CLAIM_LOST: PublicError(
        409, "The work of a sandbox session is not, or no longer, claimed by this `claim`; somebody else may have it"
    ),
    ErrorCode.CONNECTION_REPLACED: PublicError(
        409, "A connection is refused, since a later attempt of the same client is connected"
    ),
    ErrorCode.SIMULATOR_NOT_RUNNING: PublicError(409, "The call needs a simulator with the status RUNNING"),
    ErrorCode.SIMULATOR_LIMIT_REACHED: PublicError(409, "The user has as many live simulators as are allowed"),
    ErrorCode.ORDER_NOT_CANCELABLE: PublicError(409, "The order is filled, canceled or rejected already"),
    ErrorCode.REQUEST_ID_REUSED: PublicError(409, "The `requestId` was used before with another content"),
    ErrorCode.SESSION_EXPIRED: PublicError(410, "The session has expired; nothing revives it"),
    ErrorCode.PAYLOAD_TOO_LARGE: PublicError(
        413, "The body is larger than 64 KiB (1 MiB for sandbox sessions), or the field that the message names is"
    ),
    ErrorCode.RATE_LIMITED: PublicError(429, "Too many calls in a short time"),
    ErrorCode.INTERNAL_ERROR: PublicError(500, "A fault of the service; its log has it under the `X-Request-ID`"),
    ErrorCode.SERVICE_UNAVAILABLE: PublicError(
        503, "Something that the call needs is away; `Retry-After` says when to try again"
    ),
    ErrorCode.OVERLOADED: PublicError(503, "This pod admits no more right now; `Retry-After` says when to try again"),
    ErrorCode.POD_TERMINATING: PublicError(503, "This pod is shutting down; another one takes the call"),
    ErrorCode.ORDER_REJECTED: PublicError(200, "The exchange took the order and refused it; `reason` says why"),
    ErrorCode.UNKNOWN_MESSAGE_TYPE: PublicError(None, "A frame of a type that does not exist; the socket stays open"),
    ErrorCode.INVALID_MESSAGE: PublicError(
        None, "A frame that is no JSON object with a string `type`; the socket stays open"
    ),
}

# What aiohttp itself raises (router, body limit, CORS preflight), in the words of this API.
_HTTP_CODES: Mapping[int, tuple[ErrorCode, str]] = {
    403: (ErrorCode.ORIGIN_NOT_ALLOWED, "This origin may not make this call"),
    404: (ErrorCode.NOT_FOUND, "There is no such route"),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "This method is not allowed here"),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB"),
}


def error_response(error: SessionServiceError) -> web.Response:
    """The answer to an error of ours, with the headers that belong to it."""
    response = code_response(error.code, error.message)
    add_error_headers(response, error)
    return response


def add_error_headers(response: web.Response, error: SessionServiceError) -> None:
    """The headers that belong to an error, whatever form its body has."""
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(max(1, error.retry_after_s))
    elif error.code is ErrorCode.AUTHENTICATION_FAILED:
        response.headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, ForbiddenError):  # RFC 6750 §3.1
        response.headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.scope}"'


def internal_error_response() -> web.Response:
    """The answer to a fault of ours: it says nothing of it."""
    return code_response(ErrorCode.INTERNAL_ERROR, "Internal error")


def http_exception_response(exception: web.HTTPException) -> web.StreamResponse:
    """The answer to one of aiohttp's own exceptions; a redirect or a success passes as it is."""
    if exception.status < 400:
        return exception
    code, message = _HTTP_CODES.get(exception.status, (ErrorCode.INVALID_REQUEST, exception.reason))
    response = code_response(code, message)
    response.set_status(exception.status)
    if "Allow" in exception.headers:
        response.headers["Allow"] = exception.headers["Allow"]
    return response


def malformed_request_response() -> web.Response:
    """The answer to what is no HTTP request; it quotes nothing of it."""
    return error_response(InvalidRequestError(None, "The request is not well-formed HTTP/1.1"))


def unreadable_body_response() -> web.Response:
    """The answer to a body that broke while it was read (bad chunks); nothing after it can be read either."""
    response = error_response(InvalidRequestError(None, "The body cannot be read"))
    response.force_close()
    return response


class ErrorAnswers(msgspec.Struct, frozen=True):
    """How a part of the API words its errors: one function for each kind of what can be raised."""

    error: Callable[[SessionServiceError], web.Response]
    http_exception: Callable[[web.HTTPException], web.StreamResponse]
    internal_error: Callable[[], web.Response]
    unreadable_body: Callable[[], web.Response]


def code_response(code: ErrorCode, message: str) -> web.Response:
    return web.Response(
        body=_encode(error_answer(code, message)),
        status=PUBLIC_ERRORS[code].status or 400,
        content_type="application/json",
    )


CODED_ANSWERS = ErrorAnswers(
    error_response, http_exception_response, internal_error_response, unreadable_body_response
)


def markdown_page() -> str:
    """The whole of docs/errors.md, which scripts/generate_error_docs.py writes."""
    rows = [
        f"| `{code}` | {error.status or 'WebSocket only'} | {error.meaning} |"
        for code, error in PUBLIC_ERRORS.items()
    ]
    return "\n".join([_PAGE_HEAD, "| code | HTTP status | meaning |", "|---|---|---|", *rows, ""])


_PAGE_HEAD = """\
# Errors

Every error answer of the REST API has this body, whatever its status; `errorMessage` repeats `error`. Those under
`/api/v1/sessions` alone are `{"detail": …}` ([named sessions](named-sessions.md)):

```json
{"success": false, "code": "SESSION_NOT_FOUND", "error": "Session not found", "errorMessage": "Session not found"}
```

`code` is stable and one of this table; the message is for people and may change. WebSocket `error` and `result`
frames use the same codes. A 401 has `WWW-Authenticate: Bearer`, a 403 for want of a scope names it there, a 405 has
`Allow`, and a 503 has `Retry-After` in seconds. Every answer to well-formed HTTP has an `X-Request-ID` (the caller's
own, where it sent one of 1–128 visible ASCII characters), under which the service's log tells more.

This page is generated from `session_service/api/errors.py` by `scripts/generate_error_docs.py`.
"""
