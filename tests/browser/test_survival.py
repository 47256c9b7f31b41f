"""What happens to the page when its connection, its pod or its network goes: numbers go on without a gap."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, WebSocketRoute, expect

from tests.support.local_run import LocalRun
from tests.support.measured import Measured
from tests.support.process_faults import frozen
from tests.support.trading_page import CHANGES_WITHIN_S, TradingPage, opened_page

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLEPT_THROUGH = 10  # updates
# Chromium itself writes into the console that an address did not answer: of pods that are away, that is no fault.
AWAY = re.compile(r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE|INTERNET_DISCONNECTED)")


@pytest.fixture
def measured() -> Measured:
    return Measured()


def beside_pods_away(complaints: list[str]) -> list[str]:
    return [complaint for complaint in complaints if not AWAY.search(complaint)]


async def test_a_cut_connection_goes_on_where_it_was(trader: TradingPage) -> None:
    await trader.find("cut").click()
    await trader.counter_reaches("reconnects", 1)
    await trader.streams()
    assert await trader.counter("resumed") == 1
    await expect(trader.page.locator("#log li[data-kind=recovered]")).to_have_count(1)
    await trader.sequence_is_kept()
    assert trader.complaints == []


async def test_the_page_counts_what_the_browser_counts(trader: TradingPage) -> None:
    """To the number, once nothing comes any more."""
    await trader.find("cut").click()
    await trader.counter_reaches("reconnects", 1)
    await trader.streams()
    await trader.find("stop-market").click()
    await trader.page.locator("#market[data-status=STOPPED]").wait_for()
    await trader.sequence_is_kept()
    await trader.counter_reaches("updates", trader.sockets.updates())  # figures are painted a moment later
    assert await trader.counter("updates") == trader.sockets.updates()


async def test_three_pods_killed_in_turn(trader: TradingPage, measured: Measured) -> None:
    for killed in range(1, 4):
        pod = await trader.pod()
        assert pod is not None
        process = await trader.process_of(pod)
        await trader.find("kill-pod").click()
        await trader.counter_reaches("reconnects", killed)
        await trader.streams()
        assert await trader.pod() != pod
        await trader.pod_returns(pod, process)
        await trader.order("BUY", "AAPL", 1)
        await expect(trader.row("positions", "AAPL").locator("td").first).to_have_text(str(killed))
    assert await trader.counter("resumed") == await trader.counter("reconnects")
    await trader.sequence_is_kept()
    assert beside_pods_away(trader.complaints) == []
    measured.row(
        "the page: three pods killed in turn",
        gaps=await trader.counter("gaps"),
        duplicates=await trader.counter("duplicates"),
        updates=await trader.counter("updates"),
        worst_pause_ms=await trader.counter("longest-pause-ms"),
    )


async def test_three_pods_stopped_in_turn(trader: TradingPage, run: LocalRun, measured: Measured) -> None:
    for pod in run.described()["pods"]:
        name = pod["name"]
        moves = await trader.counter("reconnects")
        is_here = await trader.pod() == name
        process = await trader.process_of(name)
        await trader.page.get_by_role("button", name=f"Stop {name}").click()
        if is_here:
            await trader.counter_reaches("reconnects", moves + 1)
        await trader.pod_returns(name, process)
        await trader.streams()
    assert await trader.counter("reconnects") >= 1
    assert await trader.counter("resumed") == await trader.counter("reconnects")
    await trader.sequence_is_kept()
    assert beside_pods_away(trader.complaints) == []
    measured.row(
        "the page: three pods stopped in turn",
        gaps=await trader.counter("gaps"),
        duplicates=await trader.counter("duplicates"),
        worst_pause_ms=await trader.counter("longest-pause-ms"),
    )


async def test_a_tab_that_slept_while_its_connection_was_lost(
    trader: TradingPage, run: LocalRun, user_id: str
) -> None:
    browser = trader.page.context.browser
    assert browser is not None
    seen = trader.sockets.updates()
    async with watching(run, user_id) as stream:
        with asleep(await renderers(browser)):
            await stream.has_frames(SLEPT_THROUGH)
            await cut(run, user_id, trader)
            await stream.has_frames(SLEPT_THROUGH)
        await trader.counter_reaches("reconnects", 1)
        await trader.streams()
    assert await trader.counter("resumed") == 1
    assert trader.sockets.updates() >= seen + 2 * SLEPT_THROUGH
    await trader.sequence_is_kept()
    assert trader.complaints == []


async def test_a_network_that_was_away(trader: TradingPage, run: LocalRun, user_id: str) -> None:
    context = trader.page.context
    await context.set_offline(True)
    await cut(run, user_id, trader)
    await trader.link_is("reconnecting")
    await context.set_offline(False)
    await trader.counter_reaches("reconnects", 1)
    await trader.streams()
    await trader.sequence_is_kept()
    assert beside_pods_away(trader.complaints) == []


@pytest.mark.parametrize(("copies", "counter"), [(0, "gaps"), (2, "duplicates")])
async def test_what_breaks_the_sequence_is_counted_and_mended(
    browser: Browser, run: LocalRun, user_id: str, copies: int, counter: str
) -> None:
    """The counters are 0 elsewhere since nothing was lost, not since they cannot count."""
    tampered = Tampering(at_update=20, copies=copies)
    async with opened_page(browser, "about:blank", user_id=user_id) as trader:
        await trader.page.route_web_socket(re.compile(r"/ws\?"), tampered.route)
        await trader.page.goto(run.url)
        await trader.quotes_come()
        await trader.counter_reaches(counter, 1)
        await trader.counter_reaches("snapshots", 2)
        await trader.streams()
        counted = {name: await trader.counter(name) for name in ("gaps", "duplicates")}
        assert counted == {"gaps": 0, "duplicates": 0, counter: 1}
        await expect(trader.page.locator("#log li[data-kind=notice]")).to_have_count(1)


class Tampering:
    """Between page and pod: one frame of exchange data reaches the page so many times instead of once."""

    def __init__(self, *, at_update: int, copies: int) -> None:
        self._at_update = at_update
        self._copies = copies
        self._frames = 0

    def route(self, page: WebSocketRoute) -> None:
        pod = page.connect_to_server()
        pod.on_message(lambda message: self._pass(page, message))

    def _pass(self, page: WebSocketRoute, message: str | bytes) -> None:
        self._frames += json.loads(message)["type"] == "exchange_data"
        for _ in range(self._copies if self._frames == self._at_update else 1):
            page.send(message)


async def cut(run: LocalRun, user_id: str, trader: TradingPage) -> None:
    """Break the connection from the pod's side, as its network would; the page is not asked anything."""
    connected = trader.sockets.established[-1].connected or {}
    (url,) = [one["url"] for one in run.described()["pods"] if one["name"] == connected["podName"]]
    path = f"{url}/api/local/connections/{connected['clientId']}/cut"
    async with run.http.post(path, headers=run.api(user_id).headers) as response:
        assert await response.json() == {"success": True, "cut": 1}


