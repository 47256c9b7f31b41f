"""Simulators: states, targets, orders. docs/lifecycle.md has the diagram."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

DEFAULT_SYMBOLS = ("AAPL", "GOOGL", "MSFT", "AMZN", "TSLA")
DEFAULT_CASH = 100_000.0
MAX_SYMBOLS = 100
MAX_CASH = 1e12


class SimulatorStatus(StrEnum):
    """``NONE`` stands on the wire only, for a session without a simulator."""

    NONE = "NONE"
    CREATING = "CREATING"  # the row is written, its workload is not known to exist
    STARTING = "STARTING"  # the workload exists; the exchange has not said yes to StartSimulator
    RUNNING = "RUNNING"  # it takes orders and streams
    STOPPING = "STOPPING"  # target STOPPED; the workload is not known to be gone
    STOPPED = "STOPPED"  # the workload is gone; final
    ERROR = "ERROR"  # it failed, ``reason`` says why; final, its workload is removed


LIVE_STATUSES = frozenset({SimulatorStatus.CREATING, SimulatorStatus.STARTING, SimulatorStatus.RUNNING})


def shown_status(status: str) -> SimulatorStatus:
    """What a client is shown: it need not tell apart what comes before STARTING. Raises ValueError."""
    return SimulatorStatus.STARTING if status == SimulatorStatus.CREATING else SimulatorStatus(status)


class SimulatorTarget(StrEnum):
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


class Simulator(msgspec.Struct, frozen=True):
    """One row of ``simulator.instances``. Instants are PostgreSQL's."""

    simulator_id: str
    session_id: str
    user_id: str
    status: SimulatorStatus
    target: SimulatorTarget
    endpoint: str | None
    created_at: datetime
    last_active: datetime
    initial_symbols: tuple[str, ...]
    initial_cash: float
    reason: str | None
    workload_uid: str | None
    changed_in: int = 0  # rises with each change that clients see
    was_spare: bool = False  # its workload was ready before it was asked for


class SimulatorAddress(msgspec.Struct, frozen=True):
    """What a pod needs to call one simulator. ``token`` is a secret: it never reaches a log or an answer."""

    session_id: str
    simulator_id: str
    endpoint: str  # host:port
    token: str


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"


class OrderStatus(StrEnum):
    UNKNOWN = "UNKNOWN"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"


OPEN_ORDER_STATUSES = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class OrderRequest(msgspec.Struct, frozen=True):
    """A checked order. ``price`` is there for LIMIT orders only."""

    symbol: str
    side: Side
    quantity: int
    order_type: OrderType
    price: float | None
    request_id: str


class OrderState(msgspec.Struct, frozen=True):
    """What the exchange says of one order. ``symbol`` is None where the answer does not carry it."""

    order_id: str
    status: OrderStatus
    filled_quantity: int
    average_price: float
    symbol: str | None = None
    reason: str | None = None
