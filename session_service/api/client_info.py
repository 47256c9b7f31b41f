"""What a request tells of its client, for the session's metadata."""

from __future__ import annotations

from aiohttp import web

from session_service.domain.identity import ClientInfo
from session_service.wire.proxies import TrustedNetworks, client_address

MAX_USER_AGENT_LENGTH = 512


def client_info(request: web.Request, trusted: TrustedNetworks) -> ClientInfo:
    """Address (through trusted proxies) and User-Agent, the latter cut and made printable for the database."""
    user_agent = request.headers.get("User-Agent")
    if user_agent is not None:
        user_agent = user_agent[:MAX_USER_AGENT_LENGTH]
        if not user_agent.isprintable():
            user_agent = "".join(character if character.isprintable() else "?" for character in user_agent)
    return ClientInfo(
        ip_address=client_address(request.remote, request.headers, trusted),
        user_agent=user_agent,
    )
