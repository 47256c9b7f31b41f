"""Which of several base URLs comes next. Pure: times are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class Endpoints:
    """Base URLs in a ring. A URL serves until it is left; then its turn comes after all the others."""

    __slots__ = ("_index", "_not_before_s", "_urls")

    def __init__(self, urls: Sequence[str]) -> None:
        if not urls:
            raise ValueError("at least one base URL is needed")
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._not_before_s = dict.fromkeys(self._urls, 0.0)
        self._index = 0

    def __len__(self) -> int:
        return len(self._urls)

    def __iter__(self) -> Iterator[str]:
        return iter(self._urls)

    def choose(self, now_s: float) -> tuple[str, float]:
        """The next URL, and how long to wait for it: 0 unless every one of them asked to be left alone."""
        ring = self._urls[self._index :] + self._urls[: self._index]
        url = min(ring, key=lambda one: max(now_s, self._not_before_s[one]))
        return url, max(0.0, self._not_before_s[url] - now_s)

    def leave(self, url: str, *, not_before_s: float = 0.0) -> None:
        """Prefer another one from now on; do not use this one before the instant that it asked for."""
        self._index = (self._urls.index(url) + 1) % len(self._urls)
        self._not_before_s[url] = not_before_s
