"""What a pod of a local run does for its page, and no other pod has a route for."""

from __future__ import annotations

from aiohttp import web

from session_service.api.responses import json_response
from session_service.domain.identity import Identity
from session_service.websocket.manager import WebSocketManager
from session_service.wire.page import CutConnections


class LocalHandlers:
    def __init__(self, websockets: WebSocketManager) -> None:
        self._websockets = websockets

    async def handle_cut(self, request: web.Request, identity: Identity) -> web.Response:
        """``POST /api/local/connections/{client_id}/cut``: the caller's own sockets of this client id on this pod."""
        return json_response(
            CutConnections(cut=self._websockets.cut(identity.user_id, request.match_info["client_id"]))
        )
