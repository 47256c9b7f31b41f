"""Session events: to this process at once, to other pods through Redis.

An event is a hint that saves time; what is true stands in PostgreSQL, and each pod's rounds find there what an event
that was lost would have told (docs/operations.md#redis).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from redis.exceptions import RedisError

from session_service.aiokit.backoff import Backoff
from session_service.aiokit.cancellation import check_cancelled
from session_service.database.redis import Redis
from session_service.domain.events import PEER_TYPES, EventType, SessionEvent
from session_service.domain.simulator import Simulator, SimulatorStatus

log = structlog.get_logger(__name__)

CHANNEL = "session_events"  # the documented types only: others read it
PEER_CHANNEL = "session_peer_events"  # for pods alone
OUTBOX_LIMIT = 10_000  # events waiting for Redis; past it the oldest are dropped, as if Redis had lost them
_BATCH = 200
_GATHER_S = 0.005  # events that come together go in one round trip
_POLL_S = 0.2  # below the socket timeout: a subscriber that blocks longer looks like a frozen server

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SessionEvent)


_SIMULATOR_EVENTS = {
    SimulatorStatus.RUNNING: EventType.SIMULATOR_STARTED,
    SimulatorStatus.STOPPED: EventType.SIMULATOR_STOPPED,
    SimulatorStatus.ERROR: EventType.SIMULATOR_STOPPED,
}


class EventBus:
    """Publish and subscribe. ``run_outbox`` and ``run_inbox`` are loops for the pod's task guard."""

    def __init__(self, redis: Redis, pod_name: str) -> None:
        self._redis = redis
        self._pod_name = pod_name
        self._sender = secrets.token_hex(8)  # a pod's name may be another's as well
        self._own_mark = f'"sender":"{self._sender}"'.encode()  # as encoded: most events of a pod alone are its own
        self._subscribers: list[Callable[[SessionEvent], None]] = []
        self._outbox: deque[tuple[str, bytes]] = deque(maxlen=OUTBOX_LIMIT)
        self._waiting = asyncio.Event()

    def subscribe(self, callback: Callable[[SessionEvent], None]) -> Callable[[], None]:
        """Call ``callback`` for every event of this pod and of others; returns what ends it. It must not block."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def emit(self, event_type: EventType, **fields: Any) -> None:
        """Make an event of this pod and publish it; ``fields`` as in SessionEvent."""
        self.publish(self._event(event_type, **fields))

    def is_own(self, event: SessionEvent) -> bool:
        """Was it made by this pod?"""
        return event.sender == self._sender

    def simulator_changed(
        self, simulator: Simulator, owner_pod_id: str | None = None, *, queue_position: int | None = None
    ) -> None:
        """Publish the state that a simulator's row has now. ``owner_pod_id``: whose reconciler has to act on it.
        ``queue_position`` as in SessionEvent.
        """
        self.publish(self._simulator_event(simulator, owner_pod_id=owner_pod_id, queue_position=queue_position))

    def tell_here(
        self, simulator: Simulator, owner_pod_id: str | None = None, *, queue_position: int | None = None
    ) -> None:
        """A round found the state that a simulator's row has now: as if its event had come from elsewhere."""
        self._deliver(self._simulator_event(simulator, owner_pod_id=owner_pod_id, queue_position=queue_position))

    def publish(self, event: SessionEvent) -> None:
        """Tell the subscribers here, now, and the other pods soon. Never blocks, never raises."""
        self._deliver(event)
        channel = PEER_CHANNEL if event.type in PEER_TYPES else CHANNEL
        self._outbox.append((channel, _encoder.encode(event)))
        self._waiting.set()

    async def run_outbox(self) -> None:
        """Carry published events to Redis, in order, a batch per round trip. Runs until it is cancelled."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(_GATHER_S)
            self._waiting.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what waits. What Redis does not take is dropped: the other pods find it in PostgreSQL."""
        while self._outbox:
            batch = [self._outbox.popleft() for _ in range(min(_BATCH, len(self._outbox)))]

            async def send(client: Any, batch: list[tuple[str, bytes]] = batch) -> bool:
                pipeline = client.pipeline(transaction=False)
                for channel, message in batch:
                    pipeline.publish(channel, message)
                await pipeline.execute()
                return True

            if not await self._redis.attempt(send, False):
                log.debug("events_not_sent", count=len(batch))

    async def run_inbox(self) -> None:
        """Deliver the events of other pods. Reconnects by itself; runs until it is cancelled."""
        backoff = Backoff(first_s=0.1, max_s=2.0)
        failures = 0
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                failures += 1
                log.debug("event_subscription_lost", error=type(error).__name__)
            else:
                failures = 0
            await asyncio.sleep(backoff.delay_s(max(failures, 1), random.random))

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(CHANNEL, PEER_CHANNEL)
            while True:
                check_cancelled()
                message = await pubsub.get_message(timeout=_POLL_S)
                if message is not None:
                    self._receive(message["data"])
        finally:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await pubsub.aclose()

    def _receive(self, data: bytes) -> None:
        """Anybody may write to the channels: nothing that comes by it ends the subscription."""
        if self._own_mark in data:
            return  # it was delivered when it was published
        try:
            event = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            log.warning("event_unreadable")
            return
        self._deliver(event)

    def _event(self, event_type: EventType, **fields: Any) -> SessionEvent:
        return SessionEvent(event_type, self._pod_name, time.time_ns() // 1_000_000, sender=self._sender, **fields)

    def _simulator_event(self, simulator: Simulator, **fields: Any) -> SessionEvent:
        return self._event(
            _SIMULATOR_EVENTS.get(simulator.status, EventType.SIMULATOR_STATUS),
            session_id=simulator.session_id,
            user_id=simulator.user_id,
            simulator_id=simulator.simulator_id,
            status=simulator.status.value,
            changed_in=simulator.changed_in,
            reason=simulator.reason,
            **fields,
        )

    def _deliver(self, event: SessionEvent) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:  # one subscriber's fault must not keep the event from the others
                log.exception("event_subscriber_failed", event_type=event.type)
