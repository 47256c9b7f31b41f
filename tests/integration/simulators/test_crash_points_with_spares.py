"""As test_crash_points.py, where a spare is kept (docs/lifecycle.md)."""

from __future__ import annotations

import pytest

from tests.support.crash_points import WITH_SPARES, meet_at_every_call
from tests.support.installation import installation
from tests.support.servers import Database
from tests.support.workload_host import WorkloadHost


@pytest.mark.parametrize("name", WITH_SPARES)
@pytest.mark.usefixtures("neighbour")
async def test_whatever_happens_at_any_call_no_spare_is_left_over_or_missing(
    database: Database, host: WorkloadHost, name: str
) -> None:
    async with installation(database, host, SIMULATOR_WARM_POOL_SIZE="1") as here, here.pod() as survivor:
        await meet_at_every_call(here, survivor, name)
