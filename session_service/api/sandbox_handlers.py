"""``/api/v1/sandbox-sessions``: thin handlers over ``SandboxSessionService`` (docs/sandbox-sessions.md)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from session_service.api.http_server import cancelled_when_left
from session_service.api.middleware import leave_untimed
from session_service.api.path_ids import sandbox_session_id_of
from session_service.api.responses import json_response, read_body
from session_service.domain.identity import Identity
from session_service.domain.sandbox_session import SandboxSession
from session_service.sandboxes.service import SandboxSessionService
from session_service.wire.rest import Body
from session_service.wire.sandbox_sessions import (
    MAX_BODY_BYTES,
    ChangedSandboxSession,
    ClaimRequest,
    CompleteRequest,
    ExtendRequest,
    FailRequest,
    NewMessage,
    NewSandboxSession,
    children,
    claimed_row,
    depth_of_query,
    json_text,
    list_query,
    message_text,
    row,
    session_list,
)


class SandboxHandlers:
    """Every handler may raise the errors of its operation, and ``UnavailableError`` while the database is away."""

    def __init__(self, sandboxes: SandboxSessionService) -> None:
        self._sandboxes = sandboxes
        self._new_body = msgspec.json.Decoder(NewSandboxSession)
        self._changed_body = msgspec.json.Decoder(ChangedSandboxSession)
        self._message_body = msgspec.json.Decoder(NewMessage)
        self._claim_body = msgspec.json.Decoder(ClaimRequest)
        self._extend_body = msgspec.json.Decoder(ExtendRequest)
        self._complete_body = msgspec.json.Decoder(CompleteRequest)
        self._fail_body = msgspec.json.Decoder(FailRequest)

    async def handle_create(self, request: web.Request, _identity: Identity) -> web.Response:
        body = await _read(request, self._new_body)
        made = await self._sandboxes.create(
            json_text("messages", body.messages),
            body.inbox_status,
            json_text("sbx_config", body.sbx_config),
            None if body.parent is None else str(body.parent),
        )
        return _row_response(made, status=201)

    async def handle_list(self, request: web.Request, _identity: Identity) -> web.Response:
        query = list_query(request.query)
        return json_response(
            session_list(await self._sandboxes.page(query.status, query.parent, query.after, query.limit))
        )

    async def handle_get(self, request: web.Request, _identity: Identity) -> web.Response:
        return _row_response(await self._sandboxes.get(sandbox_session_id_of(request)))

    async def handle_change(self, request: web.Request, _identity: Identity) -> web.Response:
        session_id = sandbox_session_id_of(request)
        body = await _read(request, self._changed_body)
        return _row_response(await self._sandboxes.change(session_id, body.to_change()))

    async def handle_delete(self, request: web.Request, _identity: Identity) -> web.Response:
        await self._sandboxes.delete(sandbox_session_id_of(request))
        return web.Response(status=204)

    async def handle_append(self, request: web.Request, _identity: Identity) -> web.Response:
        session_id = sandbox_session_id_of(request)
        body = await _read(request, self._message_body)
        return _row_response(await self._sandboxes.append(session_id, message_text("message", body.message)))

    async def handle_children(self, request: web.Request, _identity: Identity) -> web.Response:
        session_id = sandbox_session_id_of(request)
        return json_response(children(await self._sandboxes.children(session_id, depth_of_query(request.query))))

    async def handle_claim(self, request: web.Request, _identity: Identity) -> web.Response:
        """A client that leaves before the answer has claimed nothing."""
        body = await _read(request, self._claim_body)
        if body.wait_seconds > 0:
            leave_untimed(request)
        with cancelled_when_left(request):
            claimed = await self._sandboxes.claim(body.worker, body.visibility_seconds, body.wait_seconds)
        if claimed is None or claimed.claim is None:
            response = web.Response(status=204)
            if self._sandboxes.is_draining:
                response.force_close()  # so that the client asks another pod, and not this one again and again
            return response
        return json_response(claimed_row(claimed, claimed.claim))

    async def handle_extend(self, request: web.Request, _identity: Identity) -> web.Response:
        session_id = sandbox_session_id_of(request)
        body = await _read(request, self._extend_body)
        return _row_response(await self._sandboxes.extend(session_id, str(body.claim), body.visibility_seconds))

    async def handle_complete(self, request: web.Request, _identity: Identity) -> web.Response:
        session_id = sandbox_session_id_of(request)
        body = await _read(request, self._complete_body)
        messages = json_text("messages", body.messages)
        return _row_response(await self._sandboxes.complete(session_id, str(body.claim), messages))

    async def handle_fail(self, request: web.Request, _identity: Identity) -> web.Response:
        session_id = sandbox_session_id_of(request)
        body = await _read(request, self._fail_body)
        return _row_response(await self._sandboxes.fail(session_id, str(body.claim), body.error, retry=body.retry))


async def _read(request: web.Request, decoder: msgspec.json.Decoder[Body]) -> Body:
    return await read_body(request, decoder, max_bytes=MAX_BODY_BYTES)


def _row_response(session: SandboxSession, *, status: int = 200) -> web.Response:
    return json_response(row(session), status=status)
