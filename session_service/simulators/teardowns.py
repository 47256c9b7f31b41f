"""Teardowns: removes the workloads that nobody wants any more (ADR 0001)."""

from __future__ import annotations

import asyncio

import structlog

from session_service.clients.exchange import ExchangeClient, Fence
from session_service.database.events import EventBus
from session_service.database.simulators import SimulatorRepository, Teardown
from session_service.domain.events import EventType
from session_service.domain.simulator import SimulatorAddress, SimulatorStatus
from session_service.errors import FencedError, SessionServiceError, UnavailableError
from session_service.simulators.backend import SimulatorBackend
from session_service.simulators.tokens import SimulatorTokens
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

_BATCH = 32
_LEASE_S = 30.0


class Teardowns:
    """Works off ``simulator.teardowns``, and takes down one workload for whoever owns it yet."""

    def __init__(
        self,
        repository: SimulatorRepository,
        backend: SimulatorBackend,
        exchange: ExchangeClient,
        tokens: SimulatorTokens,
        events: EventBus,
        metrics: Metrics,
    ) -> None:
        self._repository = repository
        self._backend = backend
        self._exchange = exchange
        self._tokens = tokens
        self._events = events
        self._metrics = metrics

    async def work_off(self) -> None:
        """Remove workloads whose rows are gone or failed; a lease each, so that pods share the work."""
        while teardowns := await self._repository.lease_teardowns(_BATCH, _LEASE_S):
            await asyncio.gather(*(self._remove(teardown) for teardown in teardowns))
            if len(teardowns) < _BATCH:
                return

    async def take_down(
        self,
        simulator_id: str,
        session_id: str,
        endpoint: str | None,
        uid: str | None,
        *,
        fence: Fence | None = None,
    ) -> bool:
        """StopSimulator, as far as it answers, then the workload. True: the workload is known to be gone.

        ``fence``: none where the row is gone or at its end. Nobody owns what is only to be removed, and the call
        names the simulator, so that it cannot hit a successor. Raises FencedError, BackendUnavailableError.
        """
        await self._tokens.load()
        if endpoint is not None:
            address = SimulatorAddress(session_id, simulator_id, endpoint, self._tokens.token(simulator_id))
            try:
                await self._exchange.stop_simulator(address, fence=fence)
            except FencedError:
                raise
            except SessionServiceError as error:
                # Its process is removed next, and its state with it.
                log.debug("simulator_stop_unanswered", simulator_id=simulator_id, code=error.code)
        return await self._backend.delete(simulator_id, uid)

    async def _remove(self, teardown: Teardown) -> None:
        try:
            gone = await self.take_down(
                teardown.simulator_id, teardown.session_id, teardown.endpoint, teardown.workload_uid
            )
            if gone and teardown.create_is_open:
                await self._repository.await_create(teardown)
            elif gone:
                rowless = await self._repository.teardown_done(teardown)
                log.info("simulator_workload_removed", simulator_id=teardown.simulator_id)
                if rowless and teardown.session_id:  # a spare's end is nobody's news
                    self._metrics.simulator_operations_total.labels("stop", "success").inc()
                    self._events.emit(
                        EventType.SIMULATOR_STOPPED,
                        session_id=teardown.session_id,
                        simulator_id=teardown.simulator_id,
                        status=SimulatorStatus.STOPPED.value,
                    )
        except UnavailableError as error:
            # The lease runs out, and whoever comes then tries again.
            log.warning(
                "teardown_failed", simulator_id=teardown.simulator_id, attempts=teardown.attempts, code=error.code
            )
        self._exchange.forget(teardown.simulator_id)
