"""Cash and positions of one user, in integers: money in cents (which are ticks × shares), quantities in shares.

Average cost: a position keeps what it cost in total, and gives up the same share of that with the shares it
gives up, so that nothing is lost to rounding when it is closed. Pure.
"""

MAX_POSITION = 2**31 - 1
"""Shares; Position.quantity is an int32."""


class Position:
    """Shares of one symbol. `cost_cents` is what they cost (of a short position: what they were sold for).

    `buying` and `selling` are the shares still to come from open orders.
    """

    __slots__ = ("buying", "cost_cents", "quantity", "selling")

    def __init__(self) -> None:
        self.quantity = 0
        self.cost_cents = 0
        self.buying = 0
        self.selling = 0

    def change(self, delta: int, price_cents: int) -> None:
        """Adds (or with a negative delta takes away) shares at a price."""
        held = self.quantity
        if held == 0 or (held > 0) == (delta > 0):
            self.cost_cents += abs(delta) * price_cents
        elif abs(delta) <= abs(held):
            self.cost_cents -= self.cost_cents * abs(delta) // abs(held)
        else:
            self.cost_cents = abs(held + delta) * price_cents
        self.quantity = held + delta


class Portfolio:
    """One user's money. `reserved_cents` is what open buy orders may still cost."""

    __slots__ = ("allow_short", "cash_cents", "positions", "reserved_cents")

    def __init__(self, cash_cents: int, *, allow_short: bool = False) -> None:
        self.cash_cents = cash_cents
        self.reserved_cents = 0
        self.allow_short = allow_short
        self.positions: dict[str, Position] = {}

    def position(self, symbol: str) -> Position:
        """The position in `symbol`, made when it is new."""
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position()
        return position

    def objection_to_buy(self, symbol: str, quantity: int, cost_cents: int) -> str:
        """Why this purchase may not be ordered; empty when it may."""
        if cost_cents > self.cash_cents - self.reserved_cents:
            return "insufficient cash"
        position = self.position(symbol)
        if position.quantity + position.buying + quantity > MAX_POSITION:
            return "position limit reached"
        return ""

    def objection_to_sell(self, symbol: str, quantity: int) -> str:
        """Why this sale may not be ordered; empty when it may."""
        position = self.position(symbol)
        free = position.quantity - position.selling
        if not self.allow_short:
            return "insufficient position" if quantity > free else ""
        return "position limit reached" if free - quantity < -MAX_POSITION else ""

    def reserve_buy(self, symbol: str, quantity: int, price_cents: int) -> None:
        """Sets cash aside for an open buy order; a negative quantity gives it back."""
        self.position(symbol).buying += quantity
        self.reserved_cents += quantity * price_cents

    def reserve_sell(self, symbol: str, quantity: int) -> None:
        """Sets shares aside for an open sell order; a negative quantity gives them back."""
        self.position(symbol).selling += quantity

    def buy(self, symbol: str, quantity: int, price_cents: int) -> None:
        """Books a purchase."""
        self.cash_cents -= quantity * price_cents
        self.position(symbol).change(quantity, price_cents)

    def sell(self, symbol: str, quantity: int, price_cents: int) -> None:
        """Books a sale."""
        self.cash_cents += quantity * price_cents
        self.position(symbol).change(-quantity, price_cents)
