"""KubernetesClient: the Kubernetes API, as far as the service uses it, within one namespace.

Plain requests over aiohttp with objects read by msgspec; of ``kubernetes_asyncio`` only what finds the API server and
the credentials (ADR 0023).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec
import structlog
from yarl import URL

from session_service.aiokit.backoff import jittered
from session_service.clients.bounded_response import ResponseTooLargeError, read_bounded
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.clients.kubernetes_access import ApiAccess
from session_service.clients.kubernetes_types import Object, ObjectList, Resource, Status, WatchEvent
from session_service.clients.probed_socket import probed_socket
from session_service.errors import (
    BackendRefusedError,
    BackendUnavailableError,
    CircuitOpenError,
    ConfigurationError,
    KubernetesConflictError,
    KubernetesExpiredError,
    SessionServiceError,
)
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

CALL_LIMIT_S = 10.0  # one call, waits for a throttling server included
CONNECT_LIMIT_S = 3.0
EFFECT_LIMIT_S = 5.0  # the API server gives up a change by then (its parameter `timeout`), whoever still waits for it
THROTTLED_AGAIN_S = 1.0  # where a 429 does not say
MAX_BODY_BYTES = 32 << 20
MAX_EVENT_BYTES = 4 << 20  # etcd keeps objects of up to 1.5 MB
CONNECTIONS = 64
DETAIL_CHARS = 300
ACCESS_AGAIN_S = 10.0  # between two reloads of credentials that were refused

T = TypeVar("T", bound=Object)
R = TypeVar("R")
D = TypeVar("D")

_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, ResponseTooLargeError)
_statuses = msgspec.json.Decoder(Status)
_events = msgspec.json.Decoder(WatchEvent)


class _ThrottledError(Exception):
    """429: the server is well, and asks for patience."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("throttled")
        self.retry_after_s = retry_after_s


