"""A browser and a local run of three pods, which the tests here share; each test is a user of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from session_service.api.page_files import built_page
from tests.support.chromium import NAMES, chromium, chromium_path
from tests.support.local_run import LocalRun, local_run
from tests.support.trading_page import TradingPage, opened_page

PODS = 3


def what_is_missing() -> str | None:
    if chromium_path() is None:
        return f"none of {', '.join(NAMES)} is on the PATH"
    if not (built_page() / "index.html").is_file():
        return "the page is not built: make browser"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = what_is_missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing is not None:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as launched:
        yield launched


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalRun]:
    async with local_run(tmp_path_factory.mktemp("local") / "data", pods=PODS) as started:
        yield started


@pytest.fixture(scope="session")
def user_ids() -> itertools.count[int]:
    return itertools.count(100)


@pytest_asyncio.fixture(loop_scope="session")
async def user_id(run: LocalRun, user_ids: itertools.count[int]) -> AsyncIterator[str]:
    """A user of the test's own, whose sessions and markets end with it."""
    user = str(next(user_ids))
    yield user
    status, _ = await run.api(user).call("DELETE", "/api/sessions")
    assert status == 200


@pytest_asyncio.fixture(loop_scope="session")
async def trader(browser: Browser, run: LocalRun, user_id: str) -> AsyncIterator[TradingPage]:
    """A page that shows live quotes. At its end it has asked no other host."""
    async with opened_page(browser, run.url, user_id=user_id) as opened:
        await opened.quotes_come()
        yield opened
        assert opened.hosts() == {"127.0.0.1"}
