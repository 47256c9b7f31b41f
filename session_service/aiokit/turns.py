"""So many at a time by key: others who ask for the same key wait, and go in the order in which they asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Turns(Generic[K]):
    """At most ``width`` have a key at a time. Belongs to one event loop.

    Memory is bounded by the number of keys that somebody has or waits for.
    """

    def __init__(self, width: int = 1) -> None:
        self._width = width
        self._keys: dict[K, tuple[asyncio.Semaphore, int]] = {}  # with how many have it or wait for it

    def __len__(self) -> int:
        """Keys that somebody has or waits for."""
        return len(self._keys)

    @asynccontextmanager
    async def of(self, key: K) -> AsyncIterator[None]:
        """Wait for ``key``, without limit, and have it within. Cancelled while it waits, it leaves the queue."""
        places, users = self._keys.get(key) or (asyncio.Semaphore(self._width), 0)
        self._keys[key] = places, users + 1
        try:
            async with places:
                yield
        finally:
            _, users = self._keys[key]
            if users == 1:
                del self._keys[key]
            else:
                self._keys[key] = places, users - 1
