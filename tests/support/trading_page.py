"""The page as somebody at it sees it, in an installed Chromium; what the browser says beside is kept as well."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request

from tests.support.observed_sockets import ObservedSockets
from tests.support.waiting import eventually

CHANGES_WITHIN_S = 30.0  # whatever is awaited; generous, since the machine may be busy
SIGN_IN_KEY = "session-service.sign-in"


class TradingPage:
    """One tab. ``sockets`` are the browser's, ``requests`` every URL asked for, ``complaints`` what the console said.

    Counters are those that the page shows of its own connection. A wait is one of the browser's, made when the page
    changes: a state that comes and goes between two looks is seen.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sockets = ObservedSockets(page)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(CHANGES_WITHIN_S * 1000)
        page.on("request", self._requested)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def urls(self) -> list[str]:
        """Everything that was asked for, sockets included."""
        return [*self.requests, *(socket.url for socket in self.sockets.sockets)]

    def hosts(self) -> set[str]:
        """Everybody that was talked to."""
        return {host for url in self.urls() if (host := urlsplit(url).hostname) is not None}

    def find(self, element_id: str) -> Locator:
        return self.page.locator(f"#{element_id}")

    async def counter(self, name: str) -> int:
        """One of the connection's counters, as a plain number; 0 before the first."""
        text = await self.find("connection").get_attribute(f"data-{name}")
        return int(text or 0)

    async def pod(self) -> str | None:
        """The pod that the connection is on, or was on last."""
        return await self.find("connection").get_attribute("data-pod")

    async def streams(self, updates: int = 5) -> None:
        """Wait until so many more updates have been applied."""
        await self.counter_reaches("updates", await self.counter("updates") + updates)

    async def counter_reaches(self, name: str, value: int) -> None:
        """Counters only grow."""

        async def has_come() -> bool:
            return await self.counter(name) >= value

        await eventually(has_come, within_s=CHANGES_WITHIN_S, what=f"{name} {value}", every_s=0.05)

    async def link_is(self, state: str) -> None:
        """Wait until the connection has this state: connecting, open, reconnecting or closed."""
        await self.page.locator(f"#link[data-state={state}]").wait_for()

    async def quotes_come(self) -> None:
        """Wait for quotes; a local run opens the market by itself."""
        await self.page.locator("#quotes tbody tr").first.wait_for()
        await self.streams()

    async def order(self, side: str, symbol: str, quantity: int, *, limit: float | None = None) -> None:
        """Fill in the ticket, and send it."""
        ticket = self.find("ticket")
        await ticket.locator(f"label:has(input[value={side}])").click()
        await ticket.locator(f"label:has(input[value={'MARKET' if limit is None else 'LIMIT'}])").click()
        await self.find("symbol").select_option(symbol)
        await self.find("quantity").fill(str(quantity))
        if limit is not None:
            await self.find("price").fill(str(limit))
        await self.find("send").click()

    def row(self, table_id: str, text: str) -> Locator:
        """The rows of a table that hold this text."""
        return self.page.locator(f"#{table_id} tbody tr", has_text=text)

    async def process_of(self, pod: str) -> str:
        """What the table of pods says of the process; another one says something else."""
        title = await self.page.locator(f"#pods tr[data-pod={pod}]", has_text="Running").get_attribute("title")
        assert title is not None
        return title

    async def pod_returns(self, pod: str, process: str) -> None:
        """Wait until the pod runs as another process than this one."""
        await self.page.locator(f"#pods tr[data-pod={pod}]:not([title='{process}'])", has_text="Running").wait_for()

    def _has_counted(self, updates: int) -> Callable[[], Awaitable[bool]]:
        async def has_counted() -> bool:
            return self.sockets.updates() >= updates

        return has_counted

    async def sequence_is_kept(self) -> None:
        """The page's own counters and an independent count both find neither a gap nor a duplicate."""
        updates = await self.counter("updates")
        if self.sockets.established:
            await eventually(
                self._has_counted(updates), within_s=CHANGES_WITHIN_S, what="as many updates as the page's"
            )
        assert self.sockets.violations == []
        assert self.sockets.missing() == []
        counted = {name: await self.counter(name) for name in ("gaps", "duplicates", "snapshots-skipping")}
        assert counted == {"gaps": 0, "duplicates": 0, "snapshots-skipping": 0}


@asynccontextmanager
async def opened_page(
    browser: Browser, url: str, *, user_id: str | None = None, **context_options: Any
) -> AsyncIterator[TradingPage]:
    """A device of its own with one tab, which has opened ``url``. ``user_id``: signed in as, in a local run."""
    context = await browser.new_context(**context_options)
    try:
        if user_id is not None:
            await _sign_in_as(context, user_id)
        yield await new_tab(context, url)
    finally:
        await context.close()


async def new_tab(context: BrowserContext, url: str) -> TradingPage:
    """Another tab of the same device."""
    tab = TradingPage(await context.new_page())
    await tab.page.goto(url)
    return tab


async def _sign_in_as(context: BrowserContext, user_id: str) -> None:
    kept = json.dumps(json.dumps({"kind": "local", "user": user_id}))
    await context.add_init_script(
        f"if (!sessionStorage.getItem({SIGN_IN_KEY!r})) sessionStorage.setItem({SIGN_IN_KEY!r}, {kept});"
    )
