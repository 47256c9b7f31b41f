"""What the reconciler asks of whoever knows which sessions this pod looks after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from session_service.domain.placement import Standing


class Owner(Protocol):
    """Each call raises DatabaseUnavailableError."""

    async def outranked(self, session_id: str, epoch: int, highest_epoch: int) -> bool:
        """A simulator has seen a higher epoch than this pod's. True: the pod goes on under a higher one."""

    async def write_refused(self, session_id: str, pod_id: str, epoch: int) -> Standing:
        """An owner's write changed nothing: why."""

    async def heartbeats_sent(self, sent: Mapping[str, tuple[int, int]]) -> list[str]:
        """Record heartbeats: session id → owner's epoch and Unix seconds. Returns sessions that another pod owns."""
