"""Asking an authentication service about a token: AUTH_MODE service (docs/authentication.md#mode-service)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import structlog

from session_service.clients.bounded_response import ResponseTooLargeError, read_bounded
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.clients.token_verifier import LEEWAY_S, scopes_from, unverified_expiry, user_id_from
from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError, AuthServiceUnavailableError, CircuitOpenError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S = 2.0  # connecting, waiting and reading together
MAX_RESPONSE_BYTES = 64 << 10
OPAQUE_TOKEN_LIFETIME_S = 3600.0

_UNANSWERED = (aiohttp.ClientError, TimeoutError, OSError, ResponseTooLargeError, ValueError)

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token of RFC 6750 §2.1: nothing that could end a header


class _RefusedError(Exception):
    """The service answered, with a status that says nothing about the token (404, 413 …): it is not ill."""


class AuthService:
    """``POST {url}/api/auth/validate`` with the Bearer token, behind a circuit breaker.

    It fails closed: whatever is not a clear yes or no (a hang, 5xx, a redirect, a body that is too large or not the
    agreed JSON) raises AuthServiceUnavailableError. ``clock`` is monotonic, for the breaker.
    """

    def __init__(
        self,
        url: str,
        *,
        http: aiohttp.ClientSession,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = url.rstrip("/") + "/api/auth/validate"
        self._http = http
        self._metrics = metrics
        self._breaker = CircuitBreaker(
            "auth",
            clock=clock,
            failure_threshold=5,
            open_s=1.0,
            max_open_s=30.0,
            is_failure=lambda error: not isinstance(error, AuthenticationError | _RefusedError),
            on_change=metrics.breaker_state,
        )

    async def validate(self, token: str, now_s: float) -> Identity:
        """Ask about ``token`` at Unix time ``now_s``.

        The service vouches for the signature and the user. Where the token is a JWT with an ``exp``, that is the
        identity's end, and one that has passed is refused without asking; an opaque token gets an hour. Raises
        AuthenticationError (`valid: false`, 401, 403) and AuthServiceUnavailableError. Takes at most 2 s.
        """
        if _BEARER.fullmatch(token) is None:
            raise AuthenticationError("not a bearer token")
        expires_at = unverified_expiry(token)
        if expires_at is not None and now_s >= expires_at + LEEWAY_S:
            raise AuthenticationError("expired")
        try:
            answer = await self._breaker.call(lambda: self._ask(token))
            identity = _identity(answer, now_s + OPAQUE_TOKEN_LIFETIME_S if expires_at is None else expires_at)
        except CircuitOpenError as error:
            self._count("open")
            raise AuthServiceUnavailableError(retry_after_s=error.retry_after_s) from None
        except AuthenticationError:
            self._count("refused")
            raise
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            ResponseTooLargeError,
            ValueError,
            _RefusedError,
        ) as error:
            self._count("unavailable")
            log.warning("auth_service_failed", error=f"{type(error).__name__}: {error}")
            raise AuthServiceUnavailableError from None
        self._count("ok")
        return identity

    async def _ask(self, token: str) -> dict[str, Any]:
        async with self._http.post(
            self._endpoint,
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            allow_redirects=False,  # a token goes to the configured place or nowhere
        ) as response:
            if response.status in {401, 403}:
                raise AuthenticationError("refused by the authentication service")
            if 400 <= response.status < 500 and response.status not in {408, 429}:
                raise _RefusedError(f"HTTP status {response.status}")
            if response.status != 200:
                raise ValueError(f"HTTP status {response.status}")
            return _answer(await read_bounded(response, MAX_RESPONSE_BYTES))

    def _count(self, status: str) -> None:
        self._metrics.external_service_requests_total.labels("auth", "validate", status).inc()


def _answer(body: bytes) -> dict[str, Any]:
    """The agreed JSON object `{valid, userId}`, or ValueError. Raises AuthenticationError where it says no."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("the answer is not JSON") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("valid"), bool):
        raise ValueError("the answer says neither yes nor no")
    if not answer["valid"]:
        raise AuthenticationError("refused by the authentication service")
    try:
        user_id_from(answer.get("userId"))
    except AuthenticationError:
        # A yes without a user is a fault of the service, not of the token.
        raise ValueError("the answer names no user") from None
    return answer


def _identity(answer: dict[str, Any], expires_at: float) -> Identity:
    scopes = answer["scope"] if "scope" in answer else answer.get("scopes")
    return Identity(user_id_from(answer["userId"]), expires_at, scopes_from(scopes))
