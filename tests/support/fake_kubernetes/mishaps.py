"""What can happen to a request on its way, told by the test beforehand."""

from __future__ import annotations

import asyncio

import msgspec


class Mishap(msgspec.Struct, frozen=True, kw_only=True):
    """Happens to ``times`` requests of this verb and resource ("" is any), then no more.

    In this order: ``delay_s`` passes; the connection is cut before anything was done (``request_lost``); or an answer
    of ``status`` comes instead; or it is carried out, and the connection is cut (``reply_lost``). A watch with
    ``silent`` is accepted and tells nothing, not even bookmarks. ``held``: until this is set.
    """

    verb: str = ""
    plural: str = ""
    times: int = 1
    delay_s: float = 0.0
    request_lost: bool = False
    reply_lost: bool = False
    status: int = 0
    retry_after: str | None = None
    body: bytes | None = None
    silent: bool = False
    expired_event: bool = False  # a watch begins with an ERROR of 410
    held: asyncio.Event | None = None


class Mishaps:
    """``waiting``: those that have yet to happen, and to how many requests."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Mishap, int]] = []

    def add(self, mishap: Mishap) -> None:
        self.waiting.append((mishap, mishap.times))

    def clear(self) -> None:
        self.waiting.clear()

    def take(self, verb: str, plural: str) -> Mishap | None:
        for number, (mishap, left) in enumerate(self.waiting):
            if mishap.verb in {"", verb} and mishap.plural in {"", plural}:
                if left == 1:
                    del self.waiting[number]
                else:
                    self.waiting[number] = (mishap, left - 1)
                return mishap
        return None
