"""Bounds of the queue between socket and user: merged, never dropped, and then back-pressure."""

import asyncio

from session_service_client.event_queue import MAX_EVENTS, MAX_ORDER_UPDATES, MERGE_BEYOND, EventQueue
from session_service_client.events import Event, ExchangeData, OrderUpdate, Portfolio, Quote, ServiceNotice


def data(number: int, *, epoch: int = 1, orders: int = 0, snapshot: bool = False) -> ExchangeData:
    return ExchangeData(
        epoch,
        number,
        number,
        snapshot,
        number,
        (Quote("A", number, number, 1, 1, number, 1),),
        tuple(OrderUpdate("o", "A", "OPEN", 0, 0.0, number, None) for _ in range(orders)),
        Portfolio((), float(number), 0.0) if number % 2 else None,
    )


async def taken(queue: EventQueue) -> list[Event]:
    queue.close()
    events = []
    while (event := await queue.get()) is not None:
        events.append(event)
    return events


async def test_a_reader_that_keeps_up_gets_every_frame() -> None:
    queue = EventQueue()
    for number in range(1, 200):
        frame = data(number)
        queue.put(frame)
        assert await queue.get() is frame


async def test_for_a_slow_reader_frames_are_merged_and_order_updates_kept() -> None:
    queue = EventQueue()
    for number in range(1, 501):
        queue.put(data(number, orders=2))
    events = await taken(queue)
    assert len(events) == MERGE_BEYOND + 1
    position = 0
    orders = []
    for event in events:
        assert isinstance(event, ExchangeData)
        assert event.from_sequence == position + 1
        position = event.sequence
        orders += [one.sequence for one in event.order_updates]
    assert orders == [number for number in range(1, 501) for _ in range(2)]
    last = events[-1]
    assert isinstance(last, ExchangeData)
    assert [one.bid for one in last.quotes] == [500]
    assert last.portfolio == Portfolio((), 499.0, 0.0)


async def test_a_merge_onto_a_snapshot_is_a_snapshot_of_the_later_position() -> None:
    queue = EventQueue()
    for number in range(1, MERGE_BEYOND + 1):
        queue.put(data(number))
    queue.put(data(900, snapshot=True))
    queue.put(data(901))
    last = (await taken(queue))[-1]
    assert isinstance(last, ExchangeData)
    assert (last.snapshot, last.from_sequence, last.sequence) == (True, 901, 901)


async def test_what_does_not_follow_is_not_merged() -> None:
    queue = EventQueue()
    for number in range(1, MERGE_BEYOND + 1):
        queue.put(data(number))
    queue.put(data(65))
    queue.put(ServiceNotice("CODE", "between"))
    queue.put(data(66))
    queue.put(data(1, epoch=2, snapshot=True))
    assert len(await taken(queue)) == MERGE_BEYOND + 4


async def test_when_it_is_full_the_writer_waits_for_room() -> None:
    queue = EventQueue()
    for number in range(MAX_EVENTS):
        queue.put(ServiceNotice("CODE", str(number)))
    assert queue.full
    waiting = asyncio.create_task(queue.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await queue.get()
    await waiting
    assert not queue.full


async def test_order_updates_fill_it_too() -> None:
    queue = EventQueue()
    queue.put(data(1, orders=MAX_ORDER_UPDATES))
    assert queue.full
    await queue.get()
    assert not queue.full


async def test_closing_lets_everything_out_and_a_waiting_writer_go() -> None:
    queue = EventQueue()
    for number in range(MAX_EVENTS):
        queue.put(ServiceNotice("CODE", str(number)))
    waiting = asyncio.create_task(queue.room())
    await asyncio.sleep(0)
    assert len(await taken(queue)) == MAX_EVENTS
    await waiting
