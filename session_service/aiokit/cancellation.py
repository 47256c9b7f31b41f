"""Cancellations that a library lost."""

from __future__ import annotations

import asyncio


def check_cancelled() -> None:
    """Raise CancelledError where this task was cancelled and nobody has taken notice.

    For use after calls of libraries that swallow a cancellation: redis-py does while it connects. An enclosing
    ``asyncio.timeout`` that has run out still turns it into its TimeoutError.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
