"""What a pod's own call leaves to remove it removes at once, also while another pod makes the rounds."""

from __future__ import annotations

from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually


async def test_a_session_ended_here_loses_its_workload_although_another_pod_sweeps(
    service: Service, api: ApiClient, sql: Sql
) -> None:
    await sql.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('other#1', 'other', '1')")
    await sql.execute("UPDATE session.sweeper SET pod_id = 'other#1', held_until = now() + interval '1 h'")
    await service.server._sweeper.renew()
    assert not service.server._sweeper.holds
    session_id = await api.open_session()
    await api.start_simulator(session_id)
    assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] == 200

    database_id = await service.server._database.orphans.database_id()

    async def is_removed() -> bool:
        left = await sql.fetchval("SELECT count(*) FROM simulator.teardowns")
        return left == 0 and not await service.server._backend.list(database_id)

    await eventually(is_removed, within_s=20, what="the workload removed")
    await sql.execute("DELETE FROM session.pods WHERE pod_id = 'other#1'")