class KubernetesClient:
    """Calls of one namespace. ``load_access`` is asked at ``start``, and again where credentials were refused.

    Every call but ``watch`` takes at most ``CALL_LIMIT_S`` and is made once; a 429 is waited for within that, as its
    Retry-After says. Errors: BackendUnavailableError (no answer, 5xx, 401, throttled for too long: a change may or
    may not have been made), its child BackendRefusedError (it will not be done, however often it is asked),
    KubernetesConflictError (409), KubernetesExpiredError (410). Cancelling a call leaves its effect unknown.
    """

    def __init__(
        self,
        namespace: str,
        *,
        load_access: Callable[[], Awaitable[ApiAccess]],
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.namespace = namespace
        self._load_access = load_access
        self._metrics = metrics
        self._clock = clock
        self._access: ApiAccess
        self._loaded_at_s = 0.0
        self._http: aiohttp.ClientSession | None = None
        self._breaker = CircuitBreaker(
            "kubernetes",
            clock=clock,
            max_open_s=10.0,
            is_failure=lambda error: (
                isinstance(error, BackendUnavailableError) and not isinstance(error, BackendRefusedError)
            ),
            on_change=metrics.breaker_state,
        )

    async def start(self) -> None:
        """Find the API server and the credentials; nothing is called. Raises ConfigurationError."""
        await self._load()
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, socket_factory=probed_socket),
            headers={"Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def get(self, resource: Resource[T], name: str) -> T | None:
        """The object as it is now; None where there is none."""
        body = await self._call("get", resource, name)
        return None if body is None else _decoded(resource.item, body)

    async def list_page(
        self, resource: Resource[T], label_selector: str, *, limit: int, continue_from: str = ""
    ) -> ObjectList[T]:
        """At most ``limit`` objects, and the token of the next page. Raises KubernetesExpiredError for an old one."""
        query = {"labelSelector": label_selector, "limit": str(limit)}
        if continue_from:
            query["continue"] = continue_from
        body = await self._call("list", resource, query=query)
        if body is None:
            raise BackendRefusedError("NotFound", f"no {resource.plural} in namespace {self.namespace}")
        return _decoded(resource.page, body)

    async def create(self, resource: Resource[T], manifest: Mapping[str, Any]) -> T:
        """Raises KubernetesConflictError where the name is taken."""
        query = {"timeout": f"{EFFECT_LIMIT_S:g}s"}
        body = await self._call("create", resource, query=query, body=msgspec.json.encode(manifest))
        if body is None:
            raise BackendRefusedError("NotFound", f"there is no namespace {self.namespace}")
        return _decoded(resource.item, body)

    async def patch(self, resource: Resource[T], name: str, changes: Mapping[str, Any]) -> bool:
        """Merge these changes into it (RFC 7396). False: there is none.

        Raises BackendRefusedError ``Invalid`` where they name another uid than its own.
        """
        query = {"timeout": f"{EFFECT_LIMIT_S:g}s"}
        return await self._call("patch", resource, name, query=query, body=msgspec.json.encode(changes)) is not None

    async def delete(self, resource: Resource[T], name: str, *, uid: str) -> bool:
        """Have it removed after all that it owns (foreground), if it is this one. False: there is none.

        Raises KubernetesConflictError where another one stands under its name.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        query = {"timeout": f"{EFFECT_LIMIT_S:g}s"}
        return await self._call("delete", resource, name, query=query, body=msgspec.json.encode(options)) is not None

    async def watch(
        self,
        resource: Resource[T],
        label_selector: str,
        resource_version: str,
        *,
        timeout_s: float,
        silence_limit_s: float,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Events after ``resource_version``, bookmarks included, until the server ends it after about ``timeout_s``.

        Raises KubernetesExpiredError where the version is too old, BackendUnavailableError where nothing was heard
        for ``silence_limit_s``. An event of type ERROR is handed on. Not behind the circuit breaker: whoever watches
        has a back-off of its own.
        """
        query = {
            "watch": "1",
            "labelSelector": label_selector,
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(timeout_s))),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S, sock_read=silence_limit_s)
        operation = f"watch_{resource.plural}"
        try:
            async with await self._counted(
                operation, lambda: self._opened("GET", resource.path(self.namespace), query, None, timeout)
            ) as response:
                async for line in _lines(response):
                    yield _decoded(_events, line)
        except _ThrottledError as error:
            raise _throttled(error) from None
        except _NO_ANSWER as error:
            raise BackendUnavailableError(f"{type(error).__name__}: {error}") from None

    async def _call(
        self,
        verb: str,
        resource: Resource[T],
        name: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> bytes | None:
        """The body of a success; None for 404."""
        method = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}[verb]
        path = resource.path(self.namespace, name)
        operation = f"{verb}_{resource.plural}"
        deadline_s = self._clock() + CALL_LIMIT_S
        while True:
            left_s = deadline_s - self._clock()
            timeout = aiohttp.ClientTimeout(total=left_s, connect=min(CONNECT_LIMIT_S, left_s))
            try:
                return await self._counted(
                    operation,
                    lambda timeout=timeout: self._breaker.call(  # type: ignore[misc] # its default is its value
                        lambda: self._exchange(method, path, query, body, timeout)
                    ),
                )
            except _ThrottledError as error:
                wait_s = jittered(error.retry_after_s * 1.1, 0.1, random.random)
                if self._clock() + wait_s >= deadline_s:
                    raise _throttled(error) from None
                await asyncio.sleep(wait_s)
            except CircuitOpenError as error:
                raise BackendUnavailableError(
                    f"not asked for {error.retry_after_s} s, since it failed", retry_after_s=error.retry_after_s
                ) from None

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        timeout: aiohttp.ClientTimeout,
    ) -> bytes | None:
        try:
            response = await self._opened(method, path, query, body, timeout)
            async with response:
                return None if response.status == 404 else await read_bounded(response, MAX_BODY_BYTES)
        except _NO_ANSWER as error:
            raise BackendUnavailableError(f"{type(error).__name__}: {error}") from None

    async def _opened(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """An answer that is a success or 404, its body yet to be read. Raises the error that any other one means."""
        assert self._http is not None  # noqa: S101 - `start` comes first
        access = self._access
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        authorization = await access.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        response = await self._http.request(
            method,
            URL(access.url + path, encoded=True).with_query(query),
            data=body,
            headers=headers,
            timeout=timeout,
            ssl=access.tls if access.tls is not None else True,
            server_hostname=access.server_hostname,
            proxy=access.proxy,
            allow_redirects=False,  # credentials go to the configured place or nowhere
        )
        if response.status in {200, 201, 202, 404}:
            return response
        async with response:
            error = _error(response, await read_bounded(response, MAX_BODY_BYTES))
        if response.status == 401 and self._clock() - self._loaded_at_s > ACCESS_AGAIN_S:
            await self._load_again()
        raise error

    async def _counted(self, operation: str, call: Callable[[], Awaitable[R]]) -> R:
        try:
            answer = await call()
        except (SessionServiceError, _ThrottledError) as error:
            self._count(operation, _OUTCOMES.get(type(error), "unavailable"))
            raise
        except _NO_ANSWER:
            self._count(operation, "unavailable")
            raise
        self._count(operation, "ok")
        return answer

    def _count(self, operation: str, status: str) -> None:
        self._metrics.external_service_requests_total.labels("kubernetes", operation, status).inc()

    async def _load_again(self) -> None:
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                await self._load()
        except (ConfigurationError, TimeoutError) as error:
            log.warning("kubernetes_credentials_not_loaded", error=f"{type(error).__name__}: {error}")

    async def _load(self) -> None:
        self._loaded_at_s = self._clock()
        self._access = await self._load_access()


_OUTCOMES = {
    BackendRefusedError: "refused",
    KubernetesConflictError: "conflict",
    KubernetesExpiredError: "expired",
    CircuitOpenError: "open",
    _ThrottledError: "throttled",
}


def _error(response: aiohttp.ClientResponse, body: bytes) -> Exception:
    """What an answer means that is neither a success nor 404."""
    try:
        status = _statuses.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = Status()
    reason = status.reason or f"HTTP {response.status}"
    detail = f"{reason}: {status.message}"[:DETAIL_CHARS]
    match response.status:
        case 409:
            return KubernetesConflictError(reason, detail)
        case 410:
            return KubernetesExpiredError(detail)
        case 429:
            return _ThrottledError(_retry_after_s(response, status))
        case 400 | 403 | 405 | 413 | 415 | 422:
            return BackendRefusedError(reason, detail)
    return BackendUnavailableError(detail)


def _throttled(error: _ThrottledError) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"throttled for {error.retry_after_s:g} s", retry_after_s=max(1, math.ceil(error.retry_after_s))
    )


def _retry_after_s(response: aiohttp.ClientResponse, status: Status) -> float:
    """The header's seconds, else the body's. RFC 9110 §10.2.3 has dates too; API servers send seconds."""
    header = response.headers.get("Retry-After", "")
    if header.isascii() and header.isdigit():
        return float(header)
    if status.details is not None and status.details.retry_after_seconds:
        return float(status.details.retry_after_seconds)
    return THROTTLED_AGAIN_S


def _decoded(decoder: msgspec.json.Decoder[D], body: bytes) -> D:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendUnavailableError(f"the answer is no object of the API: {error}") from None


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The stream's lines: an event each."""
    begun = bytearray()
    async for chunk in response.content.iter_any():
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            line = bytes(begun + part)
            begun.clear()
            if line:
                yield line
        begun += rest
        if len(begun) > MAX_EVENT_BYTES:
            raise BackendUnavailableError(f"an event of more than {MAX_EVENT_BYTES} bytes")
