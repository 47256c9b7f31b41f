"""Which simulators get heartbeats while PostgreSQL is away: those that ran, whatever a slower read says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from session_service.database.simulators import OwnedSimulator
from session_service.errors import DatabaseUnavailableError
from tests.support.installation import Installation, running_simulator
from tests.support.pod_parts import PodParts


@pytest.fixture
async def pod(here: Installation) -> AsyncIterator[PodParts]:
    async with here.pod() as made:
        yield made


async def beat_while(
    pod: PodParts, happens: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round, between whose read of rows and its reply something happens."""
    read = pod.reconciler._repository.running_of_pod

    async def slow(pod_id: str) -> list[OwnedSimulator]:
        found = await read(pod_id)
        await happens()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(pod.reconciler._repository, "running_of_pod", slow)
        await pod.reconciler.beat()


async def heartbeats_in_an_outage(pod: PodParts, monkeypatch: pytest.MonkeyPatch) -> int:
    async def away(_pod_id: str) -> list[OwnedSimulator]:
        raise DatabaseUnavailableError

    before = pod.calls.names.count("heartbeat")
    with monkeypatch.context() as patched:
        patched.setattr(pod.reconciler._repository, "running_of_pod", away)
        await pod.reconciler.beat()
    return pod.calls.names.count("heartbeat") - before


async def test_one_that_started_during_a_round_is_kept_alive(pod: PodParts, monkeypatch: pytest.MonkeyPatch) -> None:
    await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    session_id = await pod.open_session("user-2")
    await beat_while(pod, lambda: running_simulator(pod, session_id, "user-2"), monkeypatch)
    await pod.quiet()
    assert await heartbeats_in_an_outage(pod, monkeypatch) == 2


async def test_one_that_ended_during_a_round_is_not(pod: PodParts, monkeypatch: pytest.MonkeyPatch) -> None:
    await running_simulator(pod, await pod.open_session("user-1"), "user-1")
    stopping = await running_simulator(pod, await pod.open_session("user-2"), "user-2")

    async def stop() -> None:
        await pod.simulators.stop_simulator(stopping.simulator_id, "stopped_by_user")
        await pod.quiet()

    await beat_while(pod, stop, monkeypatch)
    assert stopping.simulator_id not in pod.reconciler._held  # also before it is looked at again
    await pod.quiet()
    assert await heartbeats_in_an_outage(pod, monkeypatch) == 1
