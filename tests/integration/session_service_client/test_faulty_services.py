"""The client against services that break the protocol: it sees, says, counts, and mends or ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from session_service_client import (
    Connected,
    ConnectionEndedError,
    Disconnected,
    ExchangeData,
    SequenceViolated,
    ServiceNotice,
    SessionClient,
    SimulatorStatus,
)

from tests.integration.session_service_client.faulty_services import (
    BrokenSequence,
    BusyService,
    DeafService,
    FaultyService,
    FrozenService,
    GarblingService,
    IdleDeafService,
    LaggingMove,
    OverloadedService,
    RepeatingService,
    SilentMove,
    SilentSimulatorService,
    SkippingService,
    UnexplainedService,
    UnstableService,
)
from tests.integration.session_service_client.recording import Recording, until
from tests.support.stalls import Stalls


def make_client(
    service: FaultyService, told: Recording, *, others: Sequence[str] = (), silence_limit_s: float = 5.0
) -> SessionClient:
    return SessionClient(
        [service.url, *others],
        token="text",
        device_id="device-1",
        on_event=told.add,
        connect_timeout_s=20.0,
        silence_limit_s=silence_limit_s,
        random=lambda: 0.1,
    )


@pytest.mark.parametrize(
    ("kind", "violation", "applied"),
    [(SkippingService, "GAP", [1, 2, 3, 20, 21]), (RepeatingService, "DUPLICATE", [1, 2, 3, 20, 21])],
)
async def test_a_broken_sequence_is_told_counted_and_mended_by_a_snapshot(
    kind: type[BrokenSequence], violation: str, applied: list[int]
) -> None:
    told = Recording()
    async with kind() as service, make_client(service, told) as client:
        await until(lambda: client.position is not None and client.position.sequence == 21, "the mended stream")
        assert client.connected
    assert [one.kind for one in told.of(SequenceViolated)] == [violation]
    assert (client.statistics.gaps, client.statistics.duplicates) == ((1, 0) if violation == "GAP" else (0, 1))
    assert client.statistics.snapshots_skipping == 1
    numbers = [one.sequence for data in told.of(ExchangeData) for one in data.order_updates]
    assert numbers == applied
    assert [one["type"] for one in service.received] == ["request_full_refresh"]


async def test_over_two_sockets_each_order_update_is_told_once() -> None:
    told = Recording()
    async with LaggingMove() as service, make_client(service, told) as client:
        await until(lambda: client.position is not None and client.position.sequence == 6, "the new socket's frames")
    assert [one.sequence for data in told.of(ExchangeData) for one in data.order_updates] == [1, 2, 3, 4, 5, 6]
    assert client.statistics.moves == 1
    assert client.statistics.overlapped == 1
    assert client.statistics.gaps == client.statistics.duplicates == 0
    assert [query["attempt"] for query in service.queries] == ["0", "1"]
    assert service.queries[1]["sequence"] == "1"
    assert service.queries[0]["clientId"] == service.queries[1]["clientId"]
    assert told.of(Disconnected) == []


async def test_a_new_socket_without_a_frame_is_taken_at_the_deadline() -> None:
    told = Recording()
    async with SilentMove() as service, make_client(service, told) as client:
        with Stalls() as stalls:
            asked_s = time.monotonic()
            await until(lambda: client.statistics.moves == 1, "the move")
            assert stalls.took_s(asked_s) < 2
    assert [one.attempt for one in told.of(Connected)] == [0, 1]


async def test_frames_that_cannot_be_read_are_told_and_survived() -> None:
    told = Recording()
    async with GarblingService() as service, make_client(service, told) as client:
        await until(lambda: told.of(SimulatorStatus), "the frame behind them")
        assert client.connected
    assert [one.code for one in told.of(ServiceNotice)] == ["INVALID_MESSAGE"]


async def test_retry_after_of_a_refused_upgrade_is_waited_for() -> None:
    told = Recording()
    async with OverloadedService() as service, make_client(service, told) as client:
        assert client.connected
    first, second = service.arrived_s
    assert second - first >= 1.0
    assert client.statistics.refused == 1
    assert told.of(Disconnected)[0].retry_in_s >= 1.0


async def test_each_url_is_tried_once_before_the_pauses_grow() -> None:
    told = Recording()
    async with (
        BusyService() as first,
        BusyService() as second,
        BusyService() as third,
        FaultyService() as last,
        make_client(first, told, others=[second.url, third.url, last.url]) as client,
    ):
        assert client.connected
    assert [one.retry_in_s for one in told.of(Disconnected)] == pytest.approx([0.025] * 3)


async def test_a_refusal_that_nothing_explains_is_final_in_the_end() -> None:
    told = Recording()
    async with UnexplainedService() as service:
        with pytest.raises(ConnectionEndedError, match="HTTP 404"):
            await make_client(service, told).__aenter__()
    assert len(service.queries) == 5


async def test_a_service_that_answers_no_heartbeat_is_left() -> None:
    told = Recording()
    async with DeafService() as service, make_client(service, told) as client:
        await until(lambda: client.statistics.reconnects >= 1, "another socket")
    assert client.statistics.heartbeats_missed >= 3
    assert service.queries[1]["attempt"] == "1"


async def test_a_pod_that_froze_is_left_for_another_url_long_before_its_heartbeats_are_missed() -> None:
    told = Recording()
    async with FrozenService() as frozen, FaultyService() as other:
        client = make_client(frozen, told, others=[other.url], silence_limit_s=0.4)
        async with client:
            await until(lambda: len(told.of(Connected)) >= 2, "another socket")
            assert [one.url for one in told.of(Connected)][:2] == [frozen.url, other.url]
            assert told.of(Disconnected)[0].reason == "silent for 0.4 s"
    assert [one["type"] for one in frozen.received][:1] == ["heartbeat"], "it was asked before it was given up"
    assert set(client.statistics.close_codes) == {1006}


async def test_a_pod_that_answers_is_kept_though_no_data_come() -> None:
    told = Recording()
    async with SilentSimulatorService() as service, make_client(service, told, silence_limit_s=0.2) as client:
        await until(lambda: len(service.received) >= 5, "heartbeats before they are due")
        assert client.connected
    assert told.of(Disconnected) == []


async def test_without_a_simulator_silence_proves_nothing() -> None:
    told = Recording()
    async with IdleDeafService() as service, make_client(service, told, silence_limit_s=0.02) as client:
        await until(lambda: told.of(Disconnected), "the end of the socket")
    assert client.statistics.heartbeats_missed >= 3
    assert told.of(Disconnected)[0].reason == "connection lost"


async def test_a_final_close_ends_it_after_one_connection() -> None:
    told = Recording()
    async with UnstableService(4504) as service, make_client(service, told) as client:
        ended = await asyncio.wait_for(client.wait_ended(), 10)
        assert ended.code == "CONNECTION_REPLACED"
    assert len(service.queries) == 1


async def test_short_lived_connections_are_not_made_in_a_hurry() -> None:
    """A close that follows each connection at once must not become a storm: the pauses grow all the same."""
    told = Recording()
    async with UnstableService(1011) as service, make_client(service, told) as client:
        await until(lambda: len(told.of(Disconnected)) >= 4, "four losses")
    pauses = [one.retry_in_s for one in told.of(Disconnected)]
    assert pauses[0] < 0.25
    assert all(pause >= 0.5 for pause in pauses[1:])
    assert set(client.statistics.close_codes) == {1011}


async def test_what_a_callback_raises_ends_the_connection_and_is_said() -> None:
    def refuse(_event: object) -> None:
        raise LookupError("the user's own")

    async with SkippingService() as service:
        client = SessionClient(service.url, token="text", device_id="device-1", on_event=refuse)
        with pytest.raises(ConnectionEndedError) as ended:
            await client.__aenter__()
    assert ended.value.code == "CLIENT_ERROR"
    assert isinstance(ended.value.__cause__, LookupError)
