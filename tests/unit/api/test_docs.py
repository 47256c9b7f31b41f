"""The documentation page: everything from here, nothing inline."""

from __future__ import annotations

import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from session_service.api.docs import docs_routes


@pytest.fixture
async def client() -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.router.add_routes(docs_routes())
    return TestClient(TestServer(app))


async def test_the_page_and_what_it_needs(client: TestClient[web.Request, web.Application]) -> None:
    async with client:
        page = await client.get("/docs")
        assert page.content_type == "text/html"
        text = await page.text()
        assert not re.search(r"https?://|<script>|<style|\son\w+=|style=", text)
        needed = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert set(needed) == {"/docs/docs.css", "/docs/docs.js", "/openapi.json", "/asyncapi.json"}
        for path in needed:
            response = await client.get(path)
            assert response.status == 200, path
            assert "http://" not in await response.text(), path


async def test_the_policy_allows_this_origin_only(client: TestClient[web.Request, web.Application]) -> None:
    async with client:
        policy = (await client.get("/docs")).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(("standard", "version"), [("openapi", "3.1.0"), ("asyncapi", "3.0.0")])
async def test_the_documents_are_json(
    client: TestClient[web.Request, web.Application], standard: str, version: str
) -> None:
    async with client:
        response = await client.get(f"/{standard}.json")
        assert response.content_type == "application/json"
        assert (await response.json())[standard] == version
