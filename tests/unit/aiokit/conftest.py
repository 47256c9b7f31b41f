"""A test that leaves a task behind fails."""

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    leaked = {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert leaked == set()
