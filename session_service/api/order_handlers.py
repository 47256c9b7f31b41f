"""``/api/simulators/{id}/orders``: orders of a running simulator. A rejected order is an answer, not an error."""

from __future__ import annotations

import msgspec
from aiohttp import web

from session_service.api.path_ids import order_id_of, simulator_id_of
from session_service.api.responses import json_response, read_body
from session_service.domain.identity import Identity
from session_service.sessions.manager import SessionManager
from session_service.wire.rest import OrdersAnswer, SubmitOrderRequest, order_answer, order_view


class OrderHandlers:
    """Every handler may raise the errors of its operation, and ``UnavailableError`` while the simulator is away."""

    def __init__(self, sessions: SessionManager) -> None:
        self._simulators = sessions.simulator_ops
        self._submit_body = msgspec.json.Decoder(SubmitOrderRequest)

    async def handle_submit_order(self, request: web.Request, identity: Identity) -> web.Response:
        simulator_id = simulator_id_of(request)
        order = (await read_body(request, self._submit_body)).to_order()
        return json_response(order_answer(await self._simulators.submit_order(identity, simulator_id, order)))

    async def handle_list_orders(self, request: web.Request, identity: Identity) -> web.Response:
        orders = await self._simulators.list_orders(identity, simulator_id_of(request))
        return json_response(OrdersAnswer(orders=tuple(map(order_view, orders))))

    async def handle_get_order(self, request: web.Request, identity: Identity) -> web.Response:
        order = await self._simulators.get_order(identity, simulator_id_of(request), order_id_of(request))
        return json_response(order_answer(order))

    async def handle_cancel_order(self, request: web.Request, identity: Identity) -> web.Response:
        order = await self._simulators.cancel_order(identity, simulator_id_of(request), order_id_of(request))
        return json_response(order_answer(order))
