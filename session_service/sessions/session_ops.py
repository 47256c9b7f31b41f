"""session_ops: the life of a session, from POST to its end."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import structlog

from session_service.database.events import EventBus
from session_service.database.presence import PodPresence
from session_service.database.sessions import SessionRepository
from session_service.domain.events import EventType, SessionEvent
from session_service.domain.identity import SCOPE_SIMULATORS, ClientInfo, Identity
from session_service.domain.session import RECONNECTING_LIMIT_S, EndedSession, EndReason, Session, SessionStatus
from session_service.errors import SessionExpiredError, SessionNotFoundError, SessionNotReadyError
from session_service.sessions.activity import ActivityLog
from session_service.sessions.metadata_log import MetadataLog
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class SessionOps:
    """Every call may raise DatabaseUnavailableError. A session of somebody else is one that does not exist."""

    def __init__(
        self,
        repository: SessionRepository,
        presence: PodPresence,
        events: EventBus,
        activity: ActivityLog,
        metadata: MetadataLog,
        metrics: Metrics,
        *,
        pod_name: str,
        pod_id: Callable[[], str],
        max_per_user: int,
    ) -> None:
        self._repository = repository
        self._presence = presence
        self._events = events
        self._activity = activity
        self._metadata = metadata
        self._metrics = metrics
        self._pod_name = pod_name
        self._pod_id = pod_id
        self._max_per_user = max_per_user
        events.subscribe(self._on_event)

    async def open(self, identity: Identity, device_id: str, client: ClientInfo) -> tuple[Session, bool]:
        """The caller's session of this device, made if there is none; and whether it is new.

        Idempotent, also among concurrent calls on several pods: a unique index decides. Raises
        SessionLimitReachedError.
        """
        existing = await self._repository.find_by_device(identity.user_id, device_id)
        if existing is not None:
            self._activity.touch(existing.session_id)
            self._metrics.operations_total.labels("get").inc()
            return existing, False
        opened = await self._repository.open(
            str(uuid.uuid4()),
            identity.user_id,
            device_id,
            self._max_per_user,
            self._first_metadata(device_id, client),
            self._pod_id(),
        )
        session = opened.session
        if opened.ended_session_id is not None:
            self._ended(opened.ended_session_id, identity.user_id, EndReason.LIMIT)
        if opened.is_new:
            self._metrics.operations_total.labels("create").inc()
            self._events.emit(EventType.SESSION_CREATED, session_id=session.session_id, user_id=identity.user_id)
            self._presence.show(session)
            log.info("session_created", session_id=session.session_id, user_id=identity.user_id)
        return session, opened.is_new

    async def get(self, identity: Identity, session_id: str) -> Session:
        """Raises SessionNotFoundError, SessionExpiredError. With the scope `simulators`: any user's session."""
        may_see_all = SCOPE_SIMULATORS in identity.scopes
        session = await self._repository.get(session_id, None if may_see_all else identity.user_id)
        if session.user_id == identity.user_id:
            self._activity.touch(session_id)
        return session

    async def own(self, identity: Identity, session_id: str) -> Session:
        """As ``get``, but the caller's own session only, whatever the scope: for calls that change something."""
        session = await self._repository.get(session_id, identity.user_id)
        self._activity.touch(session_id)
        return session

    async def list_of_user(self, identity: Identity) -> Sequence[Session]:
        """The caller's sessions, oldest first. Looking at them is using them."""
        sessions = await self._repository.of_user(identity.user_id)
        for session in sessions:
            self._activity.touch(session.session_id)
        return sessions

    async def ready(self, identity: Identity, session_id: str) -> Session:
        """A session that can be connected to. Raises SessionNotReadyError for one that has ended."""
        try:
            return await self.get(identity, session_id)
        except SessionExpiredError:
            raise SessionNotReadyError(SessionStatus.EXPIRED) from None

    async def keepalive(self, identity: Identity, session_id: str) -> Session:
        """Extend the session now. Never revives: raises SessionExpiredError, or SessionNotFoundError."""
        session = await self._repository.keepalive(session_id, identity.user_id)
        if session is None:
            await self._repository.get(session_id, identity.user_id)  # raises the one that fits
            raise SessionExpiredError  # it ran out between the two statements
        return session

    def touch(self, session_id: str) -> None:
        """The session was used: its expiry moves, with the next batch."""
        self._activity.touch(session_id)

    async def end(self, identity: Identity, session_id: str) -> EndedSession:
        """End the caller's session; its simulator goes with it. Raises SessionNotFoundError."""
        had_simulator = await self._repository.end(session_id, identity.user_id)
        if had_simulator is None:
            raise SessionNotFoundError
        self._ended(session_id, identity.user_id, EndReason.ENDED)
        return EndedSession(session_id, identity.user_id, had_simulator)

    async def end_many(self, identity: Identity, device_id: str | None) -> list[EndedSession]:
        """End the caller's session of one device, or all. Those that others end meanwhile are left."""
        ended = []
        for session_id in await self._repository.ids_of_user(identity.user_id, device_id):
            had_simulator = await self._repository.end(session_id, identity.user_id)
            if had_simulator is not None:
                self._ended(session_id, identity.user_id, EndReason.ENDED)
                ended.append(EndedSession(session_id, identity.user_id, had_simulator))
        return ended

    # --- rounds ------------------------------------------------------------------------------------------------

    async def expire(self) -> None:
        """Mark what has run out, and tell; rows that wait too long for their client become INACTIVE.

        Waits for activity that a live pod has not written yet: it may still extend what looks as if it had run out.
        """
        while marked := await self._repository.expire():  # a batch at a time: cleanup tells nobody of what is left
            for session_id, user_id in marked:
                self._ended(session_id, user_id, EndReason.EXPIRED)
        await self._repository.settle(RECONNECTING_LIMIT_S)

    async def cleanup(self) -> None:
        """Delete what ``expire`` has marked; what is not marked was told to nobody, and may yet be extended."""
        deleted = 0
        while count := await self._repository.cleanup():  # a batch at a time, since each has a time limit
            deleted += count
        if deleted:
            log.info("expired_sessions_deleted", count=deleted)

    async def measure(self) -> None:
        """Set the gauge of the sessions that this pod owns."""
        self._metrics.active_sessions.set(await self._repository.count_unexpired(self._pod_id()))

    def _first_metadata(self, device_id: str, client: ClientInfo) -> dict[str, object]:
        fields: dict[str, object] = {
            "pod_name": self._pod_name,
            "device_id": device_id,
            "reconnect_count": 0,
            "frontend_connections": 0,
            "sse_connections": 0,
            "connection_quality": "GOOD",
        }
        if client.ip_address:
            fields["ip_address"] = client.ip_address
        if client.user_agent:
            fields["user_agent"] = client.user_agent[:512]
        return fields

    def _ended(self, session_id: str, user_id: str, reason: EndReason) -> None:
        operation = "expire" if reason is EndReason.EXPIRED else "end"
        self._metrics.operations_total.labels(operation).inc()
        log.info("session_ended", session_id=session_id, user_id=user_id, reason=reason.value)
        self._events.emit(EventType.SESSION_ENDED, session_id=session_id, user_id=user_id, reason=reason.value)
        self._presence.hide(session_id)

    def _on_event(self, event: SessionEvent) -> None:
        if event.type is EventType.SESSION_ENDED and event.session_id is not None:
            self._activity.forget(event.session_id)
            self._metadata.forget(event.session_id)
