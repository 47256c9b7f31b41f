"""Error codes as HTTP answers: complete, documented, and the same body for all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from session_service.api.errors import (
    PUBLIC_ERRORS,
    code_response,
    error_response,
    http_exception_response,
    internal_error_response,
    markdown_page,
)
from session_service.errors import (
    AuthenticationError,
    CircuitOpenError,
    DatabaseUnavailableError,
    ErrorCode,
    InvalidRequestError,
    OverloadedError,
    SessionServiceError,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "errors.md"


def body_of(response: web.StreamResponse) -> dict[str, object]:
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    return msgspec.json.decode(response.body, type=dict[str, object])


def test_every_code_has_a_place_in_the_table() -> None:
    assert set(PUBLIC_ERRORS) == set(ErrorCode)


def test_the_documentation_is_generated_from_the_table() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == markdown_page(), "run scripts/generate_error_docs.py"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_one_body_for_all(code: ErrorCode) -> None:
    response = code_response(code, "what happened")
    assert response.content_type == "application/json"
    assert body_of(response) == {
        "success": False,
        "code": code.value,
        "error": "what happened",
        "errorMessage": "what happened",
    }


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequestError("deviceId", "is required"), 400, {}),
        (AuthenticationError("expired"), 401, {"WWW-Authenticate": "Bearer"}),
        (DatabaseUnavailableError(), 503, {"Retry-After": "1"}),
        (CircuitOpenError("auth", retry_after_s=7), 503, {"Retry-After": "7"}),
        (OverloadedError(retry_after_s=0), 503, {"Retry-After": "1"}),
    ],
)
def test_headers_belong_to_the_error(error: SessionServiceError, status: int, headers: dict[str, str]) -> None:
    response = error_response(error)
    assert response.status == status
    assert {name: response.headers.get(name) for name in headers} == headers


def test_a_refused_token_never_says_why() -> None:
    expired, forged = error_response(AuthenticationError("expired")), error_response(AuthenticationError("forged"))
    assert body_of(expired) == body_of(forged)


def test_a_fault_of_ours_says_nothing() -> None:
    assert body_of(internal_error_response())["error"] == "Internal error"


@pytest.mark.parametrize(
    ("exception", "status", "code"),
    [
        (web.HTTPNotFound(), 404, "NOT_FOUND"),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), 413, "PAYLOAD_TOO_LARGE"),
        (web.HTTPForbidden(text="CORS"), 403, "ORIGIN_NOT_ALLOWED"),
        (web.HTTPUnsupportedMediaType(), 415, "INVALID_REQUEST"),
    ],
)
def test_the_library_speaks_our_words(exception: web.HTTPException, status: int, code: str) -> None:
    response = http_exception_response(exception)
    assert response.status == status
    assert body_of(response)["code"] == code


def test_method_not_allowed_keeps_allow() -> None:
    response = http_exception_response(web.HTTPMethodNotAllowed("PUT", ["POST", "GET"]))
    assert response.status == 405
    assert response.headers["Allow"] == "GET,POST"


def test_a_redirect_passes() -> None:
    redirect = web.HTTPFound("/elsewhere")
    assert http_exception_response(redirect) is redirect
