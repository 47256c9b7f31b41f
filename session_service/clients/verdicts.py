"""What was found out about tokens, for a short while. Pure; never holds a token."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


def digest(token: str) -> bytes:
    """The key of a token: its SHA-256."""
    # Lone surrogates cannot be in a valid token, but must not raise here either.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class VerdictCache(Generic[V]):
    """A bounded map from a token's digest to a verdict with an end, least recently used out first.

    Instants are Unix seconds. A clock that was set back must not lengthen a verdict's life: one that lies in the
    future counts as none.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, tuple[V, float, float]] = OrderedDict()

    def get(self, key: bytes, now_s: float) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        verdict, since_s, until_s = entry
        if since_s <= now_s < until_s:
            self._entries.move_to_end(key)
            return verdict
        del self._entries[key]
        return None

    def put(self, key: bytes, verdict: V, now_s: float, until_s: float) -> None:
        if until_s <= now_s:
            return
        self._entries[key] = (verdict, now_s, until_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
