"""Fixtures that many tests share. A test that needs no server asks for none, and none is started for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import structlog

from tests.support.cluster_template import ClusterTemplate
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.stalls import Stalls


def pytest_configure() -> None:
    """Set up what is global to the process.

    There is no current event loop: otherwise looptime, asking for it before a synchronous test, makes one that nobody
    closes.
    """
    asyncio.set_event_loop(None)
    # Plain tracebacks: structlog's default, with every frame's variables, takes seconds and holds up the loop.
    *processors, _renderer = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, plain])


@pytest.fixture(scope="session")
def cluster_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterTemplate]:
    template = ClusterTemplate(tmp_path_factory.mktemp("cluster"))
    with asyncio.Runner() as runner:
        runner.run(template.make())
    yield template
    template.remove()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, cluster_template: ClusterTemplate) -> Iterator[TestServers]:
    """Embedded PostgreSQL and Valkey. Started from the main thread, with which they would die."""
    test_servers = TestServers(tmp_path_factory.mktemp("servers"), cluster_template)
    with asyncio.Runner() as runner:
        runner.run(test_servers.start())
        yield test_servers
        runner.run(test_servers.stop())


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    """From its start on: ``stalls.took_s(began_s)`` is what a limit on a duration is compared with."""
    with Stalls() as made:
        yield made


@pytest.fixture
async def database(servers: TestServers) -> AsyncIterator[Database]:
    """A database of the test's own, with the schema applied."""
    made = await servers.create_database()
    yield made
    await servers.drop_database(made)


@pytest.fixture
async def make_service(servers: TestServers, database: Database) -> AsyncIterator[Callable[..., object]]:
    """``await make_service(SESSION_TIMEOUT_SECONDS="2")`` starts a pod with these variables beside the usual ones.

    They end side by side: one after the other, each would wait for the others' beats to find out who is the last.
    """
    made: list[Service] = []

    async def make(**environ: str) -> Service:
        pod = await Service({**database.environ(), **servers.redis_environ(), **environ}).__aenter__()
        made.append(pod)
        return pod

    yield make
    for failed in await asyncio.gather(*(pod.__aexit__() for pod in made), return_exceptions=True):
        if failed is not None:
            raise failed


@pytest.fixture
async def service(make_service: Callable[..., object]) -> Service:
    """A pod with the usual settings."""
    made: Service = await make_service()  # type: ignore[misc] # a fixture's callable is typed loosely
    return made
