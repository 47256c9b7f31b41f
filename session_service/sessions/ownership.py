"""Which sessions this pod looks after: claimed, adopted, released, and lost (docs/lifecycle.md#ownership).

Nothing here is remembered: what a pod owns it reads again from PostgreSQL with each step that it takes, so a lost
reply or a lost event leaves no wrong belief behind.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from session_service.aiokit.backoff import Backoff
from session_service.database.events import EventBus
from session_service.database.ownership import OwnershipRepository
from session_service.domain.events import EventType, SessionEvent
from session_service.domain.placement import ClaimCause, Standing, Takeover, standing
from session_service.errors import DatabaseUnavailableError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_GATHER_S = 0.02  # sockets that come together are claimed by one statement
_CLAIM_BATCH = 500
_ADOPTION_BATCH = 200
_RELEASE_BATCH = 1000
_NAMED_IN_LOG = 20
_TAKEN_FROM_ANOTHER = frozenset(ClaimCause) - {ClaimCause.NEW}


class SessionOwnership:
    """Claims run in the background: no socket waits for one.

    ``on_taken`` is called with the sessions that have come to this pod, whose simulators have to be looked at.
    """

    def __init__(
        self,
        repository: OwnershipRepository,
        events: EventBus,
        metrics: Metrics,
        *,
        pod_id: Callable[[], str],
        on_taken: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._repository = repository
        self._events = events
        self._metrics = metrics
        self._pod_id = pod_id
        self._on_taken = on_taken
        self._wanted: dict[str, None] = {}
        self._waiting = asyncio.Event()
        for cause in _TAKEN_FROM_ANOTHER:
            metrics.takeovers_total.labels(cause.value)  # a first event is seen as an increase only from a 0
        events.subscribe(self._on_event)

    # --- taking ----------------------------------------------------------------------------------------------

    def want(self, session_id: str) -> None:
        """A client of this session has come to this pod: its housekeeping should follow. Never blocks."""
        self._wanted[session_id] = None
        self._waiting.set()

    async def run_claims(self) -> None:
        """Claim what is wanted, a batch per statement. Runs until it is cancelled.

        While PostgreSQL is away the claims wait; what is forgotten nonetheless is found by ``adopt``.
        """
        backoff = Backoff(first_s=0.1, max_s=2.0)
        failures = 0
        while True:
            await self._waiting.wait()
            await asyncio.sleep(_GATHER_S)
            batch = [self._wanted.popitem()[0] for _ in range(min(_CLAIM_BATCH, len(self._wanted)))]
            if not self._wanted:
                self._waiting.clear()
            try:
                await self._took(await self._repository.claim(self._pod_id(), batch))
            except DatabaseUnavailableError:
                failures += 1
                for session_id in batch:
                    self.want(session_id)
                await asyncio.sleep(backoff.delay_s(failures, random.random))
            else:
                failures = 0

    async def adopt(self) -> None:
        """Take what nobody looks after: of dead pods, released, or never owned. Raises DatabaseUnavailableError."""
        while True:
            taken = await self._repository.adopt(self._pod_id(), _ADOPTION_BATCH)
            await self._took(taken)
            if len(taken) < _ADOPTION_BATCH:
                return

    async def _took(self, taken: Sequence[Takeover]) -> None:
        if not taken:
            return
        by_origin: dict[tuple[ClaimCause, str | None], list[str]] = defaultdict(list)
        for takeover in taken:
            by_origin[takeover.cause, takeover.previous_pod_id].append(takeover.session_id)
            if takeover.previous_pod_id is not None:
                self._events.emit(
                    EventType.SESSION_MIGRATED,
                    session_id=takeover.session_id,
                    owner_pod_id=self._pod_id(),
                    previous_pod_name=takeover.previous_pod_id.rpartition("#")[0],
                    reason=takeover.cause.value,
                )
        for (cause, previous), session_ids in by_origin.items():
            if cause in _TAKEN_FROM_ANOTHER:
                self._metrics.takeovers_total.labels(cause.value).inc(len(session_ids))
            log.info(
                "sessions_taken_over",
                cause=cause.value,
                from_pod_id=previous,
                pod_id=self._pod_id(),
                count=len(session_ids),
                session_ids=session_ids[:_NAMED_IN_LOG],
            )
        await self._on_taken([takeover.session_id for takeover in taken])

    # --- letting go ------------------------------------------------------------------------------------------

    async def release(self) -> None:
        """Let go of what has no socket here any more, while this pod drains. Raises DatabaseUnavailableError."""
        released = 0
        while True:
            session_ids = await self._repository.release(self._pod_id(), _RELEASE_BATCH)
            released += len(session_ids)
            if len(session_ids) < _RELEASE_BATCH:
                break
        if released:
            log.info("sessions_released", pod_id=self._pod_id(), count=released)

    async def outranked(self, session_id: str, epoch: int, highest_epoch: int) -> bool:
        """A simulator refused this pod's call, since it has seen a higher epoch. True: go on, under a higher one.

        False: the session is another pod's, and this one was too late to notice. Raises DatabaseUnavailableError.
        """
        pod_id = self._pod_id()
        raised = await self._repository.outrank(session_id, pod_id, highest_epoch)
        if raised is None:
            self._refused(session_id, epoch)
            return False
        # PostgreSQL has forgotten a claim that a simulator remembers: a standby was promoted that lacked it.
        log.warning("ownership_raised", session_id=session_id, pod_id=pod_id, epoch=raised, seen=highest_epoch)
        return True

    async def write_refused(self, session_id: str, pod_id: str, epoch: int) -> Standing:
        """A write of this pod as the owner under ``epoch`` changed nothing: why. Raises DatabaseUnavailableError."""
        now = standing(await self._repository.get(session_id), pod_id, epoch)
        if now is Standing.FENCED:
            self._refused(session_id, epoch)
        return now

    async def heartbeats_sent(self, sent: Mapping[str, tuple[int, int]]) -> list[str]:
        """Record heartbeats: session id → owner's epoch and Unix seconds. Returns sessions that another pod owns.

        Raises DatabaseUnavailableError.
        """
        pod_id = self._pod_id()
        written = await self._repository.heartbeats_sent(pod_id, sent)
        return [
            session_id
            for session_id in sent.keys() - written
            if await self.write_refused(session_id, pod_id, sent[session_id][0]) is Standing.FENCED
        ]

    def _refused(self, session_id: str, epoch: int) -> None:
        self._metrics.stale_writes_refused_total.inc()
        log.warning("stale_write_refused", session_id=session_id, pod_id=self._pod_id(), epoch=epoch)

    def _on_event(self, event: SessionEvent) -> None:
        if event.type is EventType.CLIENT_CONNECTED and event.session_id and self._events.is_own(event):
            self.want(event.session_id)
