"""What a client tells its user, and the nouns in it. Sizes and prices are as the service sends them.

The small ones that come with every update are NamedTuples: they are made by the thousand, and read-only all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """How far a client has come (docs/exchange-data.md): compare ``epoch`` for equality only."""

    epoch: int
    sequence: int


class Quote(NamedTuple):
    symbol: str
    bid: float
    ask: float
    bid_size: float
    ask_size: float
    last_price: float
    last_size: float


class OrderUpdate(NamedTuple):
    """``sequence``: the number of the update that it came with."""

    order_id: str
    symbol: str
    status: str
    filled_quantity: int
    average_price: float
    sequence: int
    reason: str | None


class Holding(NamedTuple):
    symbol: str
    quantity: float
    average_cost: float
    market_value: float


class Portfolio(NamedTuple):
    positions: tuple[Holding, ...]
    cash_balance: float
    total_value: float


@dataclass(frozen=True, slots=True)
class Connected:
    """A socket is there and the service has said where it continues.

    ``resumed``: exactly what follows the client's position comes; else a snapshot, where there is a simulator.
    ``pause_s``: how long there was no connection; None for the first one, 0 for a move without a break.
    """

    session_id: str
    client_id: str
    attempt: int
    url: str
    pod_name: str
    is_new: bool
    resumed: bool
    position: Position | None
    simulator_status: str
    heartbeat_interval_s: float
    expires_at: str
    pause_s: float | None


@dataclass(frozen=True, slots=True)
class ExchangeData:
    """Updates ``from_sequence`` … ``sequence`` of ``epoch``. ``snapshot``: it replaces everything that was before.

    Each symbol is at most once in ``quotes``; ``order_updates`` are in order, each one new to this client;
    ``portfolio`` None: unchanged.
    """

    epoch: int
    from_sequence: int
    sequence: int
    snapshot: bool
    timestamp_ms: int
    quotes: tuple[Quote, ...]
    order_updates: tuple[OrderUpdate, ...]
    portfolio: Portfolio | None

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.sequence)


@dataclass(frozen=True, slots=True)
class SimulatorStatus:
    """``queue_position``: its place among those that wait to be created, 1 is next; None: it does not wait."""

    simulator_id: str | None
    status: str
    reason: str | None
    queue_position: int | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost; the next try is made in ``retry_in_s``. Also told of each try that failed.

    ``close_code`` None: there was none (a refused upgrade, a network that failed).
    """

    reason: str
    close_code: int | None
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class PodTerminating:
    """The pod goes; the client moves by itself in ``reconnect_after_s``."""

    reconnect_after_s: float
    deadline_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class QualityChanged:
    """The service's judgement: ``GOOD``, ``DEGRADED`` or ``POOR``."""

    quality: str
    reconnect_recommended: bool


@dataclass(frozen=True, slots=True)
class SequenceViolated:
    """A frame broke the sequence rule. It was not applied, and a snapshot was asked for.

    ``kind``: ``GAP``, ``DUPLICATE``, ``WRONG_EPOCH`` or ``MALFORMED``. ``expected`` is the number that had to come
    next; None where only a snapshot could.
    """

    kind: str
    epoch: int
    from_sequence: int
    sequence: int
    expected: int | None


@dataclass(frozen=True, slots=True)
class ServiceNotice:
    """An ``error`` frame that answers no command; the connection stays."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over (``ended``, ``expired``, ``limit``, or ``invalid``); the iteration ends after it."""

    reason: str


Event = (
    Connected
    | ExchangeData
    | SimulatorStatus
    | Disconnected
    | PodTerminating
    | QualityChanged
    | SequenceViolated
    | ServiceNotice
    | SessionEnded
)
