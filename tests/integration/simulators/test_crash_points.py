"""A mishap at every call that a pod makes: whatever it is, the workloads end up as the rows say (docs/lifecycle.md).

One pod carries out an operation and something happens at its k-th statement, backend call or gRPC call, for every k.
Where that takes the pod, another one takes over. Then everything has to come to rest, without anybody's help.
"""

from __future__ import annotations

import pytest

from tests.support.crash_points import COMMANDS, meet_at_every_call
from tests.support.installation import Installation


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("neighbour")
async def test_whatever_happens_at_any_call_everything_comes_to_rest(here: Installation, name: str) -> None:
    async with here.pod() as survivor:
        await meet_at_every_call(here, survivor, name)
