"""Real servers in temporary directories; whatever a test leaves running is killed and counts as a failure."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from session_service.local.binaries import find_postgres, find_valkey
from session_service.local.postgres import EmbeddedPostgres
from session_service.local.valkey import EmbeddedValkey

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    async def wait(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.02)

    return wait


@pytest.fixture
async def make_postgres(tmp_path: Path) -> AsyncIterator[Callable[..., EmbeddedPostgres]]:
    """Makes servers over ``tmp_path/NAME``; all are stopped at the end."""
    made: list[EmbeddedPostgres] = []

    def make(name: str = "postgres", **options: object) -> EmbeddedPostgres:
        settings = {"programs": find_postgres(), "password": "p@ss:w/rd", "log": tmp_path / f"{name}.log", **options}
        server = EmbeddedPostgres(directory=tmp_path / name, **settings)  # type: ignore[arg-type] # as given
        made.append(server)
        return server

    yield make
    for server in made:
        await server.stop()
        server.close()


@pytest.fixture
async def make_valkey(tmp_path: Path) -> AsyncIterator[Callable[[str], EmbeddedValkey]]:
    made: list[EmbeddedValkey] = []

    def make(password: str) -> EmbeddedValkey:
        made.append(EmbeddedValkey(find_valkey(), password=password, log=tmp_path / f"valkey{len(made)}.log"))
        return made[-1]

    yield make
    for server in made:
        await server.stop()
