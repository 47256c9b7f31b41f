"""Simulators as local processes: real runner, real simulators."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import msgspec
import psutil
import pytest

from session_service.aiokit import process_table
from session_service.errors import BackendUnavailableError
from session_service.simulators.backend import Workload, WorkloadPhase, WorkloadSpec
from session_service.simulators.process_backend import ProcessBackend
from session_service.simulators.runner_process import RunnerProcess

HERE, ELSEWHERE = "database-1", "database-2"


def spec(simulator_id: str, database_id: str = HERE) -> WorkloadSpec:
    token = "a-token-of-the-simulator"
    return WorkloadSpec(simulator_id, "session-1", "user-1", ("AAPL",), 1000.0, token, database_id)


def pid_of(workload: Workload) -> int:
    return int(workload.uid.partition("-")[0])


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[RunnerProcess]:
    with (tmp_path / "runner.log").open("wb") as log:
        process = RunnerProcess(
            environ={"PATH": os.environ["PATH"]}, log_directory=tmp_path / "simulators", stderr=log.fileno()
        )
        await process.start()
        yield process
        await process.stop()


@pytest.fixture
async def backend(runner: RunnerProcess) -> AsyncIterator[ProcessBackend]:
    made = ProcessBackend(runner_url=runner.url, runner_token=runner.token)
    await made.start()
    yield made
    await made.close()


async def until(changes: AsyncIterator[Workload], phase: WorkloadPhase) -> Workload:
    async with asyncio.timeout(30):
        async for workload in changes:
            if workload.phase is phase:
                return workload
    raise AssertionError("the changes ended")


async def test_creates_once_lists_and_deletes(backend: ProcessBackend) -> None:
    first, again = await asyncio.gather(backend.create(spec("a")), backend.create(spec("a")))
    assert first == again == await backend.get("a")
    assert first.phase is WorkloadPhase.READY
    assert await backend.list(HERE) == [first]
    assert await backend.delete("a", "another-uid") is False
    assert await backend.delete("a", first.uid) is True
    assert await backend.delete("a", None) is True
    assert await backend.get("a") is None
    assert await backend.list(HERE) == []
    assert process_table.start_time(pid_of(first)) is None


async def test_a_spare_becomes_a_sessions_and_runs_on(backend: ProcessBackend) -> None:
    made = await backend.create(WorkloadSpec.spare("a", "a-token", HERE))
    assert made.session_id == ""
    await backend.assign("a", "another-uid", "session-2", "user-2")
    await backend.assign("never made", made.uid, "session-2", "user-2")
    assert await backend.get("a") == made
    await backend.assign("a", made.uid, "session-1", "user-1")
    assert await backend.get("a") == msgspec.structs.replace(made, session_id="session-1")
    assert psutil.Process(pid_of(made)).is_running()


async def test_a_ready_endpoint_answers(backend: ProcessBackend) -> None:
    made = await backend.create(spec("a"))
    assert made.endpoint is not None
    async with grpc.aio.insecure_channel(made.endpoint) as channel, asyncio.timeout(20):
        await channel.channel_ready()


async def test_a_process_gets_its_settings_and_no_secret_of_the_service(backend: ProcessBackend) -> None:
    process = psutil.Process(pid_of(await backend.create(spec("a"))))
    assert os.getsid(process.pid) == process.pid
    environ = process.environ()
    assert (environ["SESSION_ID"], environ["SIMULATOR_TOKEN"]) == ("session-1", "a-token-of-the-simulator")
    assert not set(environ) & {"SECRET_KEY", "DB_PASSWORD", "REDIS_PASSWORD", "SIMULATOR_RUNNER_TOKEN"}
    assert "a-token" not in " ".join(process.cmdline())


async def test_a_crash_is_reported_at_once_and_kept_until_deleted(backend: ProcessBackend) -> None:
    made = await backend.create(spec("a"))
    async with aclosing(backend.changes()) as changes:
        assert await until(changes, WorkloadPhase.READY) == made
        os.kill(pid_of(made), signal.SIGKILL)
        failed = await until(changes, WorkloadPhase.FAILED)
        assert (
            failed
            == Workload("a", made.uid, WorkloadPhase.FAILED, None, "SIGKILL", "session-1")
            == await backend.get("a")
        )
        assert await backend.create(spec("a")) == failed
        assert await backend.delete("a", failed.uid) is True
        gone = await until(changes, WorkloadPhase.FAILED)
        assert gone.reason == "gone"
        assert (await backend.create(spec("a"))).uid != made.uid


async def test_a_simulator_that_cannot_start_says_why_without_its_token(backend: ProcessBackend) -> None:
    bad = spec("bad")
    bad = msgspec.structs.replace(bad, initial_symbols=(bad.token,))
    failed = await backend.create(bad)
    assert failed.phase is WorkloadPhase.FAILED
    assert failed.reason is not None
    assert failed.reason.startswith("did not start: exit code 2: ")
    assert "INITIAL_SYMBOLS" in failed.reason
    assert "a-token" not in failed.reason


async def test_a_frozen_simulator_is_deleted_and_nothing_is_built_on_it_meanwhile(backend: ProcessBackend) -> None:
    made = await backend.create(spec("a"))
    os.kill(pid_of(made), signal.SIGSTOP)
    async with aclosing(backend.changes()) as changes:
        deleting = asyncio.create_task(backend.delete("a", made.uid))
        ending = await until(changes, WorkloadPhase.ENDING)
    assert ending == await backend.create(spec("a")) == await backend.get("a")
    assert ending.uid == made.uid
    assert ending.endpoint is None
    assert await deleting is True
    assert process_table.start_time(pid_of(made)) is None


async def test_two_databases_on_one_runner_see_their_own(backend: ProcessBackend) -> None:
    ours, theirs = [await backend.create(spec(name, label)) for name, label in (("a", HERE), ("b", ELSEWHERE))]
    assert await backend.list(HERE) == [ours]
    assert await backend.list(ELSEWHERE) == [theirs]
    assert await backend.list("") == []


async def test_an_id_that_is_no_file_name_is_refused(backend: ProcessBackend) -> None:
    for simulator_id in ("../../escape", "a/b", ".", "a" * 200):
        with pytest.raises(BackendUnavailableError):
            await backend.create(spec(simulator_id))
    assert await backend.list(HERE) == []


async def test_a_stranger_is_refused(runner: RunnerProcess) -> None:
    stranger = ProcessBackend(runner_url=runner.url, runner_token="guess")
    await stranger.start()
    with pytest.raises(BackendUnavailableError) as refusal:
        await stranger.list(HERE)
    assert refusal.value.detail.startswith("runner: 401")
    await stranger.close()


async def test_simulators_end_with_a_killed_runner_and_are_reported_gone(
    runner: RunnerProcess, backend: ProcessBackend
) -> None:
    made = await backend.create(spec("a"))
    async with aclosing(backend.changes()) as changes:
        await until(changes, WorkloadPhase.READY)
        url = runner.url
        os.kill(runner.pid, signal.SIGKILL)
        await runner.wait()
        with pytest.raises(BackendUnavailableError):
            await backend.list(HERE)
        async with asyncio.timeout(20):
            while process_table.start_time(pid_of(made)) is not None:
                await asyncio.sleep(0.02)
        await runner.start()
        assert runner.url == url
        assert (await until(changes, WorkloadPhase.FAILED)).reason == "gone"
    assert (await backend.create(spec("a"))).phase is WorkloadPhase.READY


async def test_a_runner_ends_with_its_simulators_when_its_input_ends(
    runner: RunnerProcess, backend: ProcessBackend
) -> None:
    made = await backend.create(spec("a"))
    runner.close_input()
    assert await runner.wait() == "exit code 0"
    assert process_table.start_time(pid_of(made)) is None


async def test_without_a_runner_it_has_its_own_and_replaces_it(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(process_table.descendants(os.getpid()))
    backend = ProcessBackend()
    await backend.start()
    try:
        made = await backend.create(spec("a"))
        runner_pid = psutil.Process(pid_of(made)).ppid()
        os.kill(runner_pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while True:
                try:
                    assert (await backend.create(spec("b"))).phase is WorkloadPhase.READY
                    break
                except BackendUnavailableError:  # until its end is noticed
                    await asyncio.sleep(0.02)
    finally:
        await backend.close()
    assert {pid for pid in process_table.descendants(os.getpid()) if process_table.start_time(pid)} <= before
    assert "listening" in capfd.readouterr().err  # output of simulators goes where the pod's goes
