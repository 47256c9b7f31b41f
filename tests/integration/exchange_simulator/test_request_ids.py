"""Orders said again, late or by two at once: a request id stands for one order and its content."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import grpc

from exchange_api import exchange_pb2 as pb

if TYPE_CHECKING:
    from tests.integration.exchange_simulator.conftest import Serve

SESSION = "session-1"
REQUEST_IDS = 5


async def test_of_orders_with_one_request_id_one_stands_and_its_repetitions_are_told_of_it(serve: Serve) -> None:
    random_ = random.Random(5)
    client = await serve()
    await client.StartSimulator(pb.StartSimulatorRequest(session_id=SESSION))
    standing: dict[str, tuple[int, str]] = {}  # by request id: the quantity that was first, and its order

    async def submit(request_id: str, quantity: int) -> tuple[str, int, str | None]:
        """The order's id; None where the request id stands for another order."""
        await asyncio.sleep(random_.choice((0.0, 0.0, 0.002)))
        order = pb.SubmitOrderRequest(
            session_id=SESSION,
            symbol="AAPL",
            side=pb.SubmitOrderRequest.Side.BUY,
            quantity=quantity,
            type=pb.SubmitOrderRequest.Type.MARKET,
            request_id=request_id,
        )
        try:
            answer = await client.SubmitOrder(order)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            return request_id, quantity, None
        return request_id, quantity, answer.order_id

    for _ in range(20):
        together = [(f"request-{random_.randrange(REQUEST_IDS)}", random_.choice((1, 2))) for _ in range(6)]
        answers = await asyncio.gather(*(submit(*order) for order in together))
        for request_id, quantity, order_id in answers:
            if order_id is not None:
                standing.setdefault(request_id, (quantity, order_id))
        for request_id, quantity, order_id in answers:
            first_quantity, first_order = standing[request_id]
            assert order_id == (first_order if quantity == first_quantity else None)
    assert len({order_id for _quantity, order_id in standing.values()}) == len(standing) == REQUEST_IDS
