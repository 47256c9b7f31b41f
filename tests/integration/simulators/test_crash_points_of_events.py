"""As test_crash_points.py, where nobody gave a command, or it cannot succeed."""

from __future__ import annotations

import pytest

from tests.support.crash_points import EVENTS, meet_at_every_call
from tests.support.installation import Installation


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.usefixtures("neighbour")
async def test_whatever_happens_at_any_call_everything_comes_to_rest(here: Installation, name: str) -> None:
    async with here.pod() as survivor:
        await meet_at_every_call(here, survivor, name)
