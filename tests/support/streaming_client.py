"""The product's own client over a test's pods, and what a fault test wants to know of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from session_service_client import Connected, Event, ExchangeData, SequenceViolated, SessionClient

from tests.support.balancer import BALANCED_URL
from tests.support.pod_cluster import PodCluster
from tests.support.service import token

TOKEN_TTL_S = 3600.0
DEVICE_ID = "device-1"


class StreamingClient:
    """One user's tab; ``async with``. It comes back by itself, to the balancer or to the pod of ``url``.

    ``pods``: the pods that it has been connected to, in order. ``longest_gap_s``: between two frames of exchange
    data, without what the machine took; may be set to 0 to measure anew. ``violations``: frames that broke the
    sequence rule.
    """

    def __init__(self, cluster: PodCluster, user_id: str, *, url: str = BALANCED_URL) -> None:
        self.user_id = user_id
        self.pods: list[str] = []
        self.session_ids: set[str] = set()
        self.connected_at = 0.0
        self.frames = 0
        self.longest_gap_s = 0.0
        self.violations: list[SequenceViolated] = []
        self._last_frame_at: float | None = None
        self._cluster = cluster
        self._url = url
        self._exits = AsyncExitStack()
        self.client: SessionClient

    async def __aenter__(self) -> StreamingClient:
        self.client = await self._exits.enter_async_context(
            SessionClient(
                self._url,
                token=token(self.user_id, ttl_s=TOKEN_TTL_S),
                device_id=DEVICE_ID,
                http=self._cluster.http,
                on_event=self._on_event,
            )
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Close the tab; what it has counted stays."""
        await self._exits.aclose()

    @property
    def gaps(self) -> int:
        """Numbers that it was not given, seen by the rule or passed over by a snapshot."""
        return self.client.statistics.gaps + self.client.statistics.snapshots_skipping

    @property
    def duplicates(self) -> int:
        return self.client.statistics.duplicates

    async def has_frames(self, frames: int, *, within_s: float) -> None:
        """Wait until so many have come since now."""
        wanted = self.frames + frames
        async with asyncio.timeout(within_s):
            while self.frames < wanted:
                await asyncio.sleep(0.02)

    def _on_event(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, ExchangeData):
            self.frames += 1
            if self._last_frame_at is not None and now - self._last_frame_at > self.longest_gap_s:
                gap_s = self._cluster.stalls.took_s(self._last_frame_at, now)
                self.longest_gap_s = max(self.longest_gap_s, gap_s)
            self._last_frame_at = now
        elif isinstance(event, Connected):
            self.pods.append(event.pod_name)
            self.session_ids.add(event.session_id)
            self.connected_at = now
        elif isinstance(event, SequenceViolated):
            self.violations.append(event)


async def streaming_clients(exits: AsyncExitStack, cluster: PodCluster, users: list[str]) -> list[StreamingClient]:
    """A client of each user, whose simulator runs and whose first frames have come. ``exits`` ends them."""
    at_once = asyncio.Semaphore(32)

    async def one(user: str) -> StreamingClient:
        async with at_once:
            api = cluster.api(user)
            await api.start_simulator(await api.open_session())
            client = await exits.enter_async_context(StreamingClient(cluster, user))
            await client.has_frames(1, within_s=40)
            return client

    return list(await asyncio.gather(*(one(user) for user in users)))


def p99(values: list[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
