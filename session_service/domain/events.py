"""Session events: what other parts of the service, and other pods, hear of a session (docs/operations.md#redis)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class EventType(StrEnum):
    SESSION_CREATED = "session_created"
    SESSION_ENDED = "session_ended"
    SIMULATOR_STARTED = "simulator_started"
    SIMULATOR_STOPPED = "simulator_stopped"
    CLIENT_CONNECTED = "client_connected"
    CLIENT_DISCONNECTED = "client_disconnected"
    SESSION_MIGRATED = "session_migrated"
    POD_ONLINE = "pod_online"
    POD_OFFLINE = "pod_offline"
    # Between pods only: every other step of a simulator, so that sockets can be told of it.
    SIMULATOR_STATUS = "simulator_status"


class SessionEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message between pods. ``timestamp`` is in milliseconds since 1970.

    The documented types go by the Redis channel ``session_events``, for anybody to read.
    """

    type: EventType
    pod_name: str
    timestamp: int
    session_id: str | None = None
    user_id: str | None = None
    simulator_id: str | None = None
    status: str | None = None  # the simulator's status
    reason: str | None = None
    client_id: str | None = None
