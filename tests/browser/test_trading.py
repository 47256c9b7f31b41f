"""Somebody opens the page and trades: by mouse, by keyboard, on a phone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.support.local_run import LocalRun
from tests.support.stalls import Stalls
from tests.support.trading_page import TradingPage, new_tab, opened_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUOTES_WITHIN_S = 10.0
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
FAR_BELOW = 1.0  # a limit that no price comes down to


async def test_quotes_are_there_within_ten_seconds_and_nothing_was_typed(
    browser: Browser, run: LocalRun, stalls: Stalls
) -> None:
    began_s = time.monotonic()
    async with opened_page(browser, run.url) as trader:
        await trader.quotes_come()
        assert stalls.took_s(began_s) < QUOTES_WITHIN_S
        await expect(trader.page.locator("#quotes tbody tr")).to_have_count(5)
        await expect(trader.find("who")).to_have_text("User 1")
        assert trader.complaints == []
        assert trader.hosts() == {"127.0.0.1"}
    assert (await run.api("1").call("DELETE", "/api/sessions"))[0] == 200


async def test_orders_are_filled_and_canceled_and_positions_follow(
    trader: TradingPage, run: LocalRun, user_id: str
) -> None:
    await trader.order("BUY", "AAPL", 10)
    await expect(trader.row("done-orders", "10 AAPL")).to_contain_text("Filled")
    await expect(trader.row("positions", "AAPL").locator("td").first).to_have_text("10")
    await trader.order("SELL", "AAPL", 4)
    await expect(trader.row("positions", "AAPL").locator("td").first).to_have_text("6")

    await trader.order("BUY", "MSFT", 5, limit=FAR_BELOW)
    waiting = trader.row("open-orders", "5 MSFT")
    await expect(waiting).to_contain_text("Open")
    await waiting.get_by_role("button").click()
    await expect(trader.row("done-orders", "5 MSFT")).to_contain_text("Canceled")
    await expect(trader.find("open-count")).to_have_text("0")

    orders = await orders_of(run, user_id)
    assert sorted((order["symbol"], order["status"]) for order in orders) == [
        ("AAPL", "FILLED"),
        ("AAPL", "FILLED"),
        ("MSFT", "CANCELED"),
    ]
    await trader.sequence_is_kept()
    assert trader.complaints == []


async def test_a_rejected_order_says_why_and_what_to_do(trader: TradingPage) -> None:
    await trader.order("SELL", "TSLA", 2_000_000)
    await expect(trader.find("ticket-result")).to_contain_text("rejected")
    assert trader.complaints == []


async def test_an_order_that_cannot_be_is_not_sent(trader: TradingPage, run: LocalRun, user_id: str) -> None:
    await trader.find("quantity").fill("1.5")
    await trader.find("send").click()
    await expect(trader.find("quantity")).to_have_attribute("aria-invalid", "true")
    await expect(trader.find("quantity")).to_be_focused()
    assert await orders_of(run, user_id) == []


async def test_two_tabs_of_one_device_share_the_session_and_disturb_each_other_in_nothing(
    trader: TradingPage, run: LocalRun
) -> None:
    other = await new_tab(trader.page.context, run.url)
    await other.quotes_come()
    connected = [tab.sockets.established[0].connected or {} for tab in (trader, other)]
    assert connected[0]["sessionId"] == connected[1]["sessionId"]
    assert connected[0]["clientId"] != connected[1]["clientId"]

    await other.order("BUY", "GOOGL", 3)
    await expect(trader.row("positions", "GOOGL").locator("td").first).to_have_text("3")
    await trader.find("cut").click()
    await trader.counter_reaches("reconnects", 1)
    for tab in (trader, other):
        await tab.streams()
        await tab.sequence_is_kept()
        assert tab.complaints == []
    assert await other.counter("reconnects") == 0


async def test_a_duplicated_tab_is_a_client_of_its_own(trader: TradingPage) -> None:
    """Its sessionStorage is a copy: with the same client id the two would replace each other for ever."""
    async with trader.page.context.expect_page() as opened:
        await trader.page.evaluate("window.open(location.href)")
    copy = TradingPage(await opened.value)
    await copy.quotes_come()
    await trader.streams()
    for tab in (trader, copy):
        assert await tab.counter("reconnects") == 0
        assert (await tab.counter("gaps"), await tab.counter("duplicates")) == (0, 0)


async def test_a_reload_and_the_way_back_find_everything_as_it_was(trader: TradingPage, run: LocalRun) -> None:
    await trader.order("BUY", "AAPL", 2)
    await expect(trader.row("done-orders", "2 AAPL")).to_contain_text("Filled")
    first = trader.sockets.established[0].connected or {}
    await trader.page.reload()
    await trader.quotes_come()
    await expect(trader.find("total-profit")).not_to_have_text("\N{EN DASH}")
    await trader.page.goto(f"{run.url}/docs")
    await trader.page.go_back()
    await trader.quotes_come()
    await expect(trader.row("done-orders", "2 AAPL")).to_contain_text("Filled")
    await expect(trader.row("positions", "AAPL").locator("td").first).to_have_text("2")
    last = trader.sockets.established[-1].connected or {}
    assert (last["sessionId"], last["clientId"]) == (first["sessionId"], first["clientId"])
    assert trader.sockets.violations == []
    assert trader.complaints == []


async def test_a_list_of_sessions_that_could_not_be_read_says_so_until_it_can_be(trader: TradingPage) -> None:
    await trader.page.route("**/api/sessions", lambda route: route.abort())
    await trader.find("sessions-refresh").click()
    await expect(trader.find("sessions-result")).to_contain_text("could not be read", timeout=20_000)
    await trader.page.unroute("**/api/sessions")
    await trader.find("sessions-refresh").click()
    await expect(trader.find("sessions-result")).to_have_text("")
    await expect(trader.find("sessions").locator("tbody tr")).to_have_count(1)


async def test_an_order_by_keyboard_alone(trader: TradingPage) -> None:
    keyboard = trader.page.keyboard
    await tab_to(trader, "symbol")
    await keyboard.type("TSLA")
    await tab_to(trader, "quantity")
    await keyboard.press("Control+a")
    await keyboard.type("7")
    await keyboard.press("Enter")
    await expect(trader.row("done-orders", "7 TSLA")).to_contain_text("Filled")
    assert trader.complaints == []


async def test_an_order_on_a_phone(browser: Browser, run: LocalRun, user_id: str) -> None:
    async with opened_page(browser, run.url, user_id=user_id, **PHONE) as trader:
        await trader.quotes_come()
        width = await trader.page.evaluate("document.documentElement.scrollWidth")
        assert width == PHONE["viewport"]["width"], "it has to be scrolled sideways"
        await trader.order("BUY", "AMZN", 2)
        await expect(trader.row("done-orders", "2 AMZN")).to_contain_text("Filled")
        assert trader.complaints == []


async def tab_to(trader: TradingPage, element_id: str) -> None:
    """Press Tab until this element has the focus."""
    for _ in range(100):
        if await trader.page.evaluate("document.activeElement.id") == element_id:
            return
        await trader.page.keyboard.press("Tab")
    raise AssertionError(f"{element_id} cannot be reached by Tab")


async def orders_of(run: LocalRun, user_id: str) -> list[dict[str, Any]]:
    api = run.api(user_id)
    _, sessions = await api.call("GET", "/api/sessions")
    (session,) = sessions["sessions"]
    _, orders = await api.call("GET", f"/api/simulators/{session['simulator_id']}/orders")
    found: list[dict[str, Any]] = orders["orders"]
    return found
