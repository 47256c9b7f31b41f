"""Errors under ``/api/v1/sessions``, in the form of document 004: ``{"detail": …}`` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from aiohttp import web

from session_service.api.errors import PUBLIC_ERRORS, ErrorAnswers, add_error_headers
from session_service.errors import (
    ActiveSessionDeletionError,
    ActiveSessionNotFoundError,
    DuplicateSessionTitleError,
    InvalidInputError,
    NamedSessionError,
    NamedSessionNotFoundError,
    SessionServiceError,
)
from session_service.wire.named_sessions import Detail, encode_problems

NAMED_SESSIONS_PATH = "/api/v1/sessions"

STATUSES: Mapping[type[NamedSessionError], int] = {
    ActiveSessionDeletionError: 400,
    NamedSessionNotFoundError: 404,
    ActiveSessionNotFoundError: 404,
    DuplicateSessionTitleError: 409,
    InvalidInputError: 422,
}
# What aiohttp itself raises, in the document's framework's words.
_HTTP_DETAILS: Mapping[int, str] = {
    404: "Not Found",
    405: "Method Not Allowed",
    413: "The body is larger than 64 KiB",
}

_encode = msgspec.json.Encoder().encode


def is_named_session_path(request: web.Request) -> bool:
    """Whether errors of this request have the form of this module."""
    path = request.rel_url.raw_path
    return path.startswith(NAMED_SESSIONS_PATH) and path[len(NAMED_SESSIONS_PATH) :][:1] in {"", "/"}


def _error_response(error: SessionServiceError) -> web.Response:
    if isinstance(error, InvalidInputError):
        return web.Response(body=encode_problems(error), status=422, content_type="application/json")
    if isinstance(error, NamedSessionError):
        return _detail_response(STATUSES[type(error)], error.message)
    response = _detail_response(PUBLIC_ERRORS[error.code].status or 400, error.message)
    add_error_headers(response, error)
    return response


def _http_exception_response(exception: web.HTTPException) -> web.StreamResponse:
    if exception.status < 400:
        return exception
    response = _detail_response(exception.status, _HTTP_DETAILS.get(exception.status, exception.reason))
    if "Allow" in exception.headers:
        response.headers["Allow"] = exception.headers["Allow"]
    return response


def _internal_error_response() -> web.Response:
    return _detail_response(500, "Internal Server Error")


def _unreadable_body_response() -> web.Response:
    response = _detail_response(400, "There was an error parsing the body")
    response.force_close()
    return response


def _detail_response(status: int, detail: str) -> web.Response:
    return web.Response(body=_encode(Detail(detail)), status=status, content_type="application/json")


NAMED_SESSION_ANSWERS = ErrorAnswers(
    _error_response, _http_exception_response, _internal_error_response, _unreadable_body_response
)
