"""A client comes back (docs/lifecycle.md#reconnects): one decision for REST, messages and connections. Pure."""

from __future__ import annotations

import msgspec

from session_service.domain.session import Session
from session_service.errors import DeviceMismatchError


class Comeback(msgspec.Struct, frozen=True):
    """Who comes back. ``session.count_reconnect`` counts each (client, attempt) once, however often it is said.

    ``client_id`` None: the client gave none, and the attempt alone tells one reconnect from the next.
    """

    client_id: str | None
    attempt: int

    @property
    def counted_as(self) -> str:
        """The client's name in ``session_metadata.reconnects``."""
        return self.client_id or ""


def said(session: Session, device_id: str, client_id: str | None, attempt: int) -> Comeback:
    """A client says that it is back, by REST or in a message. Raises DeviceMismatchError."""
    check_device(session, device_id)
    return Comeback(client_id, attempt)


def connected(client_id: str | None, attempt: int) -> Comeback | None:
    """A connection is there: a comeback unless it is the client's first. Its device was checked with its request."""
    return Comeback(client_id, attempt) if attempt > 0 else None


def check_device(session: Session, device_id: str) -> None:
    """Raises DeviceMismatchError where the session belongs to another device of the user."""
    if session.device_id is not None and session.device_id != device_id:
        raise DeviceMismatchError
