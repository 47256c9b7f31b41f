"""What the sockets of one session share."""

from __future__ import annotations

from datetime import datetime

from session_service.domain.events import NOT_QUEUED
from session_service.domain.session import Session
from session_service.domain.simulator import LIVE_STATUSES, Simulator, SimulatorStatus, shown_status


class SessionEntry:
    """What the sockets of one session share: who it is, and the last known state of its simulator.

    Heartbeats are answered from here, so that they cost no query, and so that an outage of ours never makes a client
    believe that its session or device is invalid.
    """

    __slots__ = (
        "created_at",
        "device_id",
        "expires_at",
        "queue_position",
        "session_id",
        "simulator_changed_in",
        "simulator_id",
        "simulator_reason",
        "simulator_status",
        "simulator_version",
        "user_id",
    )

    def __init__(self, session: Session) -> None:
        self.session_id = session.session_id
        self.user_id = session.user_id
        self.device_id = session.device_id
        self.created_at: datetime = session.created_at
        self.expires_at: datetime = session.expires_at
        self.simulator_id: str | None = None
        self.simulator_status = SimulatorStatus.NONE  # as clients are shown it
        self.simulator_reason: str | None = None
        self.queue_position: int | None = (
            None  # where it waits to be created; None: it does not, or that is not known
        )
        self.simulator_changed_in = 0
        self.simulator_version = 0  # raised by events: what was read before one is older than it

    def simulator_read(self, simulator: Simulator | None, version: int) -> None:
        """Take what a query said, unless an event came after the query began (at ``version``)."""
        if version != self.simulator_version:
            return
        if simulator is None or simulator.simulator_id != self.simulator_id or not _is_creating(simulator.status):
            self.queue_position = None
        if simulator is None:
            self.simulator_id, self.simulator_status, self.simulator_reason = None, SimulatorStatus.NONE, None
            self.simulator_changed_in = 0
        else:
            self.simulator_id = simulator.simulator_id
            self.simulator_status = shown_status(simulator.status)
            self.simulator_reason = simulator.reason
            self.simulator_changed_in = simulator.changed_in

    def simulator_changed(
        self,
        simulator_id: str | None,
        status: str,
        reason: str | None,
        changed_in: int | None,
        queue_position: int | None = None,
    ) -> bool:
        """Take what an event said. False when it says nothing new, comes late, or speaks of a simulator that has a
        successor. ``changed_in`` and ``queue_position`` as in SessionEvent; changed_in None: a row that is gone has
        no number.
        """
        if self._is_late(simulator_id, changed_in) or self._has_successor(simulator_id, status):
            return False
        self.simulator_version += 1
        is_news = self.would_change(simulator_id, status, reason, changed_in)
        if changed_in is not None:
            self.simulator_changed_in = changed_in
        position = self._position_after(simulator_id, status, queue_position)
        if not is_news and position == self.queue_position:
            return False
        self.queue_position = position
        self.simulator_id, self.simulator_reason = simulator_id, reason
        self.simulator_status = shown_status(status)
        return True

    def would_change(self, simulator_id: str | None, status: str, reason: str | None, changed_in: int | None) -> bool:
        """Whether this is news, not older than what is known, of a simulator that has no successor."""
        said = (simulator_id, shown_status(status), reason)
        known = (self.simulator_id, self.simulator_status, self.simulator_reason)
        if said == known or self._is_late(simulator_id, changed_in):
            return False
        return not self._has_successor(simulator_id, status)

    def _position_after(self, simulator_id: str | None, status: str, said: int | None) -> int | None:
        if not _is_creating(status) or said == NOT_QUEUED:
            return None
        if said is None:  # it says nothing of that
            return self.queue_position if simulator_id == self.simulator_id else None
        return said

    def _is_late(self, simulator_id: str | None, changed_in: int | None) -> bool:
        """Numbers of two simulators say nothing of their order."""
        return simulator_id == self.simulator_id and changed_in is not None and changed_in < self.simulator_changed_in

    def _has_successor(self, simulator_id: str | None, status: str) -> bool:
        return (
            simulator_id != self.simulator_id
            and self.simulator_status in LIVE_STATUSES
            and status not in LIVE_STATUSES
        )


def _is_creating(status: str) -> bool:
    return status == SimulatorStatus.CREATING
