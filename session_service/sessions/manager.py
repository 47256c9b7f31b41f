"""SessionManager: the four parts of a session's life, and the calls that need more than one of them."""

from __future__ import annotations

from session_service.domain.identity import ClientInfo, Identity
from session_service.domain.session import Session
from session_service.sessions.connection_quality import ConnectionQuality
from session_service.sessions.reconnection import Reconnection
from session_service.sessions.session_ops import SessionOps
from session_service.sessions.simulator_ops import SimulatorOps


class SessionManager:
    """Central coordinator (flow document). Callers use the parts directly; what stands here spans several."""

    def __init__(
        self,
        session_ops: SessionOps,
        simulator_ops: SimulatorOps,
        reconnection: Reconnection,
        connection_quality: ConnectionQuality,
    ) -> None:
        self.session_ops = session_ops
        self.simulator_ops = simulator_ops
        self.reconnection = reconnection
        self.connection_quality = connection_quality

    async def create_session(self, identity: Identity, device_id: str, client: ClientInfo) -> tuple[Session, bool]:
        """The session of (user, device): found, or made. See SessionOps.open."""
        return await self.session_ops.open(identity, device_id, client)
