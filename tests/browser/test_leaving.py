"""Who may not go on: a refused token, a session that was ended elsewhere. The page says so, and stays away."""

from __future__ import annotations

import itertools

import pytest
from playwright.async_api import expect

from tests.support.local_run import LocalRun
from tests.support.trading_page import TradingPage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_session_that_was_ended_elsewhere(trader: TradingPage, run: LocalRun, user_id: str) -> None:
    assert (await run.api(user_id).call("DELETE", "/api/sessions"))[0] == 200
    await trader.link_is("closed")
    await expect(trader.find("notice-words")).to_contain_text("ended")
    await expect(trader.find("market-label")).to_have_text("Not connected")
    await expect(trader.find("start-market")).to_be_hidden()
    await expect(trader.find("stop-market")).to_be_hidden()
    assert len(trader.sockets.established) == 1
    await trader.find("send").click()
    await expect(trader.find("ticket-result")).to_contain_text("not sent")
    await trader.find("notice-action").click()  # a new session, because somebody asked for it
    await trader.link_is("open")
    first, second = (socket.connected or {} for socket in trader.sockets.established)
    assert first["sessionId"] != second["sessionId"]
    assert len(trader.sockets.sockets) == 2, "it had tried by itself"


async def test_another_user_at_the_same_page_finds_nothing_of_the_one_before(
    trader: TradingPage, run: LocalRun, user_ids: itertools.count[int]
) -> None:
    await trader.order("BUY", "AAPL", 2)
    await expect(trader.find("ticket-result")).to_contain_text("2 AAPL")
    await trader.find("sign-out").click()
    await expect(trader.find("local-user")).to_be_focused()
    other = str(next(user_ids))
    try:
        await trader.find("local-user").fill(other)
        await trader.page.keyboard.press("Enter")
        await trader.link_is("open")
        await trader.quotes_come()
        await expect(trader.find("main")).to_be_focused()
        await expect(trader.find("who")).to_have_text(f"User {other}")
        await expect(trader.find("ticket-result")).to_have_text("")
        await expect(trader.find("log").locator("li")).to_have_count(1)
        await expect(trader.row("done-orders", "AAPL")).to_have_count(0)
        await expect(trader.row("positions", "AAPL")).to_have_count(0)
        assert trader.complaints == []
    finally:
        await run.api(other).call("DELETE", "/api/sessions")
