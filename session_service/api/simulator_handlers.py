"""``/api/simulators``: start, look at and stop simulators. These calls ask; the reconciler does the work."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from aiohttp import web

from session_service.api.path_ids import checked_session_id, session_id_of_query, simulator_id_of
from session_service.api.responses import json_response, read_body
from session_service.domain.identity import Identity
from session_service.domain.simulator import Simulator, shown_status
from session_service.sessions.manager import SessionManager
from session_service.wire.rest import (
    SimulatorAnswer,
    SimulatorStarted,
    SimulatorStopped,
    SimulatorView,
    StartSimulatorRequest,
    simulator_view,
)


class SimulatorHandlers:
    """Every handler may raise the errors of its operation, and ``UnavailableError`` while the database is away."""

    def __init__(self, sessions: SessionManager) -> None:
        self._simulators = sessions.simulator_ops
        self._start_body = msgspec.json.Decoder(StartSimulatorRequest)

    async def handle_start_simulator(self, request: web.Request, identity: Identity) -> web.Response:
        # Every field is optional, so that a call without a body is complete.
        body = await read_body(request, self._start_body) if request.can_read_body else StartSimulatorRequest()
        body.check()
        session_id = None if body.session_id is None else checked_session_id(body.session_id)
        simulator, created = await self._simulators.start_simulator(
            identity, session_id, body.initial_symbols, body.initial_cash
        )
        answer = SimulatorStarted(simulator_id=simulator.simulator_id, status=shown_status(simulator.status))
        return json_response(answer, status=202 if created else 200)

    async def handle_find_simulator(self, request: web.Request, identity: Identity) -> web.Response:
        simulator = await self._simulators.get_for_session(identity, session_id_of_query(request))
        return json_response(SimulatorAnswer(simulator=None if simulator is None else await self._view(simulator)))

    async def handle_get_simulator(self, request: web.Request, identity: Identity) -> web.Response:
        simulator = await self._simulators.get(identity, simulator_id_of(request))
        return json_response(SimulatorAnswer(simulator=await self._view(simulator)))

    async def handle_stop_simulator(self, request: web.Request, identity: Identity) -> web.Response:
        simulator = await self._simulators.stop_simulator(identity, simulator_id_of(request))
        return json_response(SimulatorStopped(status=simulator.status))

    async def handle_stop_session_simulator(self, request: web.Request, identity: Identity) -> web.Response:
        status = await self._simulators.stop_for_session(identity, session_id_of_query(request))
        return json_response(SimulatorStopped(status=status))

    async def _view(self, simulator: Simulator) -> SimulatorView:
        return simulator_view(simulator, datetime.now(UTC), await self._simulators.queue_position(simulator))
