"""This pod among the pods: its row, its beat, who of the others is dead, and whether it is the last."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from session_service.database.pods import PodRepository
from session_service.database.presence import PodPresence
from session_service.domain.liveness import LivenessObserver
from session_service.errors import DatabaseUnavailableError

log = structlog.get_logger(__name__)

_BURIAL_BATCH = 500  # sessions; more would hold their rows for longer than a client should wait
_CONFIRM_EVERY_S = 0.2


class PodMembership:
    """One process and its incarnations. ``pod_id``: the pod's name and a nonce, anew after it was taken for dead.

    ``clock``: monotonic seconds.
    """

    def __init__(
        self,
        repository: PodRepository,
        presence: PodPresence,
        *,
        pod_name: str,
        address: str,
        version: str,
        lease_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.pod_name = pod_name
        self.pod_id = _new_pod_id(pod_name)
        self._repository = repository
        self._presence = presence
        self._address = address
        self._version = version
        self._lease_s = lease_s
        self._clock = clock
        self._observer = LivenessObserver(lease_s)
        self._registered = False
        self._draining = False
        self._live_at_first: dict[str, int] | None = None  # live pods and their beats, when this one began to drain

    async def ensure_registered(self) -> None:
        """Write the row, without which the pod can take no socket. Raises DatabaseUnavailableError."""
        if not self._registered:
            await self._register()

    async def succeed(self) -> None:
        """Say that earlier incarnations under this name and address are dead: this process listens there now.

        Called once, after the address is taken; a process that only takes a new incarnation may be the older one.
        Raises DatabaseUnavailableError.
        """
        await self.ensure_registered()
        for pod_id in await self._repository.declare_predecessors_dead(self.pod_name, self._address, self.pod_id):
            log.info("pod_declared_dead", dead_pod_id=pod_id, seen_by=self.pod_id, cause="succeeded")
        await self._bury()

    async def round(self) -> None:
        """Raise the beat, look at the others' beats, and declare dead whose stood still.

        Raises DatabaseUnavailableError, after which the observation begins anew.
        """
        try:
            await self._renew()
            pods = await self._repository.all()
        except DatabaseUnavailableError:
            self._observer.interrupted()
            raise
        others = [pod for pod in pods if pod.pod_id != self.pod_id]
        for pod in self._observer.look(self._clock(), others):
            if await self._repository.declare_dead(pod.pod_id, pod.beat):
                log.warning(
                    "pod_declared_dead",
                    dead_pod_id=pod.pod_id,
                    seen_by=self.pod_id,
                    cause="silent",
                    beat=pod.beat,
                    lease_s=self._lease_s,
                )
        await self._bury()
        await self._presence.announce({"address": self._address, "version": self._version, "pod_id": self.pod_id})

    async def start_draining(self) -> bool | None:
        """Mark the pod as draining. True: no live pod is left beside it; None: PostgreSQL cannot be asked."""
        self._draining = True
        await self._presence.withdraw()
        try:
            live = await self._repository.start_draining(self.pod_id)
        except DatabaseUnavailableError:
            return None
        if self._live_at_first is None:
            self._live_at_first = live
        return not live

    async def confirm_last(self, deadline_s: float) -> bool | None:
        """As ``start_draining``, but a pod counts as live only if its beat has moved since that was called first.

        A pod that was killed a moment ago still has its row: it is waited for until ``deadline_s`` of the clock, and
        either heard of or declared dead by ``round``, which has to go on being called and takes two leases at most.
        """
        while True:
            try:
                live = await self._repository.start_draining(self.pod_id)
            except DatabaseUnavailableError:
                return None
            if not live:
                return True
            if self._live_at_first is None:  # PostgreSQL was away until now
                self._live_at_first = live
            heard = self._live_at_first
            if any(heard.get(pod_id) != beat for pod_id, beat in live.items()) or self._clock() > deadline_s:
                return False
            await asyncio.sleep(min(_CONFIRM_EVERY_S, self._lease_s / 10))

    async def leave(self) -> None:
        """Remove the row. Never raises: what stays is seen to be dead by the others."""
        try:
            await self._repository.leave(self.pod_id)
        except DatabaseUnavailableError:
            log.warning("pod_row_not_removed", pod_id=self.pod_id)

    async def _renew(self) -> None:
        if not self._registered:
            await self._register()
        elif not await self._repository.beat(self.pod_id):
            # Dead is final: what this process owned is others' by now. It goes on under a new name.
            former, self.pod_id = self.pod_id, _new_pod_id(self.pod_name)
            self._registered = False
            await self._register()
            log.warning("pod_was_taken_for_dead", former_pod_id=former, pod_id=self.pod_id)

    async def _register(self) -> None:
        await self._repository.register(self.pod_id, self.pod_name, self._address, self._version)
        self._registered = True
        log.info("pod_registered", pod_id=self.pod_id)
        if self._draining:
            await self._repository.start_draining(self.pod_id)

    async def _bury(self) -> None:
        while await self._repository.bury_sockets(_BURIAL_BATCH) == _BURIAL_BATCH:
            pass


def _new_pod_id(pod_name: str) -> str:
    return f"{pod_name}#{secrets.token_hex(6)}"
