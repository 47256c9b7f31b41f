"""The page of a pod in production: one signs in with a token of one's own, and is told what is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.chromium import chromium
from tests.support.pod_process import PodProcess, pod_process
from tests.support.servers import Database, TestServers
from tests.support.service import token
from tests.support.trading_page import TradingPage, opened_page
from tests.support.upgrade_blocker import blocking_upgrades

ANOTHER_KEY = "the-secret-key-of-another-issuer-0123456789"


@pytest.fixture
async def pod(servers: TestServers, database: Database, tmp_path: Path) -> AsyncIterator[PodProcess]:
    environ = {**database.environ(), **servers.redis_environ(), "ENVIRONMENT": "production", "BROWSER_PAGE": "on"}
    async with pod_process(tmp_path, environ) as started:
        await started.is_ready()
        yield started


@pytest.fixture
async def own_browser() -> AsyncIterator[Browser]:
    async with chromium() as launched:
        yield launched


async def sign_in(page: TradingPage, text: str) -> None:
    await page.find("token").fill(text)
    await page.find("token-sign-in").get_by_role("button").click()


async def test_tokens_that_are_refused(pod: PodProcess, own_browser: Browser) -> None:
    async with opened_page(own_browser, pod.url) as page:
        problem = page.find("sign-in-problem")
        await expect(page.find("local-sign-in")).to_be_hidden()
        await sign_in(page, "not-a-token")
        await expect(problem).to_contain_text("not a token")
        await sign_in(page, token(ttl_s=-100))
        await expect(problem).to_contain_text("expired")
        assert page.sockets.sockets == []
        await sign_in(page, token(secret=ANOTHER_KEY))
        await expect(problem).to_contain_text("refused")
        await expect(page.find("desk")).to_be_hidden()
        refused = len(page.sockets.sockets)

        await sign_in(page, token("user-7"))
        await expect(page.find("who")).to_have_text("User user-7")
        await page.link_is("open")
        assert refused <= 1
        assert len(page.sockets.sockets) == refused + 1, "a refused token was tried again"
        assert not [url for url in page.urls() if "eyJ" in url]


async def test_where_websockets_do_not_get_through(pod: PodProcess, own_browser: Browser) -> None:
    async with blocking_upgrades(pod.port) as port, opened_page(own_browser, f"http://127.0.0.1:{port}") as page:
        await sign_in(page, token("user-8"))
        await page.find("start-market").click()
        await page.quotes_come()
        await expect(page.find("transport")).to_have_text("Server-sent events")
        await page.order("BUY", "MSFT", 1)
        await expect(page.row("done-orders", "1 MSFT")).to_contain_text("Filled")
        assert page.sockets.established == []
        await page.sequence_is_kept()
