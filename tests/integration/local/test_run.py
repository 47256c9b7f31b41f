"""`session-service local`, whole: the command, its pods, its end."""

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec
import psutil
import pytest
from redis import asyncio as redis

import session_service
from session_service.local.data_directory import RunDescription
from session_service.local.supervisor import SAME_SIGNAL_S
from tests.support.local_process import Run, free_ports, named, nothing_left

READY_LIMIT_S = 120.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(name: str = "data", *, pods: int = 1, port: int | None = None, **options: str) -> Run:
        runs.append(Run(tmp_path / name, port=port or free_ports(pods), pods=pods, **options))
        return runs[-1]

    yield make
    for run in runs:
        run.close()


Start = Callable[..., Run]


async def fetch(description: RunDescription, statement: str) -> object:
    connection = await asyncpg.connect(description.postgres, timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def status(url: str, path: str = "/readiness") -> int:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


async def test_starts_describes_itself_and_ends_in_order(start: Start) -> None:
    run = start()
    said = run.ready()
    assert stat.S_IMODE((run.data_dir / "local.json").stat().st_mode) == 0o600
    assert set(msgspec.json.decode((run.data_dir / "local.json").read_bytes())) == {
        *("url", "pods", "postgres", "redis", "secret_key", "supervisor_pid", "sandbox_postgres")
    }
    assert said.supervisor_pid == run.process.pid
    assert said.url == said.pods[0].url == f"http://127.0.0.1:{run.port}"
    assert psutil.pid_exists(said.pods[0].pid)
    assert await status(said.url) == 200
    assert await fetch(said, "SELECT to_regclass('session.active_sessions') IS NOT NULL") is True
    assert await fetch(said, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is True
    sandbox = await asyncpg.connect(said.sandbox_postgres, timeout=10)
    assert await sandbox.fetchval("SELECT current_user || ' in ' || current_database()") == "sessionuser in sessiondb"
    assert await sandbox.fetchval("SELECT count(*) FROM session") == 0
    await sandbox.close()
    for other in ("postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(said.sandbox_postgres.replace("/sessiondb", f"/{other}"), timeout=10)
    async with redis.Redis.from_url(said.redis) as client:
        assert await client.ping()
    assert "Try it" in run.errors()
    assert run.end() == 0
    nothing_left(run.family())
    assert not (run.data_dir / "local.json").exists()
    assert run.process.stdout is not None
    assert run.process.stdout.read() == ""


async def test_data_and_keys_survive_a_restart(start: Start) -> None:
    first = start()
    key, sandbox = first.ready().secret_key, urlsplit(first.description().sandbox_postgres)
    await fetch(first.description(), "CREATE TABLE public.kept AS SELECT 42 AS n")
    assert first.end(signal.SIGINT) == 0
    second = start()
    assert second.ready().secret_key == key
    assert urlsplit(second.description().sandbox_postgres).password == sandbox.password
    assert await fetch(second.description(), "SELECT n FROM public.kept") == 42


def test_nothing_is_left_after_kill_and_the_next_run_starts(start: Start) -> None:
    first = start()
    first.ready()
    first.end(signal.SIGKILL)
    second = start()  # at once: what is left of the first is still ending
    second.ready()
    nothing_left(first.family())


def test_nothing_is_left_of_a_frozen_database_either(start: Start) -> None:
    run = start()
    run.ready()
    servers = named("postgres", run.family())
    assert len(servers) > 3
    for process in servers:
        process.suspend()
    run.end(signal.SIGKILL)
    nothing_left(run.family())


def test_nothing_is_left_after_kill_while_it_starts(start: Start) -> None:
    run = start()
    deadline = time.monotonic() + READY_LIMIT_S
    while not named("postgres", run.family()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    run.end(signal.SIGKILL)
    nothing_left(run.family())


def test_a_signal_while_it_starts_ends_it_in_order(start: Start) -> None:
    run = start()
    deadline = time.monotonic() + READY_LIMIT_S
    while len(run.family()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert run.end() == 0
    nothing_left(run.family())


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    run = start()
    said = run.ready()
    segments = shared_memory(named("postgres", run.family()))
    assert segments
    psutil.Process(said.pods[0].pid).suspend()  # an orderly end would have to wait for it
    run.family()
    run.process.terminate()
    run.process.terminate()  # the same signal by another way, as make and `timeout` pass it on, is no second one
    told = time.monotonic()
    while "stopping" not in run.errors() or time.monotonic() - told < 2 * SAME_SIGNAL_S:
        assert time.monotonic() - told < READY_LIMIT_S
        time.sleep(0.01)
    assert run.process.poll() is None
    assert run.end() == 1
    nothing_left(run.family())
    assert not [segment for segment in segments if segment.exists()]


def shared_memory(servers: list[psutil.Process]) -> set[Path]:
    """Their segments, which nobody else would remove. Other servers of this machine have segments there too."""
    return {
        Path(mapped.path)
        for server in servers
        for mapped in server.memory_maps()
        if mapped.path.startswith("/dev/shm/PostgreSQL.")
    }


async def test_a_pod_that_ended_comes_back_on_its_port(start: Start) -> None:
    run = start(pods=2)
    before = run.ready()
    assert [pod.url for pod in before.pods] == [f"http://127.0.0.1:{run.port + index}" for index in range(2)]
    os.kill(before.pods[1].pid, signal.SIGKILL)
    await again(run, lambda: run.description().pods[1].pid != before.pods[1].pid)
    after = run.description()
    assert [pod.url for pod in after.pods] == [pod.url for pod in before.pods]
    assert after.pods[0] == before.pods[0]
    async with asyncio.timeout(READY_LIMIT_S):
        while True:
            try:
                if await status(after.pods[1].url) == 200:
                    break
            except OSError:
                await asyncio.sleep(0.05)
    assert run.end() == 0


async def again(run: Run, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(READY_LIMIT_S):
        while not condition():
            run.family()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["postgres", "valkey-server"])
async def test_a_server_that_ended_comes_back_on_its_port(start: Start, name: str) -> None:
    run = start()
    said = run.ready()
    (server,) = named(name, set(psutil.Process(run.process.pid).children()))
    server.kill()
    async with asyncio.timeout(READY_LIMIT_S):
        while True:
            try:
                if name == "postgres":
                    assert await fetch(said, "SELECT 1") == 1
                else:
                    async with redis.Redis.from_url(said.redis) as client:
                        assert await client.ping()
                break
            except (OSError, asyncpg.PostgresError, redis.RedisError):
                await asyncio.sleep(0.05)
    assert run.description() == said
    assert run.end() == 0


def test_two_runs_stand_side_by_side(start: Start) -> None:
    one, two = start("one"), start("two")
    assert one.ready().postgres != two.ready().postgres
    assert one.end() == two.end() == 0


def test_a_second_run_in_the_same_directory_is_refused(start: Start) -> None:
    run = start()
    run.ready()
    second = start()
    assert second.process.wait(timeout=READY_LIMIT_S) == 2
    assert "DATA_DIR" in second.errors()
    assert str(run.data_dir) in second.errors()
    assert len(second.errors().splitlines()) == 1
    assert run.end() == 0


def test_a_taken_port_is_refused_and_leaves_nothing(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(port=port)
        assert run.process.wait(timeout=READY_LIMIT_S) == 2
    assert f"PORT must be a free port on 127.0.0.1; it was {port}, which is taken" in run.errors()
    assert not run.data_dir.exists()


def test_a_wrong_setting_is_refused_in_one_line(start: Start) -> None:
    run = start(SESSION_TIMEOUT_SECONDS="soon")
    assert run.process.wait(timeout=READY_LIMIT_S) == 2
    assert len(run.errors().splitlines()) == 1
    assert "SESSION_TIMEOUT_SECONDS" in run.errors()
    assert not run.data_dir.exists()


def test_data_of_another_version_are_refused_in_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "data/postgres/data").mkdir(parents=True)
    (tmp_path / "data/postgres/data/PG_VERSION").write_text("9\n")
    run = start()
    assert run.process.wait(timeout=READY_LIMIT_S) == 2
    assert "DATA_DIR must be one made with PostgreSQL" in run.errors().splitlines()[-1]
    assert "Traceback" not in run.errors()


@pytest.fixture
def root_only() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root has directories that nobody else can enter")
    directory = Path(tempfile.mkdtemp(prefix="root-only-"))
    yield directory
    shutil.rmtree(directory)


def test_root_runs_it_where_only_root_can_enter(root_only: Path) -> None:
    (root_only / "inner").mkdir(mode=0o700)
    run = Run(root_only / "inner/data", port=free_ports(1))
    try:
        run.ready()
        owners = {process.uids().effective for process in named("postgres", run.family())}
        assert 0 not in owners
        assert run.end() == 0
    finally:
        run.close()
    for directory in (root_only, root_only / "inner", root_only / "inner/data"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert directory.stat().st_uid == 0


@pytest.fixture
def reachable_python(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter with this project that ``nobody`` can run; root's own may stand where only root can enter."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user runs all of this file as an ordinary user anyway")
    if nobody_can_use(Path(sys.executable)):
        yield Path(sys.executable)
        return
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        base, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copytree(
            base / "lib" / name,
            directory / "base/lib" / name,
            ignore=shutil.ignore_patterns("site-packages", "test", "__pycache__", "config-*", "idlelib"),
        )
        (directory / "base/bin").mkdir()
        for program in (base / "bin" / name, *(base / "lib").glob("libpython*")):
            shutil.copy2(program, directory / "base" / program.parent.name)
        subprocess.run([directory / "base/bin" / name, "-m", "venv", "--without-pip", directory / "venv"], check=True)
        project = directory / "project"
        for package in ("session_service", "exchange_simulator", "exchange_api"):
            shutil.copytree(Path(session_service.__file__).parents[1] / package, project / package)
        paths = f"{project}\n{sysconfig.get_path('purelib')}\n"
        (directory / "venv/lib" / name / "site-packages/project.pth").write_text(paths)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(directory / "base/lib"))
        if not nobody_can_use(directory / "venv/bin/python"):
            pytest.skip("the dependencies are installed where an ordinary user cannot enter")
        yield directory / "venv/bin/python"
    finally:
        shutil.rmtree(directory)


def nobody_can_use(python: Path) -> bool:
    command = [str(python), "-c", "import session_service.server"]
    try:
        return subprocess.run(command, user="nobody", extra_groups=[], cwd="/", capture_output=True).returncode == 0
    except PermissionError:
        return False


def test_an_ordinary_user_runs_it(reachable_python: Path) -> None:
    directory = Path(tempfile.mkdtemp())
    shutil.chown(directory, "nobody")
    run = Run(directory / "data", port=free_ports(1), user="nobody", python=str(reachable_python))
    try:
        run.ready()
        assert {process.username() for process in run.family()} == {"nobody"}
        assert run.end() == 0
    finally:
        run.close()
        shutil.rmtree(directory)
