"""Trailing slashes and methods as a client of document 004 meets them: FastAPI's redirects and 405."""

from __future__ import annotations

import pytest
from yarl import URL

from tests.support.named_client import NamedClient
from tests.support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_its_slash_the_collection_redirects(service: Service, user: NamedClient, method: str) -> None:
    """307 keeps method and body."""
    async with service.http.request(
        method, user.url("?x=1"), headers=user.headers, json={"title": "A"}, allow_redirects=False
    ) as response:
        assert response.status == 307
        target = URL(response.headers["Location"], encoded=True)
        assert (target.raw_path, target.raw_query_string) == ("/api/v1/sessions/", "x=1")
    assert await user.titles() == {}


async def test_a_client_that_follows_the_redirect_notices_nothing(service: Service, user: NamedClient) -> None:
    async with service.http.post(user.url(""), headers=user.headers, json={"title": "A"}) as response:
        assert response.status == 200
    async with service.http.get(user.url(""), headers=user.headers) as response:
        assert [session["title"] for session in await response.json()] == ["A"]


async def test_with_a_slash_the_lookup_redirects(user: NamedClient) -> None:
    session_id = await user.create("A")
    async with user.request("GET", "/active/", allow_redirects=False) as response:
        assert response.status == 307
        assert URL(response.headers["Location"]).path == "/api/v1/sessions/active"
    assert await user.call("GET", "/active/") == (200, session_id)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/"), ("PATCH", "/"), ("DELETE", "/"), ("POST", "/active"), ("PUT", "/A"), ("GET", "/A")],
)
async def test_a_method_that_is_not_there_is_405(user: NamedClient, method: str, path: str) -> None:
    status, body = await user.call(method, path)
    assert status == 405
    assert body == {"detail": "Method Not Allowed"}
