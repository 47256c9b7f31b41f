"""Who is calling: the Bearer token of a REST request (RFC 6750 §2.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from session_service.clients.auth import AuthClient
from session_service.domain.identity import Identity
from session_service.errors import AuthenticationError, ForbiddenError
from session_service.wire.request_headers import bearer_token

AuthenticatedHandler = Callable[[web.Request, Identity], Awaitable[web.StreamResponse]]


def authenticated(auth: AuthClient, handler: AuthenticatedHandler) -> Handler:
    """Check the token before ``handler`` looks at the path or the body.

    The handler made raises AuthenticationError and AuthServiceUnavailableError.
    """

    async def authenticate(request: web.Request) -> web.StreamResponse:
        token = bearer_token(request.headers)
        if token is None:
            raise AuthenticationError("no token")
        identity = auth.validate_cached(token)
        if identity is None:
            identity = await auth.validate(token)
        structlog.contextvars.bind_contextvars(user_id=identity.user_id)
        return await handler(request, identity)

    return authenticate


def with_scope(scope: str, handler: AuthenticatedHandler) -> AuthenticatedHandler:
    """A handler for callers whose token has ``scope``; it raises ForbiddenError for others."""

    async def checked(request: web.Request, identity: Identity) -> web.StreamResponse:
        if scope not in identity.scopes:
            raise ForbiddenError(scope)
        return await handler(request, identity)

    return checked
