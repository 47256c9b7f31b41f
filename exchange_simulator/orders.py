"""The orders of one user: their states, and how many are remembered. Pure."""

from collections import OrderedDict
from collections.abc import Iterator
from enum import StrEnum

from exchange_simulator.order_book import Order, Side

MAX_OPEN_ORDERS = 1_000
MAX_CLOSED_ORDERS = 1_000
"""Closed orders kept for snapshots and GetOrderStatus; the longest closed are forgotten first."""


class OrderStatus(StrEnum):
    """NEW → PARTIALLY_FILLED → FILLED, or from either of the first two → CANCELED; REJECTED never was open."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"


class UserOrder:
    """One order of the user. `cost_cents` is the sum of price × quantity over its fills.

    `sequence` is that of the update which carried its present state.
    """

    __slots__ = (
        "booked",
        "cost_cents",
        "filled",
        "order_id",
        "price",
        "quantity",
        "reason",
        "sequence",
        "side",
        "status",
        "symbol",
    )

    def __init__(self, order_id: str, symbol: str, side: Side, quantity: int, price: int | None) -> None:
        self.order_id = order_id
        self.symbol = symbol
        self.side = side
        self.quantity = quantity
        self.price = price
        self.filled = 0
        self.cost_cents = 0
        self.status = OrderStatus.NEW
        self.reason = ""
        self.sequence = 0
        self.booked: Order | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may still trade."""
        return self.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)

    @property
    def average_price(self) -> float:
        """In currency units; 0 while nothing is filled."""
        return self.cost_cents / self.filled / 100 if self.filled else 0.0

    def fill(self, quantity: int, price_cents: int) -> None:
        """Books a fill."""
        self.filled += quantity
        self.cost_cents += quantity * price_cents
        self.status = OrderStatus.FILLED if self.filled == self.quantity else OrderStatus.PARTIALLY_FILLED


class OrderLog:
    """Every open order, and the MAX_CLOSED_ORDERS closed last."""

    def __init__(self) -> None:
        self._open: dict[str, UserOrder] = {}
        self._closed: OrderedDict[str, UserOrder] = OrderedDict()

    @property
    def open_count(self) -> int:
        return len(self._open)

    def get(self, order_id: str) -> UserOrder | None:
        """The order, or None when it is unknown or forgotten."""
        return self._open.get(order_id) or self._closed.get(order_id)

    def open_order(self, order_id: str) -> UserOrder:
        """An order that is known to be open; KeyError when it is not."""
        return self._open[order_id]

    def file(self, order: UserOrder) -> None:
        """Files an order under its present state; call it after each change."""
        if order.is_open:
            self._open[order.order_id] = order
            return
        self._open.pop(order.order_id, None)
        self._closed[order.order_id] = order
        if len(self._closed) > MAX_CLOSED_ORDERS:
            self._closed.popitem(last=False)

    def __iter__(self) -> Iterator[UserOrder]:
        """All remembered orders, by the update that carried their state."""
        return iter(sorted([*self._closed.values(), *self._open.values()], key=lambda order: order.sequence))
