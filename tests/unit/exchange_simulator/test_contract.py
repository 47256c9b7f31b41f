"""The numbers and types of the contract that simulators of others speak: never to change."""

import pytest

from exchange_api.exchange_pb2 import DESCRIPTOR

MESSAGES = {
    "StartSimulatorRequest": "session_id=1 user_id=2 initial_symbols=3 initial_cash=4",
    "StartSimulatorResponse": "success=1 error_message=2 simulator_id=3",
    "StopSimulatorRequest": "session_id=1",
    "StopSimulatorResponse": "success=1 error_message=2",
    "StreamRequest": "session_id=1 client_id=2 symbols=3 epoch=4 from_sequence=5",
    "ExchangeDataUpdate": "timestamp=1 market_data=2 order_updates=3 portfolio=4 epoch=5 sequence=6 "
    "from_sequence=7 snapshot=8",
    "MarketData": "symbol=1 bid=2 ask=3 bid_size=4 ask_size=5 last_price=6 last_size=7",
    "OrderUpdate": "order_id=1 symbol=2 status=3 filled_quantity=4 average_price=5 sequence=6 reason=7",
    "PortfolioStatus": "positions=1 cash_balance=2 total_value=3",
    "Position": "symbol=1 quantity=2 average_cost=3 market_value=4",
    "HeartbeatRequest": "session_id=1 client_id=2 client_timestamp=3",
    "HeartbeatResponse": "success=1 server_timestamp=2",
    "SubmitOrderRequest": "session_id=1 symbol=2 side=3 quantity=4 price=5 type=6 request_id=7",
    "SubmitOrderResponse": "success=1 order_id=2 error_message=3 status=4 filled_quantity=5 average_price=6",
    "CancelOrderRequest": "session_id=1 order_id=2",
    "CancelOrderResponse": "success=1 error_message=2",
    "GetOrderStatusRequest": "session_id=1 order_id=2",
    "GetOrderStatusResponse": "status=1 filled_quantity=2 avg_price=3 error_message=4",
    "GetSimulatorStatusRequest": "session_id=1",
    "GetSimulatorStatusResponse": "status=1 simulator_id=2 uptime_seconds=3 error_message=4",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_keep_their_numbers(name: str) -> None:
    fields = DESCRIPTOR.message_types_by_name[name].fields
    assert " ".join(f"{field.name}={field.number}" for field in fields) == MESSAGES[name]


def test_the_service_keeps_its_name_and_calls() -> None:
    service = DESCRIPTOR.services_by_name["ExchangeSimulator"]
    assert service.full_name == "exchange.ExchangeSimulator"
    assert [(call.name, call.server_streaming) for call in service.methods] == [
        ("StartSimulator", False),
        ("StopSimulator", False),
        ("StreamExchangeData", True),
        ("Heartbeat", False),
        ("SubmitOrder", False),
        ("CancelOrder", False),
        ("GetOrderStatus", False),
        ("GetSimulatorStatus", False),
    ]
    assert set(DESCRIPTOR.message_types_by_name) == set(MESSAGES)
