"""When each connection of a draining pod should move (docs/operations.md#shutdown): pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from session_service.websocket.connection import ClientConnection

Connection = TypeVar("Connection", bound=ClientConnection)

SHARE_OF_WINDOW = 0.8  # the rest of the window is for the last ones to arrive elsewhere


def drain_slots(connections: Iterable[Connection], window_s: float) -> list[tuple[Connection, float]]:
    """Each connection with its slot, seconds from now, evenly spread and ascending.

    The connections of one session follow each other, so that a session moves once, not once per tab.
    """
    ordered = sorted(connections, key=lambda one: one.entry.session_id if one.entry is not None else "")
    step_s = window_s * SHARE_OF_WINDOW / max(1, len(ordered))
    return [(connection, index * step_s) for index, connection in enumerate(ordered)]
