"""A load balancer without a hop of its own: a name that leads to the pod that is best at this moment."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

BALANCED_URL = "http://pods.test"


class Balancer(AbstractResolver):
    """Resolves every name to the pods of ``urls()``, the first one first; a client that is refused tries the next.

    ``spread``: each connection begins with another pod; else all of them prefer the first.
    """

    def __init__(self, urls: Callable[[], Sequence[str]], *, spread: bool = True) -> None:
        self.spread = spread
        self._urls = urls
        self._turns = itertools.count()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        urls = [URL(url) for url in self._urls()]
        first = next(self._turns) % len(urls) if self.spread and urls else 0
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=url.port or port, family=socket.AF_INET, proto=0, flags=0
            )
            for url in urls[first:] + urls[:first]
        ]

    async def close(self) -> None:
        """Nothing was taken."""
