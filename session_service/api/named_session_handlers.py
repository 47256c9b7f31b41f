"""``/api/v1/sessions``: thin handlers over ``NamedSessionService`` (document 004, docs/named-sessions.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from session_service.api.authentication import AuthenticatedHandler
from session_service.domain.identity import Identity
from session_service.domain.named_session import user_id_of
from session_service.errors import AuthenticationError, InputProblem, InvalidInputError
from session_service.named_sessions.service import NamedSessionService
from session_service.wire.named_sessions import Detail, SessionRead, decode_new_session, title_of_path

_encode = msgspec.json.Encoder().encode

UserHandler = Callable[[web.Request, int], Awaitable[web.Response]]


def by_number(handler: UserHandler) -> AuthenticatedHandler:
    """``handler`` with the user's number. Raises AuthenticationError for a subject that is none."""

    async def with_number(request: web.Request, identity: Identity) -> web.Response:
        user_id = user_id_of(identity.user_id)
        if user_id is None:
            raise AuthenticationError("the subject is not the number of a user")
        return await handler(request, user_id)

    return with_number


async def handle_missing_slash(request: web.Request) -> web.Response:
    """307 to the same path with its slash, as the document's framework answers: method and body stay."""
    return _moved(request, f"{request.path}/")


async def handle_extra_slash(request: web.Request) -> web.Response:
    """307 to the same path without its slash."""
    return _moved(request, request.path.removesuffix("/"))


class NamedSessionHandlers:
    """Every handler may raise the errors of its operation, and ``UnavailableError`` while the database is away."""

    def __init__(self, sessions: NamedSessionService) -> None:
        self._sessions = sessions

    async def handle_list_sessions(self, request: web.Request, user_id: int) -> web.Response:
        sessions = await self._sessions.get_sessions(user_id)
        return _json([SessionRead(one.id, one.user_id, one.title, one.active) for one in sessions])

    async def handle_get_active_session(self, request: web.Request, user_id: int) -> web.Response:
        session_id = await self._sessions.get_active_session_id(user_id)
        # A UUID needs no escapes.
        return web.Response(body=f'"{session_id}"'.encode(), content_type="application/json")

    async def handle_create_session(self, request: web.Request, user_id: int) -> web.Response:
        body = decode_new_session(await _read(request))
        session = await self._sessions.create_session(user_id, body.title)
        return _json(SessionRead(session.id, session.user_id, session.title, session.active))

    async def handle_set_active_session(self, request: web.Request, user_id: int) -> web.Response:
        title = title_of_path(request.rel_url.raw_path, depth=5)
        await self._sessions.set_active_session(user_id, title)
        return _json(Detail(f"'{title}' set as active session for user_id={user_id}"))

    async def handle_delete_session(self, request: web.Request, user_id: int) -> web.Response:
        title = title_of_path(request.rel_url.raw_path, depth=4)
        await self._sessions.delete_session(user_id, title)
        return _json(Detail("Session deleted successfully"))


async def _read(request: web.Request) -> bytes:
    if "Content-Encoding" in request.headers:
        raise InvalidInputError(InputProblem("value_error", ("body",), "A compressed body is not accepted", None))
    return await request.read()


def _json(answer: msgspec.Struct | list[SessionRead]) -> web.Response:
    return web.Response(body=_encode(answer), content_type="application/json")


def _moved(request: web.Request, path: str) -> web.Response:
    query = request.rel_url.raw_query_string
    return web.Response(status=307, headers={"Location": f"{path}?{query}" if query else path})
