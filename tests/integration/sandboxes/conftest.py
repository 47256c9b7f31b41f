"""Sandboxes on the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.sandboxes import Sandboxes
from tests.support.servers import Database


@pytest.fixture
async def sandboxes(database: Database) -> AsyncIterator[Sandboxes]:
    async with Sandboxes(database) as made:
        yield made
