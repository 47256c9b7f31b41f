"""What surrounds every request: its id, its metrics and log line, and errors as answers.

Order, outermost first: tracing (``telemetry.tracing``), ``request_context_middleware``, ``metrics_middleware``,
``error_middleware``.
"""

from __future__ import annotations

import os
import re
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from session_service.api.errors import CODED_ANSWERS, ErrorAnswers
from session_service.api.named_session_errors import NAMED_SESSION_ANSWERS, is_named_session_path
from session_service.errors import AuthenticationError, ErrorCode, NamedSessionError, SessionServiceError
from session_service.telemetry.metrics import Metrics
from session_service.wire.proxies import TrustedNetworks, client_address

log = structlog.get_logger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
UNMATCHED_ROUTE = "unmatched"
# Asked every few seconds for ever: their lines would bury all others.
_QUIET_ROUTES = frozenset({"/health", "/readiness", "/metrics"})

_request_id_key = web.RequestKey("request_id", str)
_untimed_key = web.RequestKey("untimed", bool)
_sane_request_id = re.compile(r"[!-~]{1,128}")


def route_template(request: web.Request) -> str:
    """The route's template, such as ``/api/sessions/{session_id}``: bounded, and without anybody's ids."""
    resource = request.match_info.route.resource
    return UNMATCHED_ROUTE if resource is None else resource.canonical


def leave_untimed(request: web.Request) -> None:
    """Count the answer without its time: the caller asked to wait."""
    request[_untimed_key] = True


@web.middleware
async def request_context_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id (the client's X-Request-ID where it is 1–128 visible ASCII characters) in every log."""
    offered = request.headers.get(REQUEST_ID_HEADER)
    request_id = offered if offered and _sane_request_id.fullmatch(offered) else os.urandom(16).hex()
    request[_request_id_key] = request_id
    # aiohttp runs every request in a task of its own: what is bound here ends with it.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return await handler(request)


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """``on_response_prepare``: headers of every answer, streams and upgrades included."""
    headers = response.headers
    request_id = request.get(_request_id_key)
    if request_id is not None:
        headers[REQUEST_ID_HEADER] = request_id
    headers["Server"] = "session-service"  # without the versions of what it is made of
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Cache-Control", "no-store")


def metrics_middleware(metrics: Metrics, trusted: TrustedNetworks) -> Middleware:
    """Count and time every answer, and write the one access log line: template and status, no query, no token.

    A WebSocket or an event stream is counted when it ends, and not timed: its life is not an answer's time. Nor is a
    long poll's (``leave_untimed``).
    """

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        route = route_template(request)
        status = 499  # the client went away before the answer: the handler is cancelled
        is_timed = True
        try:
            response = await handler(request)
            status = response.status
            is_timed = isinstance(response, web.Response)
            return response
        finally:
            duration_s = time.perf_counter() - started
            if is_timed and _untimed_key not in request:
                metrics.rest_request(request.method, route, status, duration_s)
            else:
                metrics.rest_requests_total.labels(request.method, route, str(status)).inc()
            write = log.debug if route in _QUIET_ROUTES else log.info
            write(
                "http_request",
                method=request.method,
                route=route,
                status=status,
                duration_ms=round(duration_s * 1000, 3),
                client=client_address(request.remote, request.headers, trusted) if trusted else request.remote,
            )

    return measure


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into the JSON answer of its code. Cancellation passes through."""
    try:
        return await handler(request)
    except web.HTTPException as exception:
        return _answers(request).http_exception(exception)
    except AuthenticationError as error:
        log.info("authentication_failed", reason=error.reason)
        return _answers(request).error(error)
    except SessionServiceError as error:
        if error.code is not ErrorCode.INTERNAL_ERROR or isinstance(error, NamedSessionError):
            return _answers(request).error(error)
        log.exception("request_failed", route=route_template(request))
        return _answers(request).internal_error()
    except web.RequestPayloadError:
        return _answers(request).unreadable_body()
    except (
        Exception
    ) as error:  # the last line before aiohttp's own, which would answer in plain text and log without the id
        if isinstance(error, ConnectionError) and request.transport is None:
            raise  # the client is gone: nobody reads an answer, and nothing of ours failed
        log.exception("request_failed", route=route_template(request))
        return _answers(request).internal_error()


def _answers(request: web.Request) -> ErrorAnswers:
    return NAMED_SESSION_ANSWERS if is_named_session_path(request) else CODED_ANSWERS
