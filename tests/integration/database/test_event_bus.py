"""The event bus on a real server: between pods, and at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from session_service import config
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.database.events import EventBus
from session_service.database.redis import Redis
from session_service.domain.events import EventType, SessionEvent
from tests.support.servers import TestServers
from tests.support.waiting import eventually


@pytest.fixture
async def redis(servers: TestServers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Redis]:
    # What Redis does not take in time is lost, which is right, and not what is asked here.
    monkeypatch.setattr("session_service.database.redis.SOCKET_TIMEOUT_S", 10.0)
    settings = config.load(servers.redis_environ()).settings.redis
    made = Redis(settings, CircuitBreaker("redis", clock=asyncio.get_running_loop().time))
    yield made
    await made.close()


async def ends(task: asyncio.Task[None]) -> None:
    task.cancel()
    done, _pending = await asyncio.wait({task}, timeout=2)
    assert done, f"{task.get_coro()} did not take its cancellation"


async def test_events_reach_other_pods_in_order_and_the_own_once(redis: Redis) -> None:
    heard: dict[str, list[str | None]] = {"one": [], "two": []}
    async with AsyncExitStack() as exits:
        buses = {name: EventBus(redis, name) for name in heard}
        for name, bus in buses.items():

            def note(event: SessionEvent, name: str = name) -> None:
                if event.type is EventType.SESSION_CREATED:
                    heard[name].append(event.session_id)

            bus.subscribe(note)
            for loop in (bus.run_inbox(), bus.run_outbox()):
                exits.push_async_callback(ends, asyncio.create_task(loop))

        async def two_listens() -> bool:
            buses["one"].emit(EventType.SESSION_CREATED, session_id="probe")
            return bool(heard["two"])

        await eventually(two_listens, within_s=20, what="the subscription")
        heard["one"].clear()
        for number in range(500):
            buses["one"].emit(EventType.SESSION_CREATED, session_id=str(number))
        assert heard["one"] == [str(number) for number in range(500)]

        async def all_came() -> bool:
            return heard["two"][-1:] == ["499"]

        await eventually(all_came, within_s=20, what="500 events")
        assert [one for one in heard["two"] if one != "probe"] == [str(number) for number in range(500)]


async def test_pods_of_one_name_hear_each_other_and_know_their_own_events(redis: Redis) -> None:
    heard: dict[str, list[SessionEvent]] = {"here": [], "there": []}
    async with AsyncExitStack() as exits:
        buses = {"here": EventBus(redis, "pod"), "there": EventBus(redis, "pod")}
        for place, bus in buses.items():
            bus.subscribe(heard[place].append)
            for loop in (bus.run_inbox(), bus.run_outbox()):
                exits.push_async_callback(ends, asyncio.create_task(loop))

        async def both_listen() -> bool:
            for place, bus in buses.items():
                bus.emit(EventType.SESSION_CREATED, session_id=place)
            return all({event.session_id for event in events} == set(buses) for events in heard.values())

        await eventually(both_listen, within_s=20, what="each other's events")
    for place, bus in buses.items():
        assert {event.session_id for event in heard[place] if bus.is_own(event)} == {place}


async def test_a_subscriber_that_fails_keeps_no_event_from_the_others(redis: Redis) -> None:
    heard: list[EventType] = []
    bus = EventBus(redis, "one")

    def fails(_event: SessionEvent) -> None:
        raise RuntimeError("a fault of one subscriber")

    bus.subscribe(fails)
    end = bus.subscribe(lambda event: heard.append(event.type))
    bus.emit(EventType.SESSION_CREATED, session_id="a")
    assert heard == [EventType.SESSION_CREATED]
    end()
    bus.emit(EventType.SESSION_ENDED, session_id="a")
    assert heard == [EventType.SESSION_CREATED]


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_the_outbox_ends_whatever_it_is_doing(redis: Redis, turns: int) -> None:
    """Cancelled after any number of turns of the loop: before, in, or after its exchange with the server."""
    for _ in range(5):
        bus = EventBus(redis, "one")
        outbox = asyncio.create_task(bus.run_outbox())
        bus.emit(EventType.POD_OFFLINE)
        for _ in range(turns):
            await asyncio.sleep(0)
        await ends(outbox)


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_the_inbox_ends_whatever_it_is_doing(redis: Redis, turns: int) -> None:
    for _ in range(5):
        inbox = asyncio.create_task(EventBus(redis, "one").run_inbox())
        for _ in range(turns):
            await asyncio.sleep(0)
        await ends(inbox)
