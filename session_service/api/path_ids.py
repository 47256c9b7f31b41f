"""Ids from paths, queries and bodies: what cannot be an id is not found, before anything asks the database for it."""

from __future__ import annotations

from aiohttp import web

from session_service.errors import (
    InvalidRequestError,
    OrderNotFoundError,
    SessionNotFoundError,
    SimulatorNotFoundError,
)
from session_service.wire.fields import is_object_id
from session_service.wire.sandbox_sessions import is_sandbox_session_id


def session_id_of(request: web.Request) -> str:
    """The path's session id. Raises SessionNotFoundError."""
    return checked_session_id(request.match_info["session_id"])


def checked_session_id(session_id: str) -> str:
    if not is_object_id(session_id):
        raise SessionNotFoundError
    return session_id


def session_id_of_query(request: web.Request) -> str:
    """``?sessionId=``. Raises InvalidRequestError where it is missing, SessionNotFoundError."""
    session_id = request.query.get("sessionId")
    if session_id is None:
        raise InvalidRequestError("sessionId", "is required in the query")
    return checked_session_id(session_id)


def sandbox_session_id_of(request: web.Request) -> str:
    """The path's id of a sandbox session. Raises SessionNotFoundError."""
    session_id = request.match_info["session_id"]
    if not is_sandbox_session_id(session_id):
        raise SessionNotFoundError
    return session_id


def simulator_id_of(request: web.Request) -> str:
    """The path's simulator id. Raises SimulatorNotFoundError."""
    simulator_id = request.match_info["simulator_id"]
    if not is_object_id(simulator_id):
        raise SimulatorNotFoundError
    return simulator_id


def order_id_of(request: web.Request) -> str:
    """The path's order id. Raises OrderNotFoundError."""
    order_id = request.match_info["order_id"]
    if not is_object_id(order_id):
        raise OrderNotFoundError
    return order_id
