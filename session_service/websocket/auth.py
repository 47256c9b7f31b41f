"""Who opens a connection, and to which session, up to the upgrade (docs/protocol.md#connecting)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

import msgspec
from aiohttp import web

from session_service.clients.auth import AuthClient
from session_service.config import QueryToken
from session_service.domain.identity import ClientInfo, Identity
from session_service.domain.reconnect import check_device
from session_service.domain.session import Session
from session_service.errors import (
    AuthenticationError,
    InvalidRequestError,
    OriginNotAllowedError,
    SessionExpiredError,
    SessionNotFoundError,
)
from session_service.sessions.manager import SessionManager
from session_service.websocket.handshake import offered_subprotocols
from session_service.websocket.origin import may_connect
from session_service.wire import resume_query
from session_service.wire.proxies import TrustedNetworks, external_origin
from session_service.wire.request_headers import bearer_token, client_info
from session_service.wire.resume_query import ResumeQuery

MAX_TOKEN_BYTES = 8 * 1024
EXPIRED_TOKEN_LEEWAY_S = 30.0  # as the verifier's: a token accepted within it is not closed at once
_BEARER_PREFIX = "bearer."


class ConnectionPolicy(msgspec.Struct, frozen=True):
    """The settings that decide who may connect."""

    query_token: QueryToken
    allowed_origins: frozenset[str]
    trusted: TrustedNetworks


class OpenedSession(msgspec.Struct, frozen=True):
    identity: Identity
    session: Session
    is_new: bool


class Admission(msgspec.Struct, frozen=True):
    """A request that may be upgraded. ``opened`` is None where the first message has to bring the token."""

    query: ResumeQuery
    client: ClientInfo
    opened: OpenedSession | None


async def authenticate_websocket_request(
    request: web.Request,
    *,
    auth: AuthClient,
    sessions: SessionManager,
    policy: ConnectionPolicy,
    admit: Callable[[Identity | None], None],
) -> Admission:
    """Check the query and the token, and find or make the session. The origin was checked before.

    Token, first that is there: subprotocol ``bearer.<base64url>``, Authorization, ``?token=`` where it is allowed;
    without any, the first message. The token is judged before the query, so that nobody without one learns more than
    that; ``admit`` is called between the two, with None where the token has yet to come, and may refuse. Raises
    AuthenticationError, InvalidRequestError, SessionNotFoundError (also for an expired session and somebody else's),
    DeviceMismatchError, SessionLimitReachedError, UnavailableError. Cancellation leaves at most a session behind,
    which the next call finds.
    """
    token = request_token(request, policy.query_token)
    identity = None if token is None else await validate(auth, token)
    admit(identity)
    query = resume_query.parse(request.query, device_required=True)
    client = client_info(request.remote, request.headers, policy.trusted)
    if identity is None:
        return Admission(query, client, None)
    return Admission(query, client, await open_session(sessions, identity, query, client))


async def open_session(
    sessions: SessionManager, identity: Identity, query: ResumeQuery, client: ClientInfo
) -> OpenedSession:
    """The session that the query names, else the one of (user, device), made if there is none. Raises as above."""
    if query.session_id is None:
        if query.device_id is None:
            raise InvalidRequestError("deviceId", "is required")
        session, is_new = await sessions.create_session(identity, query.device_id, client)
        return OpenedSession(identity, session, is_new)
    try:
        session = await sessions.session_ops.own(identity, query.session_id)
    except SessionExpiredError:
        raise SessionNotFoundError from None
    if query.device_id is not None:
        check_device(session, query.device_id)
    return OpenedSession(identity, session, False)


async def validate(auth: AuthClient, token: str) -> Identity:
    """Raises AuthenticationError, AuthServiceUnavailableError."""
    return auth.validate_cached(token) or await auth.validate(token)


def check_origin(request: web.Request, policy: ConnectionPolicy) -> None:
    """Raises OriginNotAllowedError for a page that may not connect."""
    origins = request.headers.getall("Origin", [])
    if not origins:
        return
    own = external_origin(request.scheme, request.host, request.headers, request.remote, policy.trusted)
    if not may_connect(list(origins), own, policy.allowed_origins):
        raise OriginNotAllowedError


def request_token(request: web.Request, query_token: QueryToken) -> str | None:
    """The token that the request itself carries, None for none. Raises AuthenticationError, InvalidRequestError."""
    for offer in offered_subprotocols(request):
        if offer.startswith(_BEARER_PREFIX):
            return _checked(_decoded(offer.removeprefix(_BEARER_PREFIX)))
    token = bearer_token(request.headers)
    if token is not None:
        return _checked(token)
    if "token" in request.query:
        if query_token is QueryToken.REFUSE:
            raise InvalidRequestError(
                "token",
                "tokens in the address are refused: use the subprotocols 'session.v1, bearer.<base64url token>', "
                "an Authorization header, or a first message of type authenticate",
            )
        return _checked(request.query["token"])
    return None


def token_deadline_s(identity: Identity, now_s: float, wall_clock_s: float) -> float:
    """When a socket of this identity is closed with 4501, on the clock of ``now_s``."""
    left_s = identity.expires_at - wall_clock_s
    if left_s <= 0:
        left_s += EXPIRED_TOKEN_LEEWAY_S
    return now_s + left_s


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)).decode()
    except (binascii.Error, ValueError):
        raise AuthenticationError("the subprotocol's token is not base64url") from None


def _checked(token: str) -> str:
    if not token or len(token) > MAX_TOKEN_BYTES:
        raise AuthenticationError("empty or oversize token")
    return token
