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
    # Between pods only: every other step of a simulator, so that sockets can be told of it, and a socket that must go
    # because its session has too many.
    SIMULATOR_STATUS = "simulator_status"
    CLIENT_EVICTED = "client_evicted"


NOT_QUEUED = 0
"""The ``queue_position`` of a start that has left the queue."""

PEER_TYPES = frozenset({EventType.SIMULATOR_STATUS, EventType.CLIENT_EVICTED})


class SessionEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message between pods. ``timestamp`` is in milliseconds since 1970.

    The documented types go by the Redis channel ``session_events``, for anybody to read; ``PEER_TYPES`` do not.
    ``sender`` tells a pod its own events: two pods may bear one name. ``arrival`` is the socket's number in
    ``session.sockets``, ``connections`` how many its session has over all pods. ``queue_position`` is where a
    simulator that is CREATING waits for its start slot, 1 is next; None says nothing of that.
    """

    type: EventType
    pod_name: str
    timestamp: int
    session_id: str | None = None
    user_id: str | None = None
    simulator_id: str | None = None
    status: str | None = None  # the simulator's status
    changed_in: int | None = None  # the higher of two of one simulator tells the later state
    reason: str | None = None
    queue_position: int | None = None
    client_id: str | None = None
    attempt: int | None = None
    arrival: int | None = None
    connections: int | None = None
    owner_pod_id: str | None = None
    previous_pod_name: str | None = None
    sender: str | None = None
