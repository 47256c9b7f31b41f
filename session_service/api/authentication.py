"""Who is calling: the Bearer token of a REST request (RFC 6750 §2.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from session_service.clients.auth import AuthClient
from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError

AuthenticatedHandler = Callable[[web.Request, Identity], Awaitable[web.StreamResponse]]


def bearer_token(request: web.Request) -> str:
    """The token of the one Authorization header. Raises AuthenticationError when there is none, or several."""
    values = request.headers.getall("Authorization", ())
    if len(values) != 1:
        raise AuthenticationError("no token" if not values else "several Authorization headers")
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationError("not a Bearer token")
    return token


def authenticated(auth: AuthClient, handler: AuthenticatedHandler) -> Handler:
    """Check the token before ``handler`` looks at the path or the body.

    The handler made raises AuthenticationError and AuthServiceUnavailableError.
    """

    async def authenticate(request: web.Request) -> web.StreamResponse:
        token = bearer_token(request)
        identity = auth.validate_cached(token)
        if identity is None:
            identity = await auth.validate(token)
        structlog.contextvars.bind_contextvars(user_id=identity.user_id)
        return await handler(request, identity)

    return authenticate
