"""The one timer of all sessions of the process."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ticker(Generic[Item]):
    """A timer wheel: each item is called once per interval, the items spread evenly over it.

    Empty slots cost nothing, so a process with one session wakes once per interval. A loop that was held up
    does not catch up: lost ticks stay lost.
    """

    SLOTS = 20

    def __init__(self, interval_s: float, call: Callable[[Item], None]) -> None:
        """`call` must not raise: it would end the wheel."""
        self._interval_s = interval_s
        self._call = call
        self._slots: list[dict[Item, None]] = [{} for _ in range(self.SLOTS)]
        self._occupied = asyncio.Event()

    def add(self, item: Item) -> None:
        """Begins to call with `item`, within one interval."""
        min(self._slots, key=len)[item] = None
        self._occupied.set()

    def remove(self, item: Item) -> None:
        """Ends it; nothing happens when it is not there."""
        for slot in self._slots:
            slot.pop(item, None)
        if not any(self._slots):
            self._occupied.clear()

    async def run(self) -> None:
        """Turns the wheel until cancelled."""
        loop = asyncio.get_running_loop()
        width_s = self._interval_s / self.SLOTS
        turn, due_s = 0, loop.time()
        while True:
            await self._occupied.wait()
            turn, due_s = turn + 1, due_s + width_s
            if not self._slots[turn % self.SLOTS]:
                continue
            behind_s = loop.time() - due_s
            if behind_s > self._interval_s:
                due_s += behind_s
            # Also when it is late: whoever else waits for the loop gets a turn between slots.
            await asyncio.sleep(max(0.0, -behind_s))
            for item in list(self._slots[turn % self.SLOTS]):
                self._call(item)
