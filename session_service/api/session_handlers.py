"""``/api/sessions``: thin handlers over ``SessionManager``. Errors become answers in ``error_middleware``."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from session_service.api.path_ids import session_id_of
from session_service.api.responses import json_response, read_body
from session_service.domain.identity import SCOPE_SIMULATORS, Identity
from session_service.domain.session import Session
from session_service.sessions.manager import SessionManager
from session_service.wire.fields import is_device_id
from session_service.wire.proxies import TrustedNetworks
from session_service.wire.request_headers import client_info
from session_service.wire.rest import (
    CreateSessionRequest,
    EndSessionsRequest,
    ReconnectRequest,
    SessionCreated,
    SessionEnded,
    SessionKept,
    SessionReady,
    session_view,
    sessions_ended,
    utc,
)


class SessionHandlers:
    """Every handler may raise the errors of its operation, and ``UnavailableError`` while the database is away."""

    def __init__(self, sessions: SessionManager, *, pod_name: str, trusted: TrustedNetworks) -> None:
        self._sessions = sessions
        self._pod_name = pod_name
        self._trusted = trusted
        self._create_body = msgspec.json.Decoder(CreateSessionRequest)
        self._reconnect_body = msgspec.json.Decoder(ReconnectRequest)
        self._end_body = msgspec.json.Decoder(EndSessionsRequest)

    async def handle_create_session(self, request: web.Request, identity: Identity) -> web.Response:
        body = await read_body(request, self._create_body)
        client = client_info(request.remote, request.headers, self._trusted)
        session, is_new = await self._sessions.create_session(identity, body.device_id, client)
        answer = SessionCreated(
            session_id=session.session_id,
            is_new=is_new,
            status=session.status,
            expires_at=utc(session.expires_at),
            pod_name=session.metadata.get("pod_name") or self._pod_name,
        )
        return json_response(answer, status=201 if is_new else 200)

    async def handle_list_sessions(self, request: web.Request, identity: Identity) -> web.Response:
        sessions = await self._sessions.session_ops.list_of_user(identity)
        return json_response({"success": True, "sessions": [await self._view(one, identity) for one in sessions]})

    async def handle_get_session(self, request: web.Request, identity: Identity) -> web.Response:
        session = await self._sessions.session_ops.get(identity, session_id_of(request))
        return json_response({"success": True, "session": await self._view(session, identity)})

    async def handle_session_ready(self, request: web.Request, identity: Identity) -> web.Response:
        await self._sessions.session_ops.ready(identity, session_id_of(request))
        return json_response(SessionReady())

    async def handle_keepalive(self, request: web.Request, identity: Identity) -> web.Response:
        session = await self._sessions.session_ops.keepalive(identity, session_id_of(request))
        return json_response(SessionKept(expires_at=utc(session.expires_at)))

    async def handle_reconnect(self, request: web.Request, identity: Identity) -> web.Response:
        session_id = session_id_of(request)
        body = await read_body(request, self._reconnect_body)
        session = await self._sessions.reconnection.reconnect(
            identity, session_id, body.device_id, body.client_id, body.attempt
        )
        return json_response({"success": True, "session": await self._view(session, identity)})

    async def handle_end_session(self, request: web.Request, identity: Identity) -> web.Response:
        ended = await self._sessions.session_ops.end(identity, session_id_of(request))
        return json_response(SessionEnded(simulator_stopped=ended.simulator_stopped))

    async def handle_end_sessions(self, request: web.Request, identity: Identity) -> web.Response:
        """The device's session, else all. A name that no device can have ends nothing: never all by mistake."""
        device_id = request.query.get("deviceId")
        if device_id is None and await request.read():
            device_id = (await read_body(request, self._end_body)).device_id
        if device_id is not None and not is_device_id(device_id):
            return json_response(sessions_ended([]))
        return json_response(sessions_ended(await self._sessions.session_ops.end_many(identity, device_id)))

    async def _view(self, session: Session, identity: Identity) -> dict[str, Any]:
        if SCOPE_SIMULATORS not in identity.scopes:
            return session_view(session, simulator_token=None, shows_simulator=False)
        simulator_id = session.metadata.get("simulator_id")
        token = None
        if isinstance(simulator_id, str) and session.metadata.get("simulator_endpoint") is not None:
            token = await self._sessions.simulator_ops.token(simulator_id)
        return session_view(session, simulator_token=token, shows_simulator=True)
