"""A client that leaves a task behind fails its test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest


def client_tasks() -> set[str]:
    """Tasks that run the client's code."""
    found = set()
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and "session_service_client/" in code.co_filename and "/tests/" not in code.co_filename:
            found.add(code.co_qualname if hasattr(code, "co_qualname") else code.co_name)
    return found


@pytest.fixture(autouse=True)
async def no_task_of_a_client_is_left() -> AsyncIterator[None]:
    yield
    assert client_tasks() == set()
