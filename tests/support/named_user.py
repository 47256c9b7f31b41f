"""One user of the named sessions' API, as a client of document 004 calls it."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from yarl import URL

from tests.support.service import Service, bearer

SESSIONS = "/api/v1/sessions/"


class NamedUser:
    """``path`` counts from ``/api/v1/sessions/`` and is sent as it stands, percent-encoded or not.

    Drawn at random: databases are a test's own, but Redis is not, and may remember a user of the same number.
    """

    def __init__(self, service: Service) -> None:
        self.user_id = random.randrange(1, 2**31)
        self.headers = bearer(str(self.user_id))
        self._service = service

    def url(self, path: str = "") -> URL:
        return URL(f"{self._service.url}{SESSIONS}{path}", encoded=True)

    def request(
        self, method: str, path: str = "", **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._service.http.request(method, self.url(path), **{"headers": self.headers, **options})

    async def call(self, method: str, path: str = "", **options: Any) -> tuple[int, Any]:
        async with self.request(method, path, **options) as response:
            return response.status, await response.json()

    async def create(self, title: str) -> str:
        """The id of the new session."""
        status, body = await self.call("POST", json={"title": title})
        assert status == 200, body
        session_id: str = body["id"]
        return session_id

    async def active(self) -> str | None:
        status, body = await self.call("GET", "active")
        if status == 404:
            return None
        assert status == 200, body
        session_id: str = body
        return session_id

    async def sessions(self) -> dict[str, bool]:
        """Titles, in the order of the answer, and whether each is active."""
        status, body = await self.call("GET")
        assert status == 200, body
        return {session["title"]: session["active"] for session in body}
