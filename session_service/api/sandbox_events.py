"""``GET /api/v1/sandbox-sessions/events``: changes of sandbox sessions as server-sent events (WHATWG HTML §9.2)."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from session_service.domain.identity import Identity
from session_service.sandboxes.changes import ChangeFollower, ChangeStream
from session_service.telemetry.metrics import Metrics
from session_service.websocket.auth import token_deadline_s
from session_service.websocket.connection import CLOSE_LIMIT_S, notice_slowness_early
from session_service.wire.event_stream import COMMENT_INTERVAL_S, HEADERS, KEEP_ALIVE

NO_PROGRESS_S = 10.0  # a piece that a reader does not take for so long ends its stream
_LOOK_EVERY_S = 1.0  # whether the client is still there: a handler is told only when it writes


class SandboxEventHandlers:
    def __init__(
        self, changes: ChangeFollower, metrics: Metrics, *, comment_interval_s: float = COMMENT_INTERVAL_S
    ) -> None:
        self._changes = changes
        self._metrics = metrics
        self._comment_interval_s = comment_interval_s

    async def handle_events(self, request: web.Request, identity: Identity) -> web.StreamResponse:
        """The stream, until the client leaves, its token expires, it reads too slowly, or the pod drains.

        Raises, before the answer began, UnavailableError where this pod has too many streams or no database.
        """
        with self._changes.stream() as stream:
            await stream.begin(request.headers.get("Last-Event-ID"))
            response = web.StreamResponse(headers=HEADERS)
            response.force_close()
            await response.prepare(request)
            self._metrics.sse_connections.inc()
            try:
                await self._write(request, response, stream, identity)
            except (ConnectionError, TimeoutError):
                if request.transport is not None:
                    request.transport.abort()
            finally:
                self._metrics.sse_connections.dec()
        if request.transport is not None:  # what is still to be read has its time, and no more
            asyncio.get_running_loop().call_later(CLOSE_LIMIT_S, request.transport.abort)
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, stream: ChangeStream, identity: Identity
    ) -> None:
        """Raises ConnectionError where the client has gone, TimeoutError where it reads too slowly."""
        if request.transport is not None:
            notice_slowness_early(request.transport)
        clock = asyncio.get_running_loop().time
        expires_s = token_deadline_s(identity, clock(), time.time())
        comment_s = clock() + self._comment_interval_s
        while (now_s := clock()) < expires_s and request.transport is not None:
            piece = await stream.read(max(0.0, min(_LOOK_EVERY_S, comment_s - now_s, expires_s - now_s)))
            if piece is None:
                return
            if not piece:
                if clock() < comment_s:
                    continue
                piece = KEEP_ALIVE + stream.position()  # so that a quiet stream can be resumed too, later
            comment_s = clock() + self._comment_interval_s
            async with asyncio.timeout(NO_PROGRESS_S):
                await response.write(piece)
