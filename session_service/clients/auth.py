"""AuthClient: who is calling, from a bearer token (docs/authentication.md)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Protocol

import aiohttp
import structlog

from session_service.clients.auth_service import AuthService
from session_service.clients.jwks import JwksKeys
from session_service.clients.token_verifier import (
    MAX_TOKEN_BYTES,
    ClaimRules,
    UnverifiedToken,
    claims_of,
    hmac_key,
    identity_from_claims,
    parse,
    verify_signature,
)
from session_service.clients.verdicts import VerdictCache, digest
from session_service.config import MINIMUM_SECRET_BYTES, AuthMode, AuthSettings
from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError, AuthServiceUnavailableError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

VERDICT_LIFETIME_S = 60.0
REFUSAL_LIFETIME_S = 5.0  # of the authentication service's refusals only: checking a signature again is cheap
CACHED_TOKENS = 20_000
CACHED_REFUSALS = 5_000


class _Verifier(Protocol):
    """One AUTH_MODE."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def verify(self, token: str, key: bytes, now_s: float) -> Identity:
        """``key`` is the token's digest. Raises AuthenticationError, AuthServiceUnavailableError."""
        ...


class AuthClient:
    """Verifies bearer tokens by the configured mode.

    A verified token is trusted without a further look for at most 60 s, and never beyond its ``exp``. ``now`` gives
    Unix seconds, ``clock`` monotonic ones. Between ``start`` and ``close`` only; not thread-safe.
    """

    def __init__(
        self,
        settings: AuthSettings,
        *,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._verified: VerdictCache[Identity] = VerdictCache(CACHED_TOKENS)
        self._verifier: _Verifier
        match settings.mode:
            case AuthMode.JWT:
                self._verifier = _SecretVerifier(settings)
            case AuthMode.JWKS:
                self._verifier = _JwksVerifier(settings, metrics, clock, on_change=self._verified.clear)
            case AuthMode.SERVICE:
                self._verifier = _ServiceVerifier(settings, metrics, clock)

    async def start(self) -> None:
        """Open connections, and load the keys in mode jwks (a failure is logged, not raised; at most 3 s)."""
        await self._verifier.start()

    async def close(self) -> None:
        """End requests that are under way; their callers get AuthServiceUnavailableError."""
        await self._verifier.close()

    def validate_cached(self, token: str) -> Identity | None:
        """The identity of a token that was verified less than 60 s ago, without waiting; None says nothing."""
        return self._verified.get(digest(token), self._now())

    async def validate(self, token: str) -> Identity:
        """The verified identity of ``token``.

        Raises AuthenticationError for whatever is wrong with the token, AuthServiceUnavailableError where that cannot
        be found out right now. At most 3 s. Cancelling one caller does not disturb others that ask the same.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise AuthenticationError("token too long")
        key, now_s = digest(token), self._now()
        identity = self._verified.get(key, now_s)
        if identity is None:
            identity = await self._verifier.verify(token, key, now_s)
            # Its age counts from before the question was asked.
            self._verified.put(key, identity, now_s, min(now_s + VERDICT_LIFETIME_S, identity.expires_at))
        return identity


def _claim_rules(settings: AuthSettings) -> ClaimRules:
    return ClaimRules(user_claim=settings.user_claim, issuer=settings.issuer, audience=settings.audience)


class _SecretVerifier:
    """Mode jwt: the shared secret, and the previous one during a rotation."""

    def __init__(self, settings: AuthSettings) -> None:
        self._algorithm = settings.algorithm
        self._rules = _claim_rules(settings)
        configured = [secret for secret in (settings.secret_key, settings.secret_key_previous) if secret]
        if not settings.secret_key:
            log.warning("secret_key_absent", effect="a random one is used: only tokens signed by this process count")
            configured.insert(0, secrets.token_hex(MINIMUM_SECRET_BYTES))
        elif any(len(secret.encode()) < MINIMUM_SECRET_BYTES for secret in configured):
            log.warning("secret_key_weak", must_be=f"at least {MINIMUM_SECRET_BYTES} bytes")
        self._keys = [hmac_key(secret, settings.algorithm) for secret in configured]

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def verify(self, token: str, key: bytes, now_s: float) -> Identity:
        parsed = parse(token)
        verify_signature(parsed, self._algorithm, self._keys)
        return identity_from_claims(claims_of(parsed), self._rules, now_s)


class _JwksVerifier:
    """Mode jwks: the issuer's public keys."""

    def __init__(
        self,
        settings: AuthSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._rules = _claim_rules(settings)
        self._metrics = metrics
        self._clock = clock
        self._on_change = on_change
        self._http: aiohttp.ClientSession
        self._keys: JwksKeys

    async def start(self) -> None:
        self._http = _http_session()
        self._keys = JwksKeys(
            self._settings.jwks_url or "",
            self._settings.algorithm,
            http=self._http,
            metrics=self._metrics,
            clock=self._clock,
            on_change=self._on_change,
        )
        await self._keys.refresh()

    async def close(self) -> None:
        await self._keys.close()
        await self._http.close()

    async def verify(self, token: str, key: bytes, now_s: float) -> Identity:
        parsed: UnverifiedToken = parse(token)
        if parsed.header.algorithm != self._settings.algorithm:
            # Before the key is looked for: a fetch is not worth it.
            raise AuthenticationError("another algorithm than the configured one")
        found = await self._keys.find(parsed.header.key_id)
        verify_signature(parsed, self._settings.algorithm, [found])
        return identity_from_claims(claims_of(parsed), self._rules, now_s)


class _ServiceVerifier:
    """Mode service: the authentication service is asked once for all who ask about the same token at a time."""

    def __init__(self, settings: AuthSettings, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._url = settings.service_url or ""
        self._metrics = metrics
        self._clock = clock
        self._http: aiohttp.ClientSession
        self._service: AuthService
        self._refused: VerdictCache[str] = VerdictCache(CACHED_REFUSALS)
        self._asking: dict[bytes, asyncio.Task[Identity]] = {}

    async def start(self) -> None:
        self._http = _http_session()
        self._service = AuthService(self._url, http=self._http, metrics=self._metrics, clock=self._clock)

    async def close(self) -> None:
        tasks = set(self._asking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._http.close()

    async def verify(self, token: str, key: bytes, now_s: float) -> Identity:
        reason = self._refused.get(key, now_s)
        if reason is not None:
            raise AuthenticationError(reason)
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._service.validate(token, now_s), name="auth-validate")
            self._asking[key] = asking
            asking.add_done_callback(lambda task: self._answered(key, now_s, task))
        # Unlike awaiting it, this leaves the question to the other callers where this one is cancelled.
        await asyncio.wait({asking})
        if asking.cancelled():  # by `close`
            raise AuthServiceUnavailableError
        return asking.result()

    def _answered(self, key: bytes, now_s: float, task: asyncio.Task[Identity]) -> None:
        del self._asking[key]
        # Reading the error also tells asyncio that it was seen, should every caller have gone.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AuthenticationError):
            self._refused.put(key, error.reason, now_s, now_s + REFUSAL_LIFETIME_S)


def _http_session() -> aiohttp.ClientSession:
    """Without cookies, and without decompression: answers are small, and must stay so."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
