"""The service's frames and answers as types (docs/protocol.md). Pure; a field that is missing raises KeyError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_service_client.events import (
    Connected,
    ExchangeData,
    Holding,
    OrderUpdate,
    PodTerminating,
    Portfolio,
    Position,
    QualityChanged,
    Quote,
    ServiceNotice,
    SimulatorStatus,
)

Frame = Mapping[str, Any]


def read_connected(frame: Frame, *, url: str, attempt: int, pause_s: float | None) -> Connected:
    epoch, sequence = frame["epoch"], frame["sequence"]
    return Connected(
        session_id=frame["sessionId"],
        client_id=frame["clientId"],
        attempt=attempt,
        url=url,
        pod_name=frame["podName"],
        is_new=frame["isNew"],
        resumed=frame["resumed"],
        position=None if epoch is None or sequence is None else Position(epoch, sequence),
        simulator_status=frame["simulatorStatus"],
        heartbeat_interval_s=frame["heartbeatIntervalMs"] / 1000,
        expires_at=frame["expiresAt"],
        pause_s=pause_s,
    )


def read_exchange_data(frame: Frame) -> ExchangeData:
    data = frame["data"]
    portfolio = data["portfolio"]
    return ExchangeData(
        epoch=frame["epoch"],
        from_sequence=frame["fromSequence"],
        sequence=frame["sequence"],
        snapshot=frame["snapshot"],
        timestamp_ms=data["timestamp"],
        quotes=tuple(
            [
                Quote(
                    one["symbol"],
                    one["bid"],
                    one["ask"],
                    one["bidSize"],
                    one["askSize"],
                    one["lastPrice"],
                    one["lastSize"],
                )
                for one in data["marketData"]
            ]
        ),
        order_updates=tuple([_order_update(one) for one in data["orderUpdates"]]),
        portfolio=None if portfolio is None else _portfolio(portfolio),
    )


def _order_update(one: Frame) -> OrderUpdate:
    return OrderUpdate(
        one["orderId"],
        one["symbol"],
        one["status"],
        one["filledQuantity"],
        one["averagePrice"],
        one["sequence"],
        one.get("reason"),
    )


def _portfolio(portfolio: Frame) -> Portfolio:
    return Portfolio(
        tuple(
            [
                Holding(one["symbol"], one["quantity"], one["averageCost"], one["marketValue"])
                for one in portfolio["positions"]
            ]
        ),
        portfolio["cashBalance"],
        portfolio["totalValue"],
    )


def read_simulator_status(frame: Frame) -> SimulatorStatus:
    return SimulatorStatus(frame["simulatorId"], frame["status"], frame.get("reason"), frame.get("queuePosition"))


def read_pod_terminating(frame: Frame) -> PodTerminating:
    return PodTerminating(frame["reconnectAfterMs"] / 1000, frame["deadlineMs"] / 1000, frame["reason"])


def read_quality(frame: Frame) -> QualityChanged:
    return QualityChanged(frame["quality"], frame["reconnectRecommended"])


def read_notice(frame: Frame) -> ServiceNotice:
    return ServiceNotice(frame["errorCode"], frame["message"])
