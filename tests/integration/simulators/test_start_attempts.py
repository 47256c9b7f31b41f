"""What a pod notes of the starts that it tries ends with them, however they end."""

from __future__ import annotations

import asyncio

import pytest

from session_service.domain.simulator import DEFAULT_CASH
from tests.support.installation import AT_REST_WITHIN_S, SYMBOLS, installation
from tests.support.mishaps import Mishap
from tests.support.servers import Database
from tests.support.workload_host import WorkloadHost

ENDS = {
    "end": "DELETE FROM session.active_sessions WHERE session_id = $1",
    "expiry": "UPDATE session.active_sessions SET expires_at = now() - interval '1 s' WHERE session_id = $1",
}


@pytest.mark.parametrize("end", ENDS)
async def test_nothing_is_kept_of_a_start_whose_session_ends_while_it_waits_for_its_slot(
    database: Database, host: WorkloadHost, end: str
) -> None:
    async with installation(database, host, SIMULATOR_MAX_CONCURRENT_STARTS="1") as here, here.pod() as pod:
        async with here.pod() as holding:
            holding.calls.arm(Mishap.CRASH, "get_simulator")  # nobody goes on with the start that has the slot
            session_id = await holding.open_session("user-1")
            await holding.simulators.create_simulator(session_id, "user-1", SYMBOLS, DEFAULT_CASH)
            await asyncio.wait_for(holding.calls.happened.wait(), AT_REST_WITHIN_S)
        await here.sql.execute("UPDATE simulator.instances SET queued_at = now(), admitted_at = now()")

        session_id = await pod.open_session("user-2")
        await pod.simulators.create_simulator(session_id, "user-2", SYMBOLS, DEFAULT_CASH)
        await pod.quiet()
        assert pod.starts_tried() == 1
        await here.sql.execute(ENDS[end], session_id)
        for _ in range(2):
            await pod.teardowns.work_off()
            await pod.round()
            await pod.quiet()
        assert await here.newest(session_id) is None
        assert pod.starts_tried() == 0
