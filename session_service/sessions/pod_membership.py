"""This pod among the pods: its row, its beat, and whether it is the last."""

from __future__ import annotations

import secrets

import structlog

from session_service.database.pods import PodRepository
from session_service.database.presence import PodPresence
from session_service.errors import DatabaseUnavailableError

log = structlog.get_logger(__name__)


class PodMembership:
    """One incarnation: ``pod_id`` is the pod's name and a nonce of this start."""

    def __init__(
        self, repository: PodRepository, presence: PodPresence, *, pod_name: str, address: str, version: str
    ) -> None:
        self.pod_name = pod_name
        self.pod_id = f"{pod_name}#{secrets.token_hex(6)}"
        self._repository = repository
        self._presence = presence
        self._address = address
        self._version = version
        self._registered = False

    async def ensure_registered(self) -> None:
        """Write the row, without which the pod can take no socket. Raises DatabaseUnavailableError."""
        if not self._registered:
            await self._register()

    async def renew(self) -> None:
        """Register, or raise the beat. A row that was lost is written again. Raises DatabaseUnavailableError."""
        if not (self._registered and await self._repository.beat(self.pod_id)):
            await self._register()
        await self._presence.announce({"address": self._address, "version": self._version, "pod_id": self.pod_id})

    async def start_draining(self) -> bool | None:
        """Mark the pod as draining. True: no live pod is left beside it; None: PostgreSQL cannot be asked."""
        await self._presence.withdraw()
        try:
            return await self._repository.start_draining(self.pod_id)
        except DatabaseUnavailableError:
            return None

    async def leave(self) -> None:
        """Remove the row. Never raises: what stays is buried by the next pod of this name."""
        try:
            await self._repository.leave(self.pod_id)
        except DatabaseUnavailableError:
            log.warning("pod_row_not_removed", pod_id=self.pod_id)

    async def _register(self) -> None:
        waiting = await self._repository.register(self.pod_id, self.pod_name, self._address, self._version)
        self._registered = True
        log.info("pod_registered", pod_id=self.pod_id, sessions_waiting=waiting)
