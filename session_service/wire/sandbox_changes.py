"""Events of ``GET /api/v1/sandbox-sessions/events`` (docs/sandbox-sessions.md, "Following changes over HTTP")."""

from __future__ import annotations

import msgspec

from session_service.domain.sandbox_change import SandboxChange
from session_service.wire.event_stream import event_text

_encode = msgspec.json.Encoder().encode


class ChangesLost(msgspec.Struct, frozen=True):
    """There were changes that nobody can tell any more: list anew. ``reason``: unknown_id, other_history, too_old or
    too_many.
    """

    reason: str


def change_event(change: SandboxChange, event_id: bytes) -> bytes:
    return event_text(b"change", _encode(change), event_id)


def reset_event(reason: str, event_id: bytes) -> bytes:
    return event_text(b"reset", _encode(ChangesLost(reason)), event_id)


def position_event(event_id: bytes) -> bytes:
    """Nothing has changed: an id to go on from. An event, since many clients read no id without one."""
    return event_text(b"position", b"{}", event_id)
