"""The REST calls of a client (docs/rest.md), over one or several base URLs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp

from session_service_client.access_token import TokenSource
from session_service_client.backoff import DecorrelatedJitter
from session_service_client.endpoints import Endpoints
from session_service_client.errors import ServiceError, TransportError

T = TypeVar("T")

TRY_LIMIT_S = 5.0  # one try on one URL; the service's own longest answer takes 3 s
MIN_TRY_LIMIT_S = 0.1
# The pod refused before it looked at the call: repeating it elsewhere is safe, whatever it asks for.
_NOT_TAKEN = frozenset({"POD_TERMINATING", "OVERLOADED"})


@dataclass(frozen=True, slots=True)
class OpenedSession:
    session_id: str
    is_new: bool
    status: str
    expires_at: str  # RFC 3339, as all instants here
    pod_name: str


@dataclass(frozen=True, slots=True)
class Session:
    """``fields``: the whole session object, metadata included, snake_case as the service writes it."""

    session_id: str
    user_id: str
    status: str
    created_at: str
    last_active: str
    expires_at: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StartedSimulator:
    """``simulator_id`` None: the service did not say."""

    simulator_id: str | None
    status: str


@dataclass(frozen=True, slots=True)
class Simulator:
    simulator_id: str
    session_id: str
    status: str
    reason: str | None
    created_at: str
    last_active: str
    initial_symbols: tuple[str, ...]
    initial_cash: float
    uptime_seconds: int


@dataclass(frozen=True, slots=True)
class Order:
    """``status`` is ``REJECTED`` where the exchange refused it; ``reason`` says why. Rejection is no exception."""

    order_id: str
    status: str
    filled_quantity: int
    average_price: float
    symbol: str | None
    reason: str | None

    @property
    def rejected(self) -> bool:
        return self.status == "REJECTED"


class RestClient:
    """Calls that are repeated on the next URL where that is safe, until ``timeout_s`` has passed.

    Safe are GETs, calls that the service knows again (sessions by device, orders by ``requestId``), and every call
    that was not taken. Each raises ServiceError for an answer that is no success, TransportError where none came.
    Cancelling a call leaves open whether it was carried out.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        endpoints: Endpoints,
        token: TokenSource,
        *,
        timeout_s: float,
        random: Callable[[], float],
    ) -> None:
        self._http = http
        self._endpoints = endpoints
        self._token = token
        self._timeout_s = timeout_s
        self._random = random

    def __repr__(self) -> str:
        return f"RestClient({', '.join(self._endpoints)})"

    # --- sessions ------------------------------------------------------------------------------------------

    async def open_session(self, device_id: str) -> OpenedSession:
        body = {"deviceId": device_id}
        return await self._call(_opened_session, "POST", "/api/sessions", body=body, repeatable=True)

    async def list_sessions(self) -> tuple[Session, ...]:
        return await self._call(_sessions, "GET", "/api/sessions", repeatable=True)

    async def get_session(self, session_id: str) -> Session:
        return await self._call(_session, "GET", f"/api/sessions/{_part(session_id)}", repeatable=True)

    async def keepalive(self, session_id: str) -> str:
        """The new ``expiresAt``."""
        path = f"/api/sessions/{_part(session_id)}/keepalive"
        return await self._call(lambda answer: str(answer["expiresAt"]), "POST", path, repeatable=True)

    async def reconnect(self, session_id: str, device_id: str, attempt: int) -> Session:
        body = {"deviceId": device_id, "attempt": attempt}
        path = f"/api/sessions/{_part(session_id)}/reconnect"
        return await self._call(_session, "POST", path, body=body, repeatable=True)

    async def end_session(self, session_id: str) -> bool:
        """Whether its simulator was stopped. Not repeated: where no answer came, a second call may get a 404."""
        path = f"/api/sessions/{_part(session_id)}"
        return await self._call(lambda answer: bool(answer["simulatorStopped"]), "DELETE", path)

    async def end_sessions(self, device_id: str | None = None) -> tuple[str, ...]:
        """End the session of this device, or all of the user's; the ids of those that there were."""
        query = {} if device_id is None else {"deviceId": device_id}
        return await self._call(
            lambda answer: tuple(answer["sessionIds"]), "DELETE", "/api/sessions", query=query, repeatable=True
        )

    # --- simulators ----------------------------------------------------------------------------------------

    async def start_simulator(
        self,
        session_id: str | None = None,
        *,
        initial_symbols: Sequence[str] | None = None,
        initial_cash: float | None = None,
    ) -> StartedSimulator:
        """Start one, or find the live one. Without ``session_id``: that of the user's only session."""
        body = start_fields(initial_symbols, initial_cash)
        if session_id is not None:
            body["sessionId"] = session_id
        return await self._call(read_started, "POST", "/api/simulators", body=body, repeatable=True)

    async def find_simulator(self, session_id: str) -> Simulator | None:
        """The session's simulator; None where it has none."""
        query = {"sessionId": session_id}
        return await self._call(_found_simulator, "GET", "/api/simulators", query=query, repeatable=True)

    async def get_simulator(self, simulator_id: str) -> Simulator:
        path = f"/api/simulators/{_part(simulator_id)}"
        return await self._call(lambda answer: _simulator(answer["simulator"]), "GET", path, repeatable=True)

    async def stop_simulator(self, simulator_id: str) -> str:
        """Its status from now on."""
        path = f"/api/simulators/{_part(simulator_id)}"
        return await self._call(lambda answer: str(answer["status"]), "DELETE", path, repeatable=True)

    # --- orders --------------------------------------------------------------------------------------------

    async def submit_order(
        self,
        simulator_id: str,
        *,
        symbol: str,
        side: str,
        quantity: int,
        order_type: str = "MARKET",
        price: float | None = None,
        request_id: str | None = None,
    ) -> Order:
        """``request_id`` (1–64 characters): one is made where none is given; the same one places no second order."""
        body = order_fields(symbol, side, quantity, order_type, price)
        body["requestId"] = request_id or uuid.uuid4().hex
        path = f"/api/simulators/{_part(simulator_id)}/orders"
        return await self._call(read_order, "POST", path, body=body, repeatable=True)

    async def list_orders(self, simulator_id: str) -> tuple[Order, ...]:
        """Open ones first."""
        path = f"/api/simulators/{_part(simulator_id)}/orders"
        return await self._call(
            lambda answer: tuple(read_order(one) for one in answer["orders"]), "GET", path, repeatable=True
        )

    async def get_order(self, simulator_id: str, order_id: str) -> Order:
        path = f"/api/simulators/{_part(simulator_id)}/orders/{_part(order_id)}"
        return await self._call(read_order, "GET", path, repeatable=True)

    async def cancel_order(self, simulator_id: str, order_id: str) -> Order:
        """Not repeated where it may have been carried out: a second cancellation is refused."""
        path = f"/api/simulators/{_part(simulator_id)}/orders/{_part(order_id)}"
        return await self._call(read_order, "DELETE", path)

    # --- the call ------------------------------------------------------------------------------------------

    async def _call(
        self,
        read: Callable[[Mapping[str, Any]], T],
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> T:
        """``read`` makes the answer's type of its JSON object; what it does not find is an error of the answer."""
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + self._timeout_s
        pauses = DecorrelatedJitter(self._random, first_s=0.1, base_s=0.2, cap_s=2.0, short=len(self._endpoints))
        data = None if body is None else json.dumps(body).encode()
        while True:
            url, wait_s = self._endpoints.choose(clock())
            await asyncio.sleep(min(wait_s, max(0.0, deadline_s - clock())))
            failure: ServiceError | TransportError
            limit_s = min(TRY_LIMIT_S, max(MIN_TRY_LIMIT_S, deadline_s - clock()))
            try:
                return read(await self._try(method, url + path, data, query, limit_s))
            except (KeyError, TypeError, AttributeError):
                raise ServiceError("UNKNOWN", f"an answer of another shape to {method} {path}") from None
            except ServiceError as error:
                if error.status != 503:
                    raise
                failure, again = error, repeatable or error.code in _NOT_TAKEN
                not_before_s = clock() + (error.retry_after_s or 0.0)
            except TransportError as error:
                failure, again, not_before_s = error, repeatable or not error.sent, 0.0
            self._endpoints.leave(url, not_before_s=not_before_s)
            pause_s = pauses.next_s()
            if not again or clock() + pause_s + self._endpoints.choose(clock())[1] >= deadline_s:
                raise failure
            await asyncio.sleep(pause_s)

    async def _try(
        self, method: str, url: str, data: bytes | None, query: Mapping[str, str] | None, limit_s: float
    ) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer {await self._token.get()}"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self._http.request(
                method,
                url,
                params=query,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=limit_s),
                allow_redirects=False,
            ) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = transport_error(error)
        else:
            return _answer(status, retry_after, text)
        raise failure  # outside the handler: the library's error holds the request's headers


