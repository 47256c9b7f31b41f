"""The order book's throughput, beside a plain book on sortedcontainers, over the same orders in the same run.

The flow is a limit-order market in miniature: prices within ten ticks of a wandering middle, sizes 1 to 99, one
command in ten a cancel of an earlier order. Both books must produce the same fills, or the figures are refused.
Rounds alternate between the two, so that both see the same machine; each figure is the best of its rounds.
"""

from __future__ import annotations

import gc
import json
import platform
import random
import subprocess
import time
from collections import OrderedDict
from collections.abc import Callable

from sortedcontainers import SortedDict

from exchange_simulator.order_book import Order, OrderBook, Side

COMMANDS = 300_000
ROUNDS = 5
SEED = 1
GOAL_PER_S = 400_000

Command = tuple[Side | None, int, int]
"""(side, price, quantity), or (None, number of an earlier command whose order to cancel, 0)."""


def order_flow() -> list[Command]:
    chooser = random.Random(SEED)
    middle = 10_000.0
    flow: list[Command] = []
    for number in range(COMMANDS):
        middle += chooser.random() - 0.5
        if number and chooser.random() < 0.1:
            flow.append((None, chooser.randrange(max(0, number - 500), number), 0))
        else:
            side = Side.BUY if chooser.random() < 0.5 else Side.SELL
            flow.append((side, int(middle + (chooser.random() - 0.5) * 20), chooser.randrange(1, 100)))
    return flow


class Outcome:
    """What a book did with the flow: enough to see that two books did the same."""

    def __init__(self) -> None:
        self.orders = 0
        self.matched = 0
        self.fills = 0
        self.turnover = 0

    def key(self) -> tuple[int, int, int, int]:
        return self.orders, self.matched, self.fills, self.turnover


def run_own(flow: list[Command]) -> Outcome:
    """The simulator's book."""
    book, outcome = OrderBook(), Outcome()
    orders: list[Order | None] = []
    for side, price, quantity in flow:
        if side is None:
            earlier = orders[price]
            if earlier is not None:
                book.cancel(earlier)
            orders.append(None)
            continue
        order = Order(side, price, quantity)
        orders.append(order)
        fills = book.submit(order)
        outcome.orders += 1
        if fills:
            outcome.matched += 1
            outcome.fills += len(fills)
            for resting, traded in fills:
                outcome.turnover += resting.price * traded
    return outcome


class PlainBook:
    """Price → orders in a SortedDict per side, orders in an OrderedDict per price: the obvious way."""

    def __init__(self) -> None:
        self.bids: SortedDict = SortedDict()
        self.asks: SortedDict = SortedDict()
        self.places: dict[int, tuple[Side, int]] = {}

    def submit(self, number: int, side: Side, price: int, quantity: int) -> list[tuple[int, int]]:
        fills = []
        buys = side is Side.BUY
        opposite = self.asks if buys else self.bids
        while quantity and opposite:
            best, level = opposite.peekitem(0 if buys else -1)
            if best > price if buys else best < price:
                break
            while quantity and level:
                resting, available = next(iter(level.items()))
                traded = min(quantity, available)
                quantity -= traded
                fills.append((best, traded))
                if traded == available:
                    del level[resting], self.places[resting]
                else:
                    level[resting] = available - traded
            if not level:
                del opposite[best]
        if quantity:
            own = self.bids if buys else self.asks
            if price not in own:
                own[price] = OrderedDict()
            own[price][number] = quantity
            self.places[number] = (side, price)
        return fills

    def cancel(self, number: int) -> None:
        place = self.places.pop(number, None)
        if place is None:
            return
        side, price = place
        own = self.bids if side is Side.BUY else self.asks
        del own[price][number]
        if not own[price]:
            del own[price]


def run_plain(flow: list[Command]) -> Outcome:
    """The comparator."""
    book, outcome = PlainBook(), Outcome()
    for number, (side, price, quantity) in enumerate(flow):
        if side is None:
            book.cancel(price)
            continue
        fills = book.submit(number, side, price, quantity)
        outcome.orders += 1
        if fills:
            outcome.matched += 1
            outcome.fills += len(fills)
            for at, traded in fills:
                outcome.turnover += at * traded
    return outcome


def timed(run: Callable[[list[Command]], Outcome], flow: list[Command]) -> tuple[float, Outcome]:
    """Seconds of CPU, and what was done."""
    gc.collect()
    started_s = time.process_time()
    outcome = run(flow)
    return time.process_time() - started_s, outcome


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main() -> None:
    flow = order_flow()
    own_s, plain_s = [], []
    for _ in range(ROUNDS):
        seconds, own = timed(run_own, flow)
        own_s.append(seconds)
        seconds, plain = timed(run_plain, flow)
        plain_s.append(seconds)
        if own.key() != plain.key():
            raise SystemExit("the books disagree: the figures would mean nothing")
    own_per_s, plain_per_s = own.orders / min(own_s), own.orders / min(plain_s)
    result = {
        "benchmark": "order_book",
        "machine": f"{platform.machine()} {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit(),
        "figures": {
            "orders_per_s": round(own_per_s),
            "matched_orders_per_s": round(own.matched / min(own_s)),
            "fills_per_s": round(own.fills / min(own_s)),
            "sortedcontainers_orders_per_s": round(plain_per_s),
            "ratio": round(own_per_s / plain_per_s, 2),
            "goal_orders_per_s": GOAL_PER_S,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