class Watched:
    """A socket of another client, in the same session."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def has_frames(self, count: int) -> None:
        async with asyncio.timeout(CHANGES_WITHIN_S):
            while count > 0:
                frame = await self._socket.receive_json()
                count -= frame["type"] == "exchange_data"


@asynccontextmanager
async def watching(run: LocalRun, user_id: str) -> AsyncIterator[Watched]:
    """See what the session's market says, without the page."""
    api = run.api(user_id)
    _, answer = await api.call("GET", "/api/sessions")
    (session,) = answer["sessions"]
    query = {"deviceId": session["device_id"], "sessionId": session["session_id"], "clientId": "watching"}
    async with run.http.ws_connect("/ws", params=query, headers=api.headers) as socket:
        yield Watched(socket)


async def renderers(browser: Browser) -> list[int]:
    """The processes that run pages."""
    devtools = await browser.new_browser_cdp_session()
    found: dict[str, Any] = await devtools.send("SystemInfo.getProcessInfo")
    await devtools.detach()
    return [one["id"] for one in found["processInfo"] if one["type"] == "renderer"]


@contextmanager
def asleep(pids: list[int]) -> Iterator[None]:
    """The tabs sleep, as on a phone in a pocket: none of their code runs, the network's does."""
    with ExitStack() as exits:
        for pid in pids:
            exits.enter_context(frozen(pid))
        yield
