"""What every test stands on."""

import asyncio


def pytest_configure() -> None:
    """Say that there is no current event loop. Otherwise looptime, asking for it before a synchronous test, makes one
    that nobody closes.
    """
    asyncio.set_event_loop(None)
