"""What a client told its user, kept in order, and waiting for more of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from session_service_client import Event, ExchangeData, OrderUpdate, SessionClient

from tests.support.waiting import eventually

T = TypeVar("T")


class Recording:
    """Give ``add`` to a client as ``on_event``."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def order_updates(self) -> list[OrderUpdate]:
        """Those that came as updates, snapshots aside."""
        return [one for data in self.of(ExchangeData) if not data.snapshot for one in data.order_updates]


async def until(condition: Callable[[], object], what: str, *, within_s: float = 15.0) -> None:
    async def check() -> object:
        return condition()

    await eventually(check, within_s=within_s, what=what)


async def reconnected(client: SessionClient, times: int) -> None:
    """Wait until it has. Counted, not looked at: it may be back before anybody has seen it away."""
    await until(lambda: client.statistics.reconnects == times, f"reconnected {times} times; {client.statistics}")


async def streaming(client: SessionClient, more: int = 3) -> None:
    """Wait until so many more frames have come."""
    wanted = client.statistics.frames + more
    await until(lambda: client.statistics.frames >= wanted, f"{more} more frames; {client.statistics}")
