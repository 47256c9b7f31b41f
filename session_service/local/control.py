"""The local control: what a page of a local run asks of its supervisor (docs/local-run.md#local-control).

It can sign in as anybody and end pods, so each request must come from a page of one of the run's pods (Origin), to
this very address (Host: a name that was made to point here, by DNS rebinding, is another), and show the run's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from session_service.api.http_server import HttpServer
from session_service.clients.token_signer import sign_token
from session_service.config import AuthMode, AuthSettings
from session_service.local.pod import Pod
from session_service.local.pod_loads import PodLoads
from session_service.local.pod_view import PodTable, look_at_pods
from session_service.wire.page import loopback_origins

KEY_HEADER = "X-Local-Control"
DEFAULT_USER_ID = "1"  # a number, so that named sessions take it too
TOKEN_LIFETIME_S = 900
LOOK_EVERY_S = 0.25
COMMENT_EVERY_S = 15.0
PREFLIGHT_LIFETIME_S = 600
MAX_BODY_BYTES = 4096

_encode = msgspec.json.Encoder().encode


class TokenRequest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = DEFAULT_USER_ID


class TokenAnswer(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    token: str
    user_id: str
    expires_at: datetime


class LocalControl:
    """Serves ``listening``, which it closes at its end. ``secret_key`` signs; the rest of ``auth`` says what."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        key: str,
        pods: Sequence[Pod],
        loads: PodLoads,
        auth: AuthSettings,
        secret_key: str,
        clock: Callable[[], float],
    ) -> None:
        self._listening = listening
        self._key = key.encode()
        self._pods = pods
        self._loads = loads
        self._auth = auth
        self._secret_key = secret_key
        self._clock = clock
        self._origins = frozenset(loopback_origins(pod.url for pod in pods))
        self._closing = asyncio.Event()
        address, port = listening.getsockname()
        self._host = f"{address}:{port}"
        self._server = HttpServer(self._app())

    async def start(self) -> None:
        """Serve; what has connected before is answered now."""
        await self._server.setup()
        await web.SockSite(self._server, self._listening).start()

    @property
    def name(self) -> str:
        return "local control"

    async def stop(self) -> None:
        """End streams and requests under way, within ``SHUTDOWN_LIMIT_S`` of the server."""
        self._closing.set()
        await self._server.cleanup()
        self._listening.close()  # where it was not served yet nobody else does
        await self._loads.close()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(self._add_headers)
        app.router.add_routes(
            [
                web.post("/token", self._handle_token),
                web.get("/pods", self._handle_pods),
                web.get("/pods/events", self._handle_events, allow_head=False),
                web.post("/pods/{name}/stop", self._ending(signal.SIGTERM)),
                web.post("/pods/{name}/kill", self._ending(signal.SIGKILL)),
            ]
        )
        return app

    # --- who may call --------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Host") != self._host:
            return _error(403, "This is not the address of the local control")
        if request.headers.get("Origin") not in self._origins:
            return _error(403, "Only pages of this run's pods may call the local control")
        if request.method == "OPTIONS":
            return web.Response(
                status=204,
                headers={
                    "Access-Control-Allow-Methods": "GET, POST",
                    "Access-Control-Allow-Headers": f"Content-Type, {KEY_HEADER}",
                    "Access-Control-Max-Age": str(PREFLIGHT_LIFETIME_S),
                },
            )
        shown = request.headers.get(KEY_HEADER, "").encode(errors="surrogateescape")
        if not secrets.compare_digest(shown, self._key):
            return _error(403, f"{KEY_HEADER} is not the key of this run: load the page again")
        try:
            return await handler(request)
        except web.HTTPException as refusal:
            return _error(refusal.status, refusal.reason)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "session-service"
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin in self._origins:
            response.headers["Access-Control-Allow-Origin"] = origin

    # --- what they may ask ---------------------------------------------------------------------------------

    async def _handle_token(self, request: web.Request) -> web.Response:
        if self._auth.mode is not AuthMode.JWT:
            return _error(409, f"AUTH_MODE is {self._auth.mode}: a token of its issuer is needed")
        try:
            asked = msgspec.json.decode(await request.read() or b"{}", type=TokenRequest)
        except msgspec.ValidationError as error:
            return _error(400, f"The body is not valid: {error}")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _error(400, "The body is not valid JSON")
        now_s = int(time.time())
        token = sign_token(
            self._secret_key,
            self._auth.algorithm,
            asked.user_id,
            now_s=now_s,
            ttl_s=TOKEN_LIFETIME_S,
            issuer=self._auth.issuer,
            audience=self._auth.audience,
            user_claim=self._auth.user_claim,
        )
        expires_at = datetime.fromtimestamp(now_s + TOKEN_LIFETIME_S, UTC)
        return _json(TokenAnswer(token=token, user_id=asked.user_id, expires_at=expires_at))

    async def _handle_pods(self, _request: web.Request) -> web.Response:
        return _json(await self._look())

    async def _handle_events(self, request: web.Request) -> web.StreamResponse:
        """The table at once, and when it has changed; ends with the run, or at the first write to who has left."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        told: bytes | None = None
        told_at_s = self._clock()
        with contextlib.suppress(ConnectionError):
            while not self._closing.is_set():
                table = _encode(await self._look())
                if table != told:
                    await response.write(b"event: pods\ndata: %b\n\n" % table)
                    told, told_at_s = table, self._clock()
                elif self._clock() - told_at_s >= COMMENT_EVERY_S:
                    await response.write(b": keep-alive\n\n")
                    told_at_s = self._clock()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), LOOK_EVERY_S)
        return response

    def _ending(self, number: signal.Signals) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            name = request.match_info["name"]
            pod = next((pod for pod in self._pods if pod.name == name), None)
            if pod is None:
                return _error(404, "There is no such pod")
            if not pod.tell_to_end(number):
                return _error(409, "The pod has no process at the moment: it is started again soon")
            return _json({"success": True}, status=202)

        return handle

    async def _look(self) -> PodTable:
        return await look_at_pods(self._pods, self._loads)


def _json(answer: msgspec.Struct | dict[str, object], *, status: int = 200) -> web.Response:
    return web.Response(body=_encode(answer), status=status, content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _json({"success": False, "error": message, "errorMessage": message}, status=status)
