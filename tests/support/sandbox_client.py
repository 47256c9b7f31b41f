"""Calls of ``/api/v1/sandbox-sessions``, as a service makes them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from tests.support.service import Service, bearer

PATH = "/api/v1/sandbox-sessions"


class SandboxClient:
    """``call`` returns status and body (None where there is none); the others insist on success."""

    def __init__(self, service: Service, *, scope: str = "sandbox") -> None:
        self.headers = bearer("a-service", scope=scope)
        self._http = service.http

    def request(self, method: str, path: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """``path`` follows ``/api/v1/sandbox-sessions``."""
        return self._http.request(method, f"{PATH}{path}", **{"headers": self.headers, **options})

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.request(method, path, **options) as response:
            return response.status, await response.json() if await response.read() else None

    async def create(self, **fields: Any) -> dict[str, Any]:
        return await self._done(201, "POST", "", json=fields)

    async def get(self, session_id: str) -> dict[str, Any]:
        return await self._done(200, "GET", f"/{session_id}")

    async def change(self, session_id: str, **fields: Any) -> dict[str, Any]:
        return await self._done(200, "PATCH", f"/{session_id}", json=fields)

    async def page(self, **query: Any) -> dict[str, Any]:
        return await self._done(200, "GET", "", params=query)

    async def walk(self, **query: Any) -> list[str]:
        """The ids of all pages."""
        page = await self.page(**query)
        ids = [session["id"] for session in page["sessions"]]
        while page["cursor"] is not None:
            page = await self.page(**query, cursor=page["cursor"])
            ids += [session["id"] for session in page["sessions"]]
        return ids

    async def claim(self, worker: str = "worker-1", **fields: Any) -> dict[str, Any] | None:
        """The work; None where there is none."""
        status, body = await self.call("POST", "/claim", json={"worker": worker, **fields})
        assert status == (204 if body is None else 200), body
        claimed: dict[str, Any] | None = body
        return claimed

    async def end(self, work: dict[str, Any], how: str, **fields: Any) -> tuple[int, Any]:
        """``how``: complete, fail, or extend."""
        return await self.call("POST", f"/{work['id']}/{how}", json={"claim": work["claim"], **fields})

    async def empty_inbox(self) -> None:
        """Complete whatever waits."""
        while (work := await self.claim("cleaner")) is not None:
            assert (await self.end(work, "complete"))[0] == 200

    async def _done(self, expected: int, method: str, path: str, **options: Any) -> dict[str, Any]:
        status, body = await self.call(method, path, **options)
        assert status == expected, body
        answer: dict[str, Any] = body
        return answer
