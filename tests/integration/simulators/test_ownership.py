"""Two pods, one exchange: whose reconciler looks after a simulator, and how a former owner is kept from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from exchange_simulator.server import serving
from exchange_simulator.settings import Settings as ExchangeSettings
from session_service.clients.exchange import Fence
from session_service.domain.simulator import SimulatorAddress
from session_service.errors import FencedError
from tests.support.api_client import ApiClient
from tests.support.metrics_reader import metric_total
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect

LEASE_S = 1.0
TAKEN_WITHIN_S = 20 * LEASE_S  # a lease and some rounds, and room for a slow machine


@pytest.fixture
async def pods(make_service: Callable[..., Any]) -> AsyncIterator[tuple[Service, Service]]:
    """Pods a and b."""
    async with serving(ExchangeSettings(host="127.0.0.1", port=0, seed=7)) as (port, _ticking):
        yield tuple(
            [
                await make_service(
                    POD_NAME=name,
                    POD_LEASE_SECONDS=str(LEASE_S),
                    SIMULATOR_BACKEND="service",
                    EXCHANGE_MANAGER_SERVICE=f"127.0.0.1:{port}",
                    SIMULATOR_HEARTBEAT_INTERVAL="1",
                )
                for name in ("a", "b")
            ]
        )


def pod_id(pod: Service) -> str:
    return pod.server._membership.pod_id


async def freeze(pod: Service) -> None:
    """Its loops stand still, as those of a process that was stopped or killed. What it remembers, it remembers."""
    await pod.server._guard.close()


async def address_of(pod: Service, session_id: str) -> SimulatorAddress:
    address = await pod.server._sessions.simulator_ops.address(session_id)
    assert address is not None
    return address


async def owner(sql: Sql) -> tuple[str | None, int]:
    row = await sql.fetchrow("SELECT pod_id, epoch FROM session.ownership")
    assert row is not None
    return row["pod_id"], row["epoch"]


async def until_owned(sql: Sql, expected: tuple[str, int]) -> None:
    async def is_owned() -> bool:
        return await owner(sql) == expected

    await eventually(is_owned, within_s=TAKEN_WITHIN_S, what=f"{expected} as the owner")


async def last_heartbeat(sql: Sql) -> int:
    value = await sql.fetchval("SELECT metadata ->> 'last_simulator_heartbeat_sent' FROM session.session_metadata")
    return int(value or 0)


async def until_next_heartbeat(sql: Sql) -> None:
    before = await last_heartbeat(sql)

    async def has_come() -> bool:
        return await last_heartbeat(sql) > before

    await eventually(has_come, within_s=TAKEN_WITHIN_S, what="a recorded heartbeat")


async def test_a_start_on_one_pod_is_carried_out_by_the_owner(pods: tuple[Service, Service], sql: Sql) -> None:
    a, b = pods
    session_id = await ApiClient(a.http).open_session()
    simulator_id = await ApiClient(b.http).start_simulator(session_id)
    assert await owner(sql) == (pod_id(a), 1)
    started = "session_simulator_creation_duration_seconds_count"
    assert [await metric_total(pod, started) for pod in pods] == [1, 0]
    await ApiClient(b.http).call("DELETE", f"/api/simulators/{simulator_id}")
    await ApiClient(b.http).simulator_is(simulator_id, "STOPPED")
    assert await owner(sql) == (pod_id(a), 1)


async def test_a_socket_that_comes_to_the_other_pod_brings_its_session_along(
    pods: tuple[Service, Service], sql: Sql
) -> None:
    a, b = pods
    session_id = await ApiClient(a.http).open_session()
    await ApiClient(a.http).start_simulator(session_id)
    async with connect(b, deviceId="device-1") as client:
        assert client.frames[0]["sessionId"] == session_id
        await until_owned(sql, (pod_id(b), 2))
        await until_next_heartbeat(sql)
        with pytest.raises(FencedError):
            await a.server._exchange.heartbeat(await address_of(a, session_id), fence=Fence(1, pod_id(a)))


async def test_simulators_of_a_pod_that_is_gone_are_taken_over_under_a_higher_epoch(
    pods: tuple[Service, Service], sql: Sql
) -> None:
    a, b = pods
    session_id = await ApiClient(a.http).open_session()
    simulator_id = await ApiClient(a.http).start_simulator(session_id)
    former = pod_id(a)
    await freeze(a)
    await until_owned(sql, (pod_id(b), 2))
    await until_next_heartbeat(sql)
    address = await address_of(b, session_id)
    with pytest.raises(FencedError) as refused:
        await a.server._exchange.heartbeat(address, fence=Fence(1, former))
    assert refused.value.highest_epoch == 2
    assert (await ApiClient(b.http).simulator(simulator_id))["status"] == "RUNNING"
    assert await metric_total(b, "session_takeovers_total") == 1


async def test_a_former_owner_that_thaws_is_refused_counted_and_demoted(
    pods: tuple[Service, Service], sql: Sql
) -> None:
    a, b = pods
    session_id = await ApiClient(a.http).open_session()
    simulator_id = await ApiClient(a.http).start_simulator(session_id)
    reconciler = a.server._reconciler
    held = reconciler._held[simulator_id]
    await freeze(a)
    await reconciler._beat(held)  # answered, and not recorded before it stood still
    await until_owned(sql, (pod_id(b), 2))
    recorded = await last_heartbeat(sql)
    # It thaws, and goes on where it was.
    await reconciler.record_heartbeats()
    assert await metric_total(a, "session_stale_writes_refused_total") == 1
    assert simulator_id not in reconciler._held
    assert await last_heartbeat(sql) >= recorded
    assert await a.server._database.simulators.stopped(held) is None
    assert await a.server._database.simulators.fail(held, "a former owner's") is False
    assert not await a.server._ownership.outranked(session_id, held.ownership.epoch, 2)
    assert await owner(sql) == (pod_id(b), 2)
    assert (await ApiClient(b.http).simulator(simulator_id))["status"] == "RUNNING"


async def test_an_owner_whose_claim_postgresql_forgot_goes_above_what_the_simulator_has_seen(
    pods: tuple[Service, Service], sql: Sql
) -> None:
    a, _b = pods
    session_id = await ApiClient(a.http).open_session()
    simulator_id = await ApiClient(a.http).start_simulator(session_id)
    address = await address_of(a, session_id)
    # As another pod did under a claim that a promoted standby does not know of.
    await a.server._exchange.heartbeat(address, fence=Fence(7, "forgotten#1"))
    await until_owned(sql, (pod_id(a), 8))
    await until_next_heartbeat(sql)
    with pytest.raises(FencedError):
        await a.server._exchange.heartbeat(address, fence=Fence(7, "forgotten#1"))
    assert (await ApiClient(a.http).simulator(simulator_id))["status"] == "RUNNING"
    assert await metric_total(a, "session_stale_writes_refused_total") == 0


async def test_what_an_owner_wrote_before_it_raised_its_epoch_is_no_stale_write(
    pods: tuple[Service, Service], sql: Sql
) -> None:
    a, _b = pods
    session_id = await ApiClient(a.http).open_session()
    simulator_id = await ApiClient(a.http).start_simulator(session_id)
    reconciler = a.server._reconciler
    assert await a.server._ownership.outranked(session_id, 1, 7)
    reconciler._heartbeats.sent(session_id, 1)  # answered before that, and recorded only now
    await reconciler.record_heartbeats()
    assert await owner(sql) == (pod_id(a), 8)
    assert await metric_total(a, "session_stale_writes_refused_total") == 0
    assert simulator_id in reconciler._held
