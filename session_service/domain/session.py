"""Live sessions: states, and what one is. Transitions are single SQL statements (sql/queries/sessions.sql)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class SessionStatus(StrEnum):
    """docs/lifecycle.md has the diagram; its edges name the calls."""

    ACTIVE = "ACTIVE"  # just made, or at least one socket is there
    RECONNECTING = "RECONNECTING"  # the last socket was lost, not closed by the client, less than 120 s ago
    INACTIVE = "INACTIVE"  # no socket for longer, or the client closed it; resumable
    EXPIRED = "EXPIRED"  # ended, or past expires_at; final


RECONNECTING_LIMIT_S = 120
MAX_CONNECTIONS_PER_SESSION = 8  # over all pods, event streams included
CROWDED = MAX_CONNECTIONS_PER_SESSION - 1  # connections from which on it matters who was heard last


class Session(msgspec.Struct, frozen=True):
    """One row of ``session.active_sessions`` with its metadata. Instants are PostgreSQL's, timezone-aware."""

    session_id: str
    user_id: str
    status: SessionStatus
    created_at: datetime
    last_active: datetime
    expires_at: datetime
    device_id: str | None
    metadata: dict[str, Any]


class EndReason(StrEnum):
    """Why a session ended, as clients read it in ``session_ended``."""

    ENDED = "ended"  # DELETE by its user
    EXPIRED = "expired"  # past expires_at
    LIMIT = "limit"  # the oldest one without a socket made room for a new one


class EndedSession(msgspec.Struct, frozen=True):
    session_id: str
    user_id: str
    simulator_stopped: bool
