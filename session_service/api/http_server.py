"""The HTTP server of a pod: aiohttp's, with limits of its own and answers that never echo what was sent.

A request that aiohttp cannot parse reaches no application and no middleware. The library answers it with a text that
quotes the beginning of the offending line, where a token may stand; here it gets the JSON error of every other 400.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from aiohttp import web

from session_service.api.errors import internal_error_response, malformed_request_response
from session_service.api.server_log import server_logger

MAX_HEADER_BYTES = 16 * 1024  # of one header: a token may have 8 KiB, and is then refused by a 401
MAX_REQUEST_LINE_BYTES = 32 * 1024
SHUTDOWN_LIMIT_S = 1.0  # for requests under way, when the listener closes
# A client that takes nothing of an answer for so long is cut off: some have megabytes, and stay in memory till then.
# What a client reads is seen here in steps of up to a megabyte, so this is no time of a few seconds.
UNREAD_LIMIT_S = 60.0


class _Connection(web.RequestHandler):
    __slots__ = ("_unread", "_unread_limit_s", "_waiting")

    def __init__(self, server: web.Server, unread_limit_s: float, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._waiting: asyncio.Task[Any] | None = None
        self._unread_limit_s = unread_limit_s
        self._unread: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_unread()
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._look_again(self.transport)

    def resume_writing(self) -> None:
        self._forget_unread()
        super().resume_writing()

    def _look_again(self, transport: asyncio.Transport) -> None:
        left_bytes = transport.get_write_buffer_size()
        self._unread = self._loop.call_later(self._unread_limit_s, self._look, transport, left_bytes)

    def _look(self, transport: asyncio.Transport, before_bytes: int) -> None:
        if transport.get_write_buffer_size() >= before_bytes:
            transport.abort()
        else:
            self._look_again(transport)

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @contextmanager
    def cancelling(self) -> Iterator[None]:
        self._waiting = asyncio.current_task()
        try:
            yield
        finally:
            self._waiting = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc)  # logs, and raises where an answer has begun already
        made = (
            internal_error_response() if status >= HTTPStatus.INTERNAL_SERVER_ERROR else malformed_request_response()
        )
        made.headers["Server"] = "session-service"
        made.force_close()
        return made


class _Server(web.Server):
    def __init__(self, made: web.Server, unread_limit_s: float, options: dict[str, Any]) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory, **options)
        self._unread_limit_s = unread_limit_s
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._unread_limit_s, **self._options)


@contextmanager
def cancelled_when_left(request: web.Request) -> Iterator[None]:
    """The handler's task is cancelled as soon as its client has left; else it would work on for nobody.

    For handlers whose work can be cancelled at any point: aiohttp lets all others go on to their end.
    """
    connection = request.protocol
    if not isinstance(connection, _Connection) or request.transport is None:
        raise asyncio.CancelledError  # it has left already
    with connection.cancelling():
        yield


class HttpServer(web.AppRunner):
    """Runs one application. ``setup``, then a site; ``cleanup`` ends it: requests under way have one second.

    A client that takes nothing of an answer for ``unread_limit_s`` is cut off.
    """

    __slots__ = ("_options", "_unread_limit_s")

    def __init__(self, app: web.Application, *, unread_limit_s: float = UNREAD_LIMIT_S) -> None:
        self._unread_limit_s = unread_limit_s
        self._options: dict[str, Any] = {
            "access_log": None,  # aiohttp's shows queries; the middleware writes a line of its own
            "auto_decompress": False,  # bodies are small, and a compressed one may not stay so
            "logger": server_logger(),
            "max_line_size": MAX_REQUEST_LINE_BYTES,
            "max_field_size": MAX_HEADER_BYTES,
        }
        super().__init__(app, handle_signals=False, shutdown_timeout=SHUTDOWN_LIMIT_S, **self._options)

    async def _make_server(self) -> web.Server:
        # The hook of aiohttp's own runners: there is no public way to a server with another request handler.
        return _Server(await super()._make_server(), self._unread_limit_s, self._options)
