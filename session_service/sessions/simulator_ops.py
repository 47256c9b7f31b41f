"""simulator_ops: what a user may do with simulators, and their orders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from session_service.clients.exchange import ExchangeClient
from session_service.domain.identity import Identity
from session_service.domain.simulator import (
    DEFAULT_CASH,
    DEFAULT_SYMBOLS,
    OrderRequest,
    OrderState,
    Simulator,
    SimulatorAddress,
    SimulatorStatus,
    shown_status,
)
from session_service.errors import (
    ExchangeStateLostError,
    SessionRequiredError,
    SimulatorNotFoundError,
    SimulatorNotRunningError,
)
from session_service.sessions.session_ops import SessionOps
from session_service.simulators.manager import SimulatorManager
from session_service.telemetry.metrics import Metrics

STOPPED_BY_USER = "stopped_by_user"


class SimulatorOps:
    """Every call checks whose simulator it is: somebody else's is one that does not exist.

    Every call may raise DatabaseUnavailableError; orders also ExchangeUnavailableError and CircuitOpenError, after
    which a submitted order may or may not stand: the same requestId again tells.
    """

    def __init__(
        self, sessions: SessionOps, simulators: SimulatorManager, exchange: ExchangeClient, metrics: Metrics
    ) -> None:
        self._sessions = sessions
        self._simulators = simulators
        self._exchange = exchange
        self._metrics = metrics

    async def start_simulator(
        self, identity: Identity, session_id: str | None, symbols: Sequence[str] | None, cash: float | None
    ) -> tuple[Simulator, bool]:
        """The session's live simulator, or a new one on its way; and whether it is new.

        Without ``session_id``: of the caller's only session, else SessionRequiredError. Raises SessionNotFoundError,
        SessionExpiredError, SimulatorLimitReachedError.
        """
        if session_id is None:
            sessions = await self._sessions.list_of_user(identity)
            if len(sessions) != 1:
                raise SessionRequiredError(len(sessions))
            session_id = sessions[0].session_id
        simulator, created = await self._simulators.create_simulator(
            session_id,
            identity.user_id,
            tuple(symbols) if symbols else DEFAULT_SYMBOLS,
            DEFAULT_CASH if cash is None else cash,
        )
        self._sessions.touch(session_id)
        self._metrics.simulator_operations_total.labels("start", "created" if created else "existing").inc()
        return simulator, created

    async def stop_simulator(self, identity: Identity, simulator_id: str) -> Simulator:
        """Idempotent. Raises SimulatorNotFoundError."""
        await self.get(identity, simulator_id)
        stopped = await self._simulators.stop_simulator(simulator_id, STOPPED_BY_USER)
        if stopped is None:
            raise SimulatorNotFoundError  # its session ended between the two statements
        return stopped

    async def stop_for_session(self, identity: Identity, session_id: str) -> SimulatorStatus:
        """NONE where the session has no simulator. Raises SessionNotFoundError, SessionExpiredError."""
        simulator = await self.get_for_session(identity, session_id)
        if simulator is None:
            return SimulatorStatus.NONE
        stopped = await self._simulators.stop_simulator(simulator.simulator_id, STOPPED_BY_USER)
        return stopped.status if stopped else SimulatorStatus.NONE

    async def get(self, identity: Identity, simulator_id: str) -> Simulator:
        """Raises SimulatorNotFoundError."""
        simulator = await self._simulators.get(simulator_id, identity.user_id)
        if simulator is None:
            raise SimulatorNotFoundError
        self._sessions.touch(simulator.session_id)
        return simulator

    async def get_for_session(self, identity: Identity, session_id: str) -> Simulator | None:
        """The session's live simulator, else its newest. Raises SessionNotFoundError, SessionExpiredError."""
        await self._sessions.own(identity, session_id)
        return await self.newest(session_id)

    async def newest(self, session_id: str) -> Simulator | None:
        """As ``get_for_session``, for a connection that is already known to be the session's."""
        return await self._simulators.of_session(session_id)

    async def queue_position(self, simulator: Simulator) -> int | None:
        """Where it waits to be created, 1 is next; None where it does not wait."""
        return await self._simulators.queue_position(simulator)

    async def submit_order(self, identity: Identity, simulator_id: str, order: OrderRequest) -> OrderState:
        """Place an order; a second call with the same requestId and content answers as the first.

        Raises SimulatorNotFoundError, SimulatorNotRunningError, RequestIdReusedError. A REJECTED order is an answer.
        """
        async with self._exchange_of(identity, simulator_id) as address:
            return await self._exchange.submit_order(address, order)

    async def cancel_order(self, identity: Identity, simulator_id: str, order_id: str) -> OrderState:
        """Raises SimulatorNotFoundError, SimulatorNotRunningError, OrderNotFoundError, OrderNotCancelableError."""
        async with self._exchange_of(identity, simulator_id) as address:
            return await self._exchange.cancel_order(address, order_id)

    async def get_order(self, identity: Identity, simulator_id: str, order_id: str) -> OrderState:
        """Raises SimulatorNotFoundError, SimulatorNotRunningError, OrderNotFoundError."""
        async with self._exchange_of(identity, simulator_id) as address:
            return await self._exchange.get_order(address, order_id)

    async def list_orders(self, identity: Identity, simulator_id: str) -> list[OrderState]:
        """Open orders first. Raises SimulatorNotFoundError, SimulatorNotRunningError."""
        async with self._exchange_of(identity, simulator_id) as address:
            return await self._exchange.list_orders(address)

    async def address(self, session_id: str) -> SimulatorAddress | None:
        """Where the session's running simulator answers. For the stream manager: it asks for sessions it serves."""
        return await self._simulators.address(session_id)

    @property
    def version(self) -> int:
        """As SimulatorManager.version."""
        return self._simulators.version

    def seen(self, simulator: Simulator | None, version: int) -> None:
        """As SimulatorManager.seen."""
        self._simulators.seen(simulator, version)

    async def running(self, session_id: str) -> Simulator | None:
        """The session's running simulator, for a socket that is already known to be the session's."""
        return await self._simulators.running(session_id)

    async def token(self, simulator_id: str) -> str:
        """The simulator's secret. For callers with the scope `simulators` only."""
        return await self._simulators.token(simulator_id)

    @asynccontextmanager
    async def _exchange_of(self, identity: Identity, simulator_id: str) -> AsyncIterator[SimulatorAddress]:
        """Where the caller's running simulator answers, for one call. One that does not know its session has failed,
        which the reconciler finds too: it is told, and the caller is.
        """
        address = await self._own_address(identity, simulator_id)
        try:
            yield address
        except ExchangeStateLostError:
            self._simulators.suspect(address.session_id, simulator_id)
            raise SimulatorNotRunningError(SimulatorStatus.ERROR) from None

    async def _own_address(self, identity: Identity, simulator_id: str) -> SimulatorAddress:
        simulator = await self._simulators.find(simulator_id, identity.user_id)
        if simulator is None:
            raise SimulatorNotFoundError
        self._sessions.touch(simulator.session_id)
        address = None
        if simulator.status is SimulatorStatus.RUNNING:
            address = await self._simulators.address_of(simulator)
        if address is None:
            raise SimulatorNotRunningError(shown_status(simulator.status))
        return address