def transport_error(error: Exception) -> TransportError:
    """An error of the HTTP library in words that hold no header."""
    sent = not isinstance(error, aiohttp.ClientConnectorError)
    words = str(error) if isinstance(error, aiohttp.ClientConnectorError | OSError) else ""
    return TransportError(f"{type(error).__name__}: {words}" if words else type(error).__name__, sent=sent)


def retry_after_s(value: str | None) -> float | None:
    """RFC 9110 §10.2.3, in seconds; a date is passed over, since the service writes none."""
    return float(value) if value is not None and value.isascii() and value.isdigit() else None


def start_fields(initial_symbols: Sequence[str] | None, initial_cash: float | None) -> dict[str, Any]:
    """The optional fields of a start, those that are given."""
    fields = {
        "initialSymbols": None if initial_symbols is None else list(initial_symbols),
        "initialCash": initial_cash,
    }
    return {name: value for name, value in fields.items() if value is not None}


def order_fields(symbol: str, side: str, quantity: int, order_type: str, price: float | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"symbol": symbol, "side": side, "quantity": quantity, "orderType": order_type}
    if price is not None:
        fields["price"] = price
    return fields


def read_order(answer: Mapping[str, Any]) -> Order:
    return Order(
        answer["orderId"],
        answer["status"],
        answer.get("filledQuantity", 0),
        answer.get("averagePrice", 0.0),
        answer.get("symbol"),
        answer.get("reason"),
    )


