"""The public keys of a token issuer: a JSON Web Key Set (RFC 7517 §5) fetched by HTTP and kept.

PyJWT's own client blocks the event loop, hence this one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import msgspec
import structlog

from session_service.clients.bounded_response import ResponseTooLargeError, read_bounded
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.clients.token_verifier import VerificationKey
from session_service.errors import AuthenticationError, AuthServiceUnavailableError, CircuitOpenError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

FETCH_TIMEOUT_S = 3.0
MAX_RESPONSE_BYTES = 1 << 20
MAX_KEYS = 100
FRESH_S = 300.0  # older keys are fetched again, beside the requests that use them
SETTLED_S = 600.0  # older keys are used only after a fetch was tried: a pod that idled may have missed a withdrawal
STALE_S = 24 * 3600.0  # older keys are not trusted any more: the issuer may have withdrawn one long ago
REFETCH_SPACING_S = 30.0
UNKNOWN_KEY_ID_S = 300.0
MAX_UNKNOWN_KEY_IDS = 1024
MIN_RSA_BITS = 2048  # RFC 7518 §3.3

_CURVES = {"ES256": ("P-256",), "ES384": ("P-384",), "ES512": ("P-521",), "EdDSA": ("Ed25519", "Ed448")}
_PUBLIC_MEMBERS = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}


def usable_keys(document: bytes, algorithm: str) -> tuple[VerificationKey, ...]:
    """The keys of a JWK set that may verify signatures of ``algorithm``. Pure.

    A key for another use, operation, algorithm, key type or curve is passed over, as RFC 7517 §5 asks, and so is one
    that is malformed or too weak; private members are not even read. Raises ValueError where the document is no JWK
    set, or has more than 100 keys.
    """
    try:
        keys = msgspec.json.decode(document)["keys"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        raise ValueError("not a JWK set") from None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError(f"not a JWK set of at most {MAX_KEYS} keys")
    usable = (_usable_key(key, algorithm) for key in keys if isinstance(key, dict))
    return tuple(key for key in usable if key is not None)


def _usable_key(key: dict[str, Any], algorithm: str) -> VerificationKey | None:
    key_type = "RSA" if algorithm.startswith(("RS", "PS")) else "OKP" if algorithm == "EdDSA" else "EC"
    operations = key.get("key_ops", ["verify"])
    key_id = key.get("kid")
    if (
        key.get("kty") != key_type
        or key.get("use", "sig") != "sig"
        or key.get("alg", algorithm) != algorithm
        or not isinstance(operations, list)
        or "verify" not in operations
        or (algorithm in _CURVES and key.get("crv") not in _CURVES[algorithm])
        or not (key_id is None or isinstance(key_id, str))
    ):
        return None
    public = {member: key.get(member) for member in _PUBLIC_MEMBERS[key_type]}
    try:
        material = jwt.PyJWK(public, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    if key_type == "RSA" and material.key_size < MIN_RSA_BITS:
        return None
    return VerificationKey(algorithm, material, key_id)


class JwksKeys:
    """Holds the key set of one issuer and finds the key of a token.

    Keys are fetched at the start, again after 5 minutes of age (requests do not wait for that; after 10 minutes they
    do), and for a key id that is not among them. At most one fetch is under way; two are at least 30 s apart, except
    that while there are no keys the breaker alone sets the pace (1 s, doubling up to 30 s). A failed fetch keeps the
    keys there are, for up to 24 hours after they were fetched. A key id that the issuer does not know is remembered
    for 5 minutes.

    ``clock`` is monotonic. ``on_change()`` is called when the set of keys has changed: what was verified with the old
    ones is no longer sure.
    """

    def __init__(
        self,
        url: str,
        algorithm: str,
        *,
        http: aiohttp.ClientSession,
        metrics: Metrics,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._url = url
        self._algorithm = algorithm
        self._http = http
        self._metrics = metrics
        self._clock = clock
        self._on_change = on_change
        self._breaker = CircuitBreaker(
            "jwks", clock=clock, failure_threshold=1, open_s=1.0, max_open_s=30.0, on_change=metrics.breaker_state
        )
        self._keys: tuple[VerificationKey, ...] = ()
        self._document = b""
        self._fetched_at_s: float | None = None
        self._attempted_at_s: float | None = None
        self._refresh: asyncio.Task[None] | None = None
        self._unknown: OrderedDict[str, float] = OrderedDict()  # key id → until when it is not asked for again

    async def close(self) -> None:
        """Cancel a fetch that is under way, and wait for its end."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait({self._refresh})

    async def find(self, key_id: str | None) -> VerificationKey:
        """The key of a token with this ``kid``; a token without one gets the only key, where there is only one.

        Raises AuthenticationError where the issuer has no such key, AuthServiceUnavailableError while no trustworthy
        keys are there. Waits for a fetch only where the answer depends on it.
        """
        if self._age_s() > STALE_S:
            await self.refresh()
            if self._age_s() > STALE_S:
                raise AuthServiceUnavailableError
        elif self._age_s() > SETTLED_S and self._may_refetch():
            await self.refresh()
        key = self._known(key_id)
        if key is None:
            if key_id is not None and self._unknown.get(key_id, 0.0) > self._clock():
                raise AuthenticationError("unknown key id")
            if self._may_refetch():
                await self.refresh()
                key = self._known(key_id)
                if key is None and key_id is not None:
                    self._remember_unknown(key_id)
        elif self._age_s() > FRESH_S and self._may_refetch():
            self._start_refresh()
        if key is None:
            raise AuthenticationError("unknown key id")
        return key

    async def refresh(self) -> None:
        """Fetch the keys, or wait for the fetch that is under way. Never raises for a fault of the issuer.

        A caller that is cancelled leaves the fetch running for the others.
        """
        await asyncio.wait({self._start_refresh()})

    def _age_s(self) -> float:
        return float("inf") if self._fetched_at_s is None else self._clock() - self._fetched_at_s

    def _may_refetch(self) -> bool:
        if self._refresh is not None:
            return True  # joining one costs the issuer nothing
        return self._attempted_at_s is None or self._clock() - self._attempted_at_s >= REFETCH_SPACING_S

    def _known(self, key_id: str | None) -> VerificationKey | None:
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == key_id), None)

    def _remember_unknown(self, key_id: str) -> None:
        self._unknown[key_id] = self._clock() + UNKNOWN_KEY_ID_S
        self._unknown.move_to_end(key_id)
        if len(self._unknown) > MAX_UNKNOWN_KEY_IDS:
            self._unknown.popitem(last=False)

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._fetch_and_keep(), name="jwks-refresh")
            self._refresh.add_done_callback(self._refresh_ended)
        return self._refresh

    def _refresh_ended(self, _task: asyncio.Task[None]) -> None:
        self._refresh = None

    async def _fetch_and_keep(self) -> None:
        try:
            document, keys = await self._breaker.call(self._fetch)
        except CircuitOpenError:
            return  # not even tried
        except (aiohttp.ClientError, TimeoutError, OSError, ResponseTooLargeError, ValueError) as error:
            self._count("unavailable")
            log.warning("jwks_fetch_failed", error=f"{type(error).__name__}: {error}", keys_kept=len(self._keys))
            return
        self._count("ok")
        self._fetched_at_s = self._clock()
        if document != self._document:
            self._document, self._keys = document, keys
            self._unknown.clear()
            self._on_change()
            log.info("jwks_loaded", keys=len(keys))

    async def _fetch(self) -> tuple[bytes, tuple[VerificationKey, ...]]:
        self._attempted_at_s = self._clock()
        async with self._http.get(
            self._url,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S),
            allow_redirects=False,  # keys come from the configured place or not at all
        ) as response:
            if response.status != 200:
                raise ValueError(f"HTTP status {response.status}")
            document = await read_bounded(response, MAX_RESPONSE_BYTES)
        keys = usable_keys(document, self._algorithm)
        if not keys:
            raise ValueError(f"no usable key for {self._algorithm}")
        return document, keys

    def _count(self, status: str) -> None:
        self._metrics.external_service_requests_total.labels("jwks", "fetch", status).inc()
