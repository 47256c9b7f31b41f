"""One user's calls of ``/api/v1/sessions``, as a client of document 004 makes them."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from tests.support.service import Service, bearer


def random_user() -> int:
    """A user whom no earlier test had: databases are a test's own, but one Redis may serve them all."""
    return random.randrange(1, 2**31)


class NamedClient:
    """``call`` returns status and body; the others insist on success. Titles are encoded whole, slashes too."""

    def __init__(self, service: Service, user_id: int = 1) -> None:
        self.user_id = user_id
        self.headers = bearer(str(user_id))
        self._http: aiohttp.ClientSession = service.http
        self._url = service.url

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """``path`` follows ``/api/v1/sessions`` and is sent as it is."""
        async with self.request(method, path, **options) as response:
            return response.status, await response.json()

    def request(self, method: str, path: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """As ``call``, for what is not in the body. ``headers`` of the options stand for all of the user's."""
        return self._http.request(method, self.url(path), **{"headers": self.headers, **options})

    def url(self, path: str) -> URL:
        return URL(f"{self._url}/api/v1/sessions{path}", encoded=True)

    async def try_create(self, title: str) -> tuple[int, Any]:
        return await self.call("POST", "/", json={"title": title})

    async def try_switch(self, title: str) -> tuple[int, Any]:
        return await self.call("POST", f"/active/{quote(title, safe='')}")

    async def try_delete(self, title: str) -> tuple[int, Any]:
        return await self.call("DELETE", f"/{quote(title, safe='')}")

    async def try_active(self) -> tuple[int, Any]:
        return await self.call("GET", "/active")

    async def create(self, title: str) -> str:
        """The new session's id."""
        status, body = await self.try_create(title)
        assert status == 200, body
        session_id: str = body["id"]
        return session_id

    async def switch(self, title: str) -> None:
        status, body = await self.try_switch(title)
        assert status == 200, body

    async def active(self) -> str:
        status, body = await self.try_active()
        assert status == 200, body
        session_id: str = body
        return session_id

    async def sessions(self) -> list[dict[str, Any]]:
        status, body = await self.call("GET", "/")
        assert status == 200, body
        found: list[dict[str, Any]] = body
        return found

    async def titles(self) -> dict[str, bool]:
        """In the order of the answer, and whether each is active."""
        return {session["title"]: session["active"] for session in await self.sessions()}