def _answer(status: int, retry_after: str | None, text: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        if 200 <= status < 300:
            return content
        if isinstance(content.get("code"), str):
            code, message = content["code"], str(content.get("error", ""))
            raise ServiceError(code, message, status=status, retry_after_s=retry_after_s(retry_after))
    raise ServiceError(
        "UNKNOWN",
        f"HTTP {status} without an answer of the service",
        status=status,
        retry_after_s=retry_after_s(retry_after),
    )


def _part(text: str) -> str:
    """An id as a part of a path."""
    return quote(text, safe="")


def read_started(answer: Mapping[str, Any]) -> StartedSimulator:
    return StartedSimulator(answer.get("simulatorId"), answer["status"])


def _opened_session(answer: Mapping[str, Any]) -> OpenedSession:
    return OpenedSession(
        answer["sessionId"], answer["isNew"], answer["status"], answer["expiresAt"], answer["podName"]
    )


def _sessions(answer: Mapping[str, Any]) -> tuple[Session, ...]:
    return tuple(_session({"session": one}) for one in answer["sessions"])


def _session(answer: Mapping[str, Any]) -> Session:
    one = answer["session"]
    return Session(
        one["session_id"],
        one["user_id"],
        one["status"],
        one["created_at"],
        one["last_active"],
        one["expires_at"],
        one,
    )


def _found_simulator(answer: Mapping[str, Any]) -> Simulator | None:
    return None if answer["simulator"] is None else _simulator(answer["simulator"])


def _simulator(one: Mapping[str, Any]) -> Simulator:
    return Simulator(
        one["simulatorId"],
        one["sessionId"],
        one["status"],
        one["reason"],
        one["createdAt"],
        one["lastActive"],
        tuple(one["initialSymbols"]),
        one["initialCash"],
        one["uptimeSeconds"],
    )
