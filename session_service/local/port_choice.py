"""On which port a server of the local run listens: a free one at first, the same one ever after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from session_service.local.ports import free_port, is_free
from session_service.local.server_error import ServerStartError

START_ATTEMPTS = 5  # a free port may be taken before the server binds it


async def start_on_port(
    start: Callable[[int], Awaitable[None]], stop: Callable[[], Awaitable[None]], port: int | None
) -> int:
    """Start a server on ``port``, or where that is None on a free one; returns the port.

    Raises ServerStartError. What was started is stopped when the caller is cancelled, or anything else goes wrong.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        chosen = free_port() if port is None else port
        try:
            await start(chosen)
        except ServerStartError:
            collided = port is None and not is_free(chosen)
            if not collided or attempt == START_ATTEMPTS:
                raise
        except BaseException:
            await stop()
            raise
        else:
            return chosen
    raise AssertionError("the last attempt returns or raises")
