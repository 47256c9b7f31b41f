"""SessionClient: a user's session on a device, live."""

from __future__ import annotations

import asyncio
import json
import logging
import random as random_module
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from session_service_client.access_token import TokenGetter, TokenSource
from session_service_client.commands import Commands
from session_service_client.connection import ClientIdentity, EventSink, LiveConnection, Timing
from session_service_client.endpoints import Endpoints
from session_service_client.errors import CommandTimeoutError, ConnectionEndedError, TransportError
from session_service_client.event_queue import EventQueue
from session_service_client.events import Connected, Event, Position
from session_service_client.exchange_view import ExchangeView
from session_service_client.rest import (
    Order,
    RestClient,
    StartedSimulator,
    order_fields,
    read_order,
    read_started,
    start_fields,
)
from session_service_client.statistics import Statistics

MAX_MESSAGE_BYTES = 65_536  # docs/protocol.md: a larger one would end the connection
CLIENT_CLOSED = "CLIENT_CLOSED"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    session_id: str
    user_id: str
    status: str
    device_id: str | None
    created_at: str
    expires_at: str
    simulator_id: str | None
    simulator_status: str


class _Callback:
    """Events to a function, at once; nothing waits."""

    full = False

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.put = on_event

    async def room(self) -> None:
        return


class SessionClient:
    """``async with SessionClient(url, token=…, device_id=…) as client:`` is connected, and stays so.

    - ``urls``: one base URL, or several (pods), the first preferred at first.
    - ``token``: a JWT as text, or an async callable, asked for each connection, each REST call and before the token's
      expiry; it should cache.
    - ``session_id``: None takes the session of (user, device), which is made if there is none.
    - ``client_id``: one for this client's life; made where none is given.
    - ``symbols``: exchange data of these only; empty means all.
    - ``http``: a session of the caller's, which stays open; for many clients, one whose connector has no limit.
    - ``on_event``: called with each event as it comes, in the place of ``events()``; it must not block, and what it
      raises ends the connection.

    Times are in seconds. Entering raises ConnectionEndedError where the service refuses for good, TransportError
    where no connection was made within ``connect_timeout_s``. Leaving closes with 1000 and leaves no task behind.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        token: str | TokenGetter,
        device_id: str,
        session_id: str | None = None,
        client_id: str | None = None,
        symbols: Sequence[str] = (),
        http: aiohttp.ClientSession | None = None,
        on_event: Callable[[Event], None] | None = None,
        connect_timeout_s: float = 30.0,
        open_timeout_s: float = 5.0,
        silence_limit_s: float = 5.0,
        command_timeout_s: float = 10.0,
        rest_timeout_s: float = 10.0,
        max_pause_s: float = 10.0,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self.statistics = Statistics()
        self.view = ExchangeView()
        self.client_id = client_id or uuid.uuid4().hex
        self.device_id = device_id
        self._urls = (urls,) if isinstance(urls, str) else tuple(urls)
        self._tokens = TokenSource(token)
        self._session_id = session_id
        self._symbols = tuple(symbols)
        self._given_http = http
        self._own_http: aiohttp.ClientSession | None = None
        self._connect_timeout_s = connect_timeout_s
        self._command_timeout_s = command_timeout_s
        self._rest_timeout_s = rest_timeout_s
        self._timing = Timing(open_timeout_s, max_pause_s, silence_limit_s)
        self._random = random
        self._commands = Commands()
        self._queue: EventQueue | None = None
        self._sink: EventSink
        if on_event is None:
            self._sink = self._queue = EventQueue()
        else:
            self._sink = _Callback(on_event)
        self._rest: RestClient | None = None
        self._connection: LiveConnection | None = None
        self._running: asyncio.Task[None] | None = None
        self._end: ConnectionEndedError | None = None
        self._ended: asyncio.Future[ConnectionEndedError]

    def __repr__(self) -> str:
        return f"SessionClient({', '.join(self._urls)}, device_id={self.device_id!r}, client_id={self.client_id!r})"

    # --- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._running is not None or self._end is not None:
            raise RuntimeError("a SessionClient is entered once")
        self._ended = asyncio.get_running_loop().create_future()
        http = self._given_http
        if http is None:
            http = self._own_http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._rest = RestClient(
            http, Endpoints(self._urls), self._tokens, timeout_s=self._rest_timeout_s, random=self._random
        )
        self._connection = LiveConnection(
            http,
            Endpoints(self._urls),
            self._tokens,
            self._rest,
            ClientIdentity(self.device_id, self.client_id),
            self._timing,
            session_id=self._session_id,
            symbols=self._symbols,
            view=self.view,
            commands=self._commands,
            statistics=self.statistics,
            sink=self._sink,
            random=self._random,
        )
        self._running = asyncio.create_task(self._run(self._connection), name=f"session-client-{self.client_id}")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._connection.connected_once.wait()
        except TimeoutError:
            await self.close()
            raise TransportError(f"no connection within {self._connect_timeout_s:g} s") from None
        except BaseException:
            await self.close()
            raise
        error = self.end
        if error is not None:
            await self.close()
            raise error
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave with 1000. Commands that wait raise ConnectionEndedError (``CLIENT_CLOSED``). Idempotent."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._connection is not None:
            await self._connection.close()
        if self._own_http is not None:
            await self._own_http.close()
        if self._end is None:
            self._finish(ConnectionEndedError(CLIENT_CLOSED, "the client was closed"))

    async def _run(self, connection: LiveConnection) -> None:
        try:
            await connection.run()
        except ConnectionEndedError as error:
            self._finish(error)
        except Exception as error:  # noqa: BLE001 # a fault of ours, or the user's `on_event`: said to everyone who waits
            _log.exception("the live connection of %r failed", self)
            ended = ConnectionEndedError("CLIENT_ERROR", type(error).__name__)
            ended.__cause__ = error
            self._finish(ended)

    def _finish(self, error: ConnectionEndedError) -> None:
        self._end = error
        if not self._ended.done():
            self._ended.set_result(error)
        self._commands.fail(error)
        if self._queue is not None:
            self._queue.close()
        if self._connection is not None:
            self._connection.connected_once.set()

    # --- what there is -------------------------------------------------------------------------------------

    @property
    def rest(self) -> RestClient:
        """The REST calls, over the same URLs and token. Only while the client is entered."""
        if self._rest is None:
            raise RuntimeError("a SessionClient is used within `async with`")
        return self._rest

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.connected

    @property
    def connection(self) -> Connected | None:
        """What the service said when the present (or last) socket was opened."""
        return None if self._connection is None else self._connection.last_connected

    @property
    def session_id(self) -> str | None:
        return self._session_id if self._connection is None else self._connection.session_id

    @property
    def position(self) -> Position | None:
        return self.view.position

    @property
    def end(self) -> ConnectionEndedError | None:
        """Why there is no connection any more; None while there is one, or will be again."""
        return None if self._end is None else _again(self._end)

    async def wait_ended(self) -> ConnectionEndedError:
        """Wait until the connection is over for good; why."""
        return _again(await asyncio.shield(self._ended))

    async def events(self) -> AsyncIterator[Event]:
        """Everything since the client was entered, in order (event_queue says what is merged for a slow reader).

        Ends when the client is closed; raises ConnectionEndedError when the connection is over for another reason,
        once everything before it was taken. One iteration at a time.
        """
        if self._queue is None:
            raise RuntimeError("this client gives its events to `on_event`")
        while (event := await self._queue.get()) is not None:
            yield event
        if self._end is not None and self._end.code != CLIENT_CLOSED:
            raise _again(self._end)

    def drop_connection(self) -> None:
        """Lose the present socket as a network does, without a close frame: to try what happens then."""
        if self._connection is not None:
            self._connection.cut()

    # --- commands ------------------------------------------------------------------------------------------

    async def start_simulator(
        self,
        *,
        initial_symbols: Sequence[str] | None = None,
        initial_cash: float | None = None,
        timeout_s: float | None = None,
    ) -> StartedSimulator:
        """Start one, or find the live one. ``RUNNING`` is told by an event."""
        fields = start_fields(initial_symbols, initial_cash)
        return read_started(await self.command("start_simulator", fields, timeout_s=timeout_s))

    async def stop_simulator(self, *, timeout_s: float | None = None) -> str:
        """Its status from now on."""
        answer = await self.command("stop_simulator", {}, timeout_s=timeout_s)
        return str(answer["status"])

    async def subscribe(self, symbols: Sequence[str], *, timeout_s: float | None = None) -> None:
        """Exchange data of these symbols only; none means all. A snapshot follows; later sockets ask for the same."""
        await self.command("subscribe", {"symbols": list(symbols)}, timeout_s=timeout_s)
        if self._connection is not None:
            self._connection.symbols = tuple(symbols)

    async def submit_order(
        self,
        symbol: str,
        side: str,
        quantity: int,
        *,
        order_type: str = "MARKET",
        price: float | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """Placed once, over however many sockets it is sent: give ``request_id`` again after a CommandTimeoutError.

        A rejected order is answered, not raised: ``order.rejected``.
        """
        fields = order_fields(symbol, side, quantity, order_type, price)
        return read_order(await self.command("submit_order", fields, request_id=request_id, timeout_s=timeout_s))

    async def cancel_order(self, order_id: str, *, timeout_s: float | None = None) -> Order:
        """Sent again after a lost connection: ``ORDER_NOT_CANCELABLE`` may then mean that the first one did it."""
        return read_order(await self.command("cancel_order", {"orderId": order_id}, timeout_s=timeout_s))

    async def refresh(self, *, timeout_s: float | None = None) -> None:
        """Ask for a snapshot; it follows as an event."""
        await self.command("request_full_refresh", {}, timeout_s=timeout_s)

    async def session_info(self, *, timeout_s: float | None = None) -> SessionInfo:
        answer = await self.command("request_session", {}, timeout_s=timeout_s)
        return SessionInfo(
            answer["sessionId"],
            answer["userId"],
            answer["status"],
            answer["deviceId"],
            answer["createdAt"],
            answer["expiresAt"],
            answer["simulatorId"],
            answer["simulatorStatus"],
        )

    async def end_session(self) -> bool:
        """End the session itself, by REST; whether a simulator was stopped. The connection ends with it."""
        if self.session_id is None:
            raise RuntimeError("there is no session yet")
        return await self.rest.end_session(self.session_id)

    async def command(
        self,
        kind: str,
        fields: Mapping[str, Any],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Mapping[str, Any]:
        """Send a message and wait for the frame that answers its ``requestId``, reconnections included.

        Raises ServiceError for an answer without success, CommandTimeoutError, ConnectionEndedError, and ValueError
        for a message that is too large. A command that is cancelled may have been carried out.
        """
        if self._end is not None:
            raise _again(self._end)
        if self._connection is None:
            raise RuntimeError("a SessionClient is used within `async with`")
        request_id = request_id or uuid.uuid4().hex
        limit_s = self._command_timeout_s if timeout_s is None else timeout_s
        message = {"type": kind, "requestId": request_id, **fields}
        if len(json.dumps(message)) > MAX_MESSAGE_BYTES:
            raise ValueError(f"{kind}: larger than {MAX_MESSAGE_BYTES} bytes")
        waiting = self._commands.add(request_id, message)
        self._connection.wake()
        try:
            async with asyncio.timeout(limit_s):
                return await waiting.answer
        except TimeoutError:
            raise CommandTimeoutError(f"{kind}: no answer within {limit_s:g} s") from None
        finally:
            self._commands.remove(request_id)


def _again(error: ConnectionEndedError) -> ConnectionEndedError:
    """A new one each time: it is raised in several places, and each adds its own traceback."""
    copy = ConnectionEndedError(error.code, error.reason, close_code=error.close_code)
    copy.__cause__ = error.__cause__
    return copy
