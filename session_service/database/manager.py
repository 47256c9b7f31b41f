"""DatabaseManager: opens and closes what this service keeps its data in, PostgreSQL and Redis."""

from __future__ import annotations

from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.config import Settings
from session_service.database.events import EventBus
from session_service.database.named_sessions import NamedSessionRepository
from session_service.database.orphans import OrphanRepository
from session_service.database.ownership import OwnershipRepository
from session_service.database.pods import PodRepository
from session_service.database.postgres import Postgres
from session_service.database.presence import PodPresence
from session_service.database.redis import Redis
from session_service.database.sandbox_changes import SandboxChangeRepository
from session_service.database.sandbox_sessions import SandboxSessionRepository
from session_service.database.sandbox_upkeep import SandboxUpkeepRepository
from session_service.database.sessions import SessionRepository
from session_service.database.simulators import SimulatorRepository
from session_service.database.sockets import SocketRepository
from session_service.database.sql_files import load_queries
from session_service.database.start_queue import StartQueueRepository
from session_service.database.sweeper import SweeperRepository
from session_service.database.warm_pool import WarmPoolRepository
from session_service.errors import SchemaError
from session_service.telemetry.metrics import Metrics


class DatabaseManager:
    """The repositories over one PostgreSQL pool and one Redis pool; the only owner of both.

    ``open`` does not need either to be there: a pod starts, says that it is not ready, and becomes ready.
    """

    def __init__(self, settings: Settings, metrics: Metrics, redis_breaker: CircuitBreaker) -> None:
        queries = load_queries()
        self._queries = queries
        self.postgres = Postgres(settings.database, metrics)
        self.redis = Redis(settings.redis, redis_breaker)
        self.sessions = SessionRepository(self.postgres, queries, timeout_s=settings.session.timeout_s)
        self.sockets = SocketRepository(self.postgres, queries, timeout_s=settings.session.timeout_s)
        self.simulators = SimulatorRepository(self.postgres, queries)
        self.named_sessions = NamedSessionRepository(self.postgres, queries)
        self.warm_pool = WarmPoolRepository(self.postgres, queries)
        self.start_queue = StartQueueRepository(
            self.postgres, queries, limit=settings.simulator.max_concurrent_starts
        )
        self.orphans = OrphanRepository(self.postgres, queries)
        self.pods = PodRepository(self.postgres, queries)
        self.ownership = OwnershipRepository(self.postgres, queries)
        self.sandbox_changes = SandboxChangeRepository(self.postgres, queries)
        self.sandbox_sessions = SandboxSessionRepository(self.postgres, queries)
        self.sandbox_upkeep = SandboxUpkeepRepository(self.postgres, queries)
        self.sweeper = SweeperRepository(self.postgres, queries)
        self.events = EventBus(self.redis, settings.server.pod_name)
        self.presence = PodPresence(self.redis, settings.server.pod_name, lease_s=settings.pod.lease_s)

    async def open(self) -> None:
        await self.postgres.open()

    async def close(self) -> None:
        """Close Redis, then PostgreSQL; each within its own limit."""
        await self.redis.close()
        await self.postgres.close()

    async def simulator_key(self) -> str:
        """The secret that simulator tokens are derived from. Raises DatabaseUnavailableError, SchemaError."""
        record = await self.postgres.fetch_row(
            self._queries["installation.get"], operation="get_installation", repeatable=True
        )
        if record is None:
            raise SchemaError("session.installation is empty: run `session-service migrate`")
        key: str = record["simulator_key"]
        return key

    async def ping(self) -> None:
        """One round trip to PostgreSQL. Raises DatabaseUnavailableError."""
        await self.postgres.fetch_value("SELECT 1", operation="ping", repeatable=True)
