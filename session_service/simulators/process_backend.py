"""Backend ``process``: simulators are local processes of a runner (docs/local-run.md#the-runner)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from session_service.errors import BackendUnavailableError
from session_service.simulators.backend import Workload, WorkloadPhase, WorkloadSpec
from session_service.simulators.runner_process import RunnerProcess
from session_service.simulators.runner_protocol import Assignment, WorkloadList
from session_service.simulators.runner_simulators import PASSED_VARIABLES

REQUEST_LIMIT_S = 10.0  # a create waits up to 5 s for the simulator, a delete 2 s for its end
CONNECT_LIMIT_S = 2.0
WATCH_WAIT_S = 20.0
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 0.5

T = TypeVar("T")


class ProcessBackend:
    """Talks to the runner at ``runner_url``; without one it starts a runner of its own, which ends with this pod.

    Implements SimulatorBackend. A runner that ended took its simulators with it: they are reported FAILED, ``gone``.
    """

    create_limit_s = REQUEST_LIMIT_S  # the runner starts a process as soon as it reads the request
    recipe = "process"  # the release's own: simulators end with the run

    def __init__(self, *, runner_url: str | None = None, runner_token: str | None = None) -> None:
        self._url = runner_url
        self._token = runner_token or ""
        self._own_runner: RunnerProcess | None = None
        self._restarting = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Raises BackendUnavailableError when an own runner cannot be started."""
        if self._url is None:
            environ = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
            self._own_runner = RunnerProcess(environ=environ, log_directory=None)
            await self._own_runner.start()
            self._url, self._token = self._own_runner.url, self._own_runner.token
        self._http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_LIMIT_S, connect=CONNECT_LIMIT_S),
        )

    async def close(self) -> None:
        """The run's runner keeps its simulators; a runner of our own ends with them."""
        if self._http is not None:
            await self._http.close()
        if self._own_runner is not None:
            await self._own_runner.stop()

    async def create(self, spec: WorkloadSpec) -> Workload:
        await self._restart_own_runner()
        status, body = await self._request("PUT", _path(spec.simulator_id), body=msgspec.json.encode(spec))
        return _decoded(status, body, Workload)

    async def assign(self, simulator_id: str, uid: str, session_id: str, user_id: str) -> None:
        if self._own_runner_has_ended:
            return
        path = f"{_path(simulator_id)}?uid={quote(uid, safe='')}"
        status, body = await self._request("PATCH", path, body=msgspec.json.encode(Assignment(session_id)))
        if status not in {204, 404, 409}:
            raise _refusal(status, body)

    async def get(self, simulator_id: str) -> Workload | None:
        if self._own_runner_has_ended:
            return None
        status, body = await self._request("GET", _path(simulator_id))
        return None if status == 404 else _decoded(status, body, Workload)

    def observed(self, simulator_id: str) -> Workload | None:
        """The runner is next door: it can be asked itself."""
        return None

    async def list(self, database_id: str) -> list[Workload]:
        if self._own_runner_has_ended:
            return []
        return (await self._list(f"/simulators?database_id={quote(database_id, safe='')}")).workloads

    async def delete(self, simulator_id: str, uid: str | None) -> bool:
        """False where another workload than ``uid`` stands under this id."""
        if self._own_runner_has_ended:
            return True
        query = "" if uid is None else f"?uid={quote(uid, safe='')}"
        status, body = await self._request("DELETE", _path(simulator_id) + query)
        if status not in {204, 404, 409}:
            raise _refusal(status, body)
        return status != 409

    async def changes(self) -> AsyncGenerator[Workload, None]:
        """Long polls; each answer is the whole set, so that nothing is missed between two of them."""
        known: dict[str, Workload] = {}
        version = -1
        retry_s = FIRST_RETRY_S
        while True:
            try:
                answer = await self._list(
                    f"/simulators/watch?version={version}&wait_s={WATCH_WAIT_S:g}",
                    limit_s=WATCH_WAIT_S + REQUEST_LIMIT_S,
                )
            except BackendUnavailableError:
                if self._own_runner_has_ended:
                    answer = WorkloadList(-1, [])
                else:
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, LONGEST_RETRY_S)
                    continue
            current = {workload.uid: workload for workload in answer.workloads}
            for uid, workload in known.items():
                if uid not in current:
                    yield Workload(workload.simulator_id, uid, WorkloadPhase.FAILED, None, "gone")
            for uid, workload in current.items():
                if known.get(uid) != workload:
                    yield workload
            known, version = current, answer.version
            if version == -1:  # our runner is gone, and nothing changes until there is a new one
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            else:
                retry_s = FIRST_RETRY_S

    @property
    def _own_runner_has_ended(self) -> bool:
        """Then its simulators have too, and the next create starts another one."""
        return self._own_runner is not None and not self._own_runner.alive

    async def _restart_own_runner(self) -> None:
        if self._own_runner is None or self._own_runner.alive:
            return
        async with self._restarting:
            if not self._own_runner.alive:
                await self._own_runner.start()

    async def _list(self, path: str, *, limit_s: float = REQUEST_LIMIT_S) -> WorkloadList:
        status, body = await self._request("GET", path, limit_s=limit_s)
        return _decoded(status, body, WorkloadList)

    async def _request(
        self, method: str, path: str, *, body: bytes | None = None, limit_s: float = REQUEST_LIMIT_S
    ) -> tuple[int, bytes]:
        """Status and body. Raises BackendUnavailableError when there is no answer in time."""
        if self._http is None:
            raise RuntimeError("the backend was not started")
        timeout = aiohttp.ClientTimeout(total=limit_s, connect=CONNECT_LIMIT_S)
        try:
            async with self._http.request(method, f"{self._url}{path}", data=body, timeout=timeout) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BackendUnavailableError(f"runner: {type(error).__name__}") from None


def _path(simulator_id: str) -> str:
    return f"/simulators/{quote(simulator_id, safe='')}"


def _refusal(status: int, body: bytes) -> BackendUnavailableError:
    return BackendUnavailableError(f"runner: {status} {body[:200].decode(errors='replace')}")


def _decoded(status: int, body: bytes, kind: type[T]) -> T:
    if status != 200:
        raise _refusal(status, body)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BackendUnavailableError(f"runner: {error}") from None
