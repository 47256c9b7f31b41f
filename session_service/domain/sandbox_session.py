"""A sandbox session as services see it over HTTP (docs/sandbox-sessions.md)."""

from __future__ import annotations

from datetime import datetime

import msgspec

from session_service.domain.inbox import InboxStatus

MAX_WORKER_LENGTH = 200
SHORTEST_VISIBILITY_S = 0.1
LONGEST_VISIBILITY_S = 43_200.0
DEFAULT_VISIBILITY_S = 30.0
MAX_DEPTH = 100


class SandboxSession(msgspec.Struct, frozen=True):
    """One row. ``messages`` and ``sbx_config`` are JSON as text: numbers of any size stay what they are.

    ``claim``: the token of who works on it; None where nobody does.
    """

    id: str
    messages: str | None
    inbox_status: InboxStatus | None
    sbx_config: str | None
    parent: str | None
    created_at: datetime
    updated_at: datetime
    claim: str | None = None


class Position(msgspec.Struct, frozen=True):
    """A place in the order of creation: that of one session. ``created_at`` as PostgreSQL writes it."""

    created_at: str
    id: str


class SandboxPage(msgspec.Struct, frozen=True):
    """A part of a list. ``next``: what it ends with, where there is more."""

    sessions: tuple[SandboxSession, ...]
    next: Position | None


class FieldChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to set; null is a value, and a field that is UNSET stays as it is."""

    messages: str | msgspec.UnsetType | None = msgspec.UNSET
    inbox_status: InboxStatus | msgspec.UnsetType | None = msgspec.UNSET
    sbx_config: str | msgspec.UnsetType | None = msgspec.UNSET
    parent: str | msgspec.UnsetType | None = msgspec.UNSET
