"""A local run that ends and starts again: sessions are kept, simulators are gone and say so."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psutil

from tests.support.local_run import local_run

NOTHING_LEFT_WITHIN_S = 30.0


async def gone(processes: list[psutil.Process]) -> None:
    _gone, alive = await asyncio.to_thread(psutil.wait_procs, processes, NOTHING_LEFT_WITHIN_S)
    assert not alive


async def test_sessions_survive_a_restart_and_simulators_do_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with local_run(data) as run:
        api = run.api("alice")
        session_id = await api.open_session()
        first = await api.start_simulator(session_id)
        processes = run.processes()
        run.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(90):
            assert await run.process.wait() == 0
        await gone(processes)
        assert not (data / "local.json").exists()
    async with local_run(data) as run:
        api = run.api("alice")
        assert await api.open_session() == session_id
        stopped = await api.simulator(first)
        assert stopped["status"] == "STOPPED"
        assert stopped["reason"] == "pod_terminated"
        second = await api.start_simulator(session_id)
        assert second != first
        # And now as if the machine had failed.
        processes = run.processes()
        run.process.kill()
        await run.process.wait()
        await gone(processes)
    async with local_run(data) as run:
        api = run.api("alice")
        assert (await api.session(session_id))["session_id"] == session_id
        lost = await api.simulator_is(second, "ERROR", within_s=40)
        assert lost["reason"] == "workload_gone"
        await api.start_simulator(session_id)
