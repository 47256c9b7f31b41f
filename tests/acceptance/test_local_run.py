"""A local run that ends and starts again: sessions are kept, simulators are gone and say so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil

from session_service.clients.token_signer import sign_token
from session_service.local.ports import free_port
from tests.support.api_client import ApiClient

READY_WITHIN_S = 180.0
NOTHING_LEFT_WITHIN_S = 30.0


class LocalRun:
    """``session-service local`` over a data directory."""

    def __init__(self, process: asyncio.subprocess.Process, http: aiohttp.ClientSession, data: Path) -> None:
        self.process = process
        self.http = http
        self.data = data

    def api(self, user_id: str) -> ApiClient:
        secret = json.loads((self.data / "local.json").read_text())["secret_key"]
        api = ApiClient(self.http, user_id)
        signed = sign_token(secret, "HS256", user_id, now_s=time.time(), ttl_s=600)
        api.headers = {"Authorization": f"Bearer {signed}"}
        return api

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextlib.asynccontextmanager
async def local_run(data: Path) -> AsyncIterator[LocalRun]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "session_service", "local", "--port", str(port), "--data-dir", str(data)),
        env={name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ},
        cwd=data.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not (line := await process.stdout.readline()).startswith(b"ready http://"):
                assert line, "it ended before it was ready"
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            yield LocalRun(process, http, data)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # asyncio has no public way


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
