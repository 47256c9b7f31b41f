"""The stream oracle: whatever happens, each socket gets exactly what follows its position, or a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import looptime
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_service.domain.market import Position
from session_service.domain.simulator import SimulatorAddress
from session_service.errors import DatabaseUnavailableError, SimulatorNotRunningError, UnknownSymbolError
from session_service.telemetry.metrics import Metrics
from session_service.websocket.streams import Attachment, StreamLimits, StreamManager
from tests.support.scripted_exchange import SYMBOLS, CheckedSink, Reader, ScriptedExchange

SESSION = "session-1"
Filters = tuple[frozenset[str] | None, ...]
FILTERS: Filters = (None, frozenset({"AAPL"}), frozenset({"MSFT", "TSLA"}))
TIGHT = StreamLimits(
    unsent_limit_bytes=1_500,
    check_bytes=0,
    low_water_bytes=300,
    pending_order_updates=12,
    pending_bytes=6_000,
    recent_items=30,
)


class World:
    """A pod's stream manager on one scripted simulator, and the sockets that a test opens."""

    def __init__(self, exchange: ScriptedExchange, limits: StreamLimits) -> None:
        loop = asyncio.get_running_loop()
        self.exchange = exchange
        self.metrics = Metrics()
        self.simulator: str | None = "simulator-1"
        self.database_away = False
        self.look_up_s = 0.0
        self.lost: list[str] = []
        self.filters = FILTERS
        self.streams = StreamManager(exchange, self.address_of, self.metrics, loop.time, limits=limits)
        self.streams.on_stream_lost = lambda _session_id, simulator_id: self.lost.append(simulator_id)

    async def address_of(self, session_id: str) -> SimulatorAddress | None:
        away, simulator = self.database_away, self.simulator  # an answer is as old as its way is long
        await asyncio.sleep(self.look_up_s)
        if away:
            raise DatabaseUnavailableError
        if simulator is None:
            return None
        return SimulatorAddress(session_id, simulator, "127.0.0.1:1", "")

    def attach(
        self, sink: Reader, position: Position | None = None, symbols: frozenset[str] | None = None
    ) -> Attachment:
        return self.streams.attach(SESSION, "client-1", sink, position, symbols)

    async def open(
        self, sink: Reader, position: Position | None = None, symbols: frozenset[str] | None = None
    ) -> Attachment:
        attachment = self.attach(sink, position, symbols)
        await attachment.ready(1.0)
        attachment.start()
        return attachment


@asynccontextmanager
async def world(exchange: ScriptedExchange | None = None, limits: StreamLimits | None = None) -> AsyncIterator[World]:
    made = World(exchange if exchange is not None else ScriptedExchange(), limits or StreamLimits(check_bytes=0))
    try:
        yield made
    finally:
        await made.streams.close()
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left


def in_fake_time(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine where sleeping costs nothing."""
    loop = looptime.new_event_loop(start=0)
    try:
        loop.run_until_complete(body())
    finally:
        loop.close()


# --- the oracle --------------------------------------------------------------------------------------------------


Action = tuple[Any, ...]

WHICH = st.integers(0, 2)  # which socket
FILTER = st.integers(0, len(FILTERS) - 1)  # which of the filters that this example has
QUOTED = st.sets(st.sampled_from(SYMBOLS))
# A place that a client may state: in the window, before it, ahead of the head, of another epoch, or none.
BACK = st.one_of(st.integers(0, 6), st.integers(-3, 60))
HONEST = st.sampled_from((True, True, True, True, False))
TURNS = st.integers(0, 6)  # of the event loop, without any time passing
PUBLISH = st.tuples(st.just("publish"), QUOTED, st.sampled_from((0, 0, 1, 2)), st.booleans(), TURNS)
ATTACH = st.tuples(st.just("attach"), WHICH, BACK, HONEST, FILTER)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    PUBLISH,
    PUBLISH,
    PUBLISH,
    st.tuples(st.just("burst"), st.integers(1, 60), QUOTED, TURNS),
    st.tuples(st.just("pause"), st.sampled_from((0.001, 0.1, 0.6, 3.0, 12.0))),
    ATTACH,
    ATTACH,
    st.tuples(st.just("resume"), WHICH, BACK, HONEST),
    st.tuples(st.just("detach"), WHICH),
    st.tuples(st.just("stall"), WHICH, st.sampled_from((0, 5_000))),
    st.tuples(st.just("drain"), WHICH),
    st.tuples(st.just("drain"), WHICH),
    st.tuples(st.sampled_from(("symbols", "refresh")), WHICH, FILTER),
    st.tuples(st.sampled_from(("break", "restart", "replace"))),
    st.tuples(st.sampled_from(("offline", "lookup_fails")), st.sampled_from((0.05, 1.0, 8.0))),
)


class Tab:
    """One socket of the oracle and its client's knowledge."""

    def __init__(self, world: World, sink: CheckedSink, attachment: Attachment) -> None:
        self.world = world
        self.sink = sink
        self.attachment = attachment
        sink.symbols = lambda: attachment.symbols

    async def settle_where_to_continue(self, stated: Position | None) -> None:
        await self.attachment.ready(1.0)
        if self.attachment.resumed:
            assert self.attachment.position == stated
            self.sink.position = stated
        else:
            self.sink.position = None
        self.attachment.start()


def stated_position(exchange: ScriptedExchange, back: int, honest: bool) -> Position | None:
    if honest:
        return Position(exchange.epoch, max(0, exchange.head - back))
    return Position(exchange.epoch - 1, max(0, exchange.head - back)) if back % 2 else None


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def act_on_exchange(world: World, action: Action) -> None:
    exchange = world.exchange
    match action:
        case ("publish", quoted, orders, portfolio, count):
            exchange.publish(symbols=sorted(quoted), orders=orders, portfolio=portfolio)
            await turns(count)
        case ("burst", number, quoted, count):
            for _ in range(number):
                exchange.publish(symbols=sorted(quoted))
            await turns(count)
        case ("pause", seconds):
            await asyncio.sleep(seconds)
        case ("break",):
            exchange.break_streams()
        case ("restart",):
            exchange.restart()
        case ("replace",):
            world.simulator = None if exchange.head % 2 else f"simulator-{exchange.epoch}"
            exchange.restart()
            world.streams.simulator_changed(SESSION)
            await asyncio.sleep(0.5)
            world.simulator = world.simulator or "simulator-again"
            world.streams.simulator_changed(SESSION)
        case ("offline", seconds):
            exchange.online = False
            exchange.break_streams()
            await asyncio.sleep(seconds)
            exchange.online = True
        case ("lookup_fails", seconds):
            world.database_away = True
            exchange.break_streams()
            await asyncio.sleep(seconds)
            world.database_away = False


async def act_on_socket(world: World, tab: Tab, action: Action) -> None:
    sink, attachment = tab.sink, tab.attachment
    match action:
        case ("resume", _, back, honest):
            stated = stated_position(world.exchange, back, honest)
            attachment.resume(stated)
            sink.position = None
            await tab.settle_where_to_continue(stated)
        case ("stall", _, unsent):
            sink.stalled = True
            sink.unsent += unsent
        case ("drain", _):
            sink.drain()
        case ("symbols", _, which):
            symbols = world.filters[which % len(world.filters)]
            sink.symbols = lambda: symbols
            attachment.set_symbols(symbols)
        case ("refresh", _, _):
            before = len(sink.frames)
            try:
                attachment.refresh()
            except SimulatorNotRunningError:
                return
            if not sink.stalled and not sink.slow:
                assert any(frame["snapshot"] for frame in sink.frames[before:])


async def act(world: World, tabs: dict[int, Tab], action: Action) -> None:
    kind = action[0]
    if kind in ("attach", "detach"):
        if action[1] in tabs:
            tab = tabs.pop(action[1])
            tab.attachment.detach()
            tab.sink.detached = True
        if kind == "attach":
            _, which, back, honest, filter_number = action
            symbols = world.filters[filter_number % len(world.filters)]
            sink = CheckedSink(world.exchange)
            stated = stated_position(world.exchange, back, honest)
            tabs[which] = Tab(world, sink, world.attach(sink, stated, symbols))
            await tabs[which].settle_where_to_continue(stated)
    elif kind in ("resume", "stall", "drain", "symbols", "refresh"):
        tab_or_none = tabs.get(action[1])
        if tab_or_none is not None and not tab_or_none.sink.slow:
            await act_on_socket(world, tab_or_none, action)
    else:
        await act_on_exchange(world, action)


async def run_oracle(window: int, filters: Filters, script: list[Action]) -> None:
    async with world(ScriptedExchange(window), TIGHT) as made:
        made.filters = filters
        tabs: dict[int, Tab] = {}
        for action in script:
            await act(made, tabs, action)
        for tab in tabs.values():
            tab.sink.drain()
        for _ in range(20):
            made.exchange.publish(symbols=SYMBOLS, orders=1, portfolio=True)
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)
        head = Position(made.exchange.epoch, made.exchange.head)
        for tab in tabs.values():
            if not tab.sink.slow:
                assert tab.sink.position == head, "a reader that keeps up ends at the head"
        if made.exchange.streams:
            assert made.exchange.streams == 1, "catch-up streams end"


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    window=st.sampled_from((4, 20, 2_048)),
    filters=st.sampled_from((FILTERS, FILTERS[:1], FILTERS[1:2])),
    script=st.lists(ACTIONS, min_size=10, max_size=60),
)
def test_every_socket_gets_what_follows_or_a_snapshot(window: int, filters: Filters, script: list[Action]) -> None:
    in_fake_time(lambda: run_oracle(window, filters, script))


# --- the cases one by one ----------------------------------------------------------------------------------------


def fake_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        in_fake_time(test)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@fake_time
async def test_a_fresh_socket_begins_with_a_snapshot_and_goes_on() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        attachment = await made.open(sink)
        assert not attachment.resumed
        assert attachment.position == Position(made.exchange.epoch, 1)
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0.1)
        assert sink.ranges == [(1, 1, True), (2, 2, False)]


@fake_time
async def test_nothing_is_sent_before_start() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        attachment = made.attach(sink)
        await attachment.ready(1.0)
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(1)
        assert not sink.frames
        attachment.start()
        assert sink.ranges == [(2, 2, True)]


@fake_time
async def test_a_socket_that_was_away_for_a_moment_costs_no_stream() -> None:
    async with world() as made:
        first = CheckedSink(made.exchange)
        attachment = await made.open(first)
        for _ in range(5):
            made.exchange.publish(symbols=["AAPL"])
            await asyncio.sleep(0.1)
        attachment.detach()
        await asyncio.sleep(1)
        position = Position(made.exchange.epoch, 3)
        second = CheckedSink(made.exchange)
        second.position = position
        attachment = await made.open(second, position)
        assert attachment.resumed
        assert second.ranges == [(4, 4, False), (5, 5, False), (6, 6, False)]
        assert second.writes == 1
        assert made.exchange.opened == [(0, 0)]


@fake_time
async def test_a_socket_further_behind_has_a_catch_up_stream_until_it_meets_the_live_one() -> None:
    async with world(limits=TIGHT) as made:
        await made.open(CheckedSink(made.exchange))
        for _ in range(100):
            made.exchange.publish(symbols=SYMBOLS)
            await asyncio.sleep(0.01)
        position = Position(made.exchange.epoch, 10)
        sink = CheckedSink(made.exchange)
        sink.position = position
        attachment = await made.open(sink, position)
        assert attachment.resumed
        await asyncio.sleep(0.5)
        assert sink.position == Position(made.exchange.epoch, 101)
        assert made.exchange.opened == [(0, 0), (made.exchange.epoch, 11)]
        assert made.exchange.streams == 1


@fake_time
async def test_a_position_ahead_of_this_pods_head_is_asked_of_the_simulator() -> None:
    async with world() as made:
        await made.open(CheckedSink(made.exchange))
        sink = CheckedSink(made.exchange)
        attachment = await made.open(sink, Position(made.exchange.epoch, 40))
        assert not attachment.resumed
        assert sink.ranges == [(1, 1, True)]


@fake_time
async def test_a_catch_up_stream_that_is_ahead_lets_the_live_one_reach_it() -> None:
    """Found by the oracle: woken first by each update, it stayed one ahead for ever."""
    async with world() as made:
        await made.open(CheckedSink(made.exchange))
        made.exchange.publish()
        made.exchange.publish()
        made.exchange.break_streams()
        position = Position(made.exchange.epoch, made.exchange.head - 1)
        sink = CheckedSink(made.exchange)
        sink.position = position
        assert (await made.open(sink, position)).resumed
        for _ in range(3):
            await asyncio.sleep(1)
            made.exchange.publish()
        await asyncio.sleep(1)
        assert made.exchange.streams == 1
        assert sink.position == Position(made.exchange.epoch, made.exchange.head)


@fake_time
async def test_what_a_lost_catch_up_stream_skipped_reaches_also_a_socket_that_is_full() -> None:
    """Found by the oracle: its last range was merged for later, and then forgotten with the stream."""
    async with world(limits=TIGHT) as made:
        for _ in range(4):
            made.exchange.publish(symbols=["MSFT"])
        await made.open(CheckedSink(made.exchange))
        symbols = frozenset({"AAPL"})
        sink = CheckedSink(made.exchange)
        sink.symbols = lambda: symbols
        sink.position = Position(made.exchange.epoch, 3)
        sink.unsent = 5_000
        attachment = made.attach(sink, sink.position, symbols)
        await attachment.ready(1.0)
        assert attachment.resumed
        made.exchange.break_streams("pod/")
        attachment.start()
        await asyncio.sleep(1)
        assert not sink.frames
        sink.drain()
        await asyncio.sleep(2)
        assert sink.position == Position(made.exchange.epoch, 5)


@fake_time
async def test_a_filter_changed_while_frames_are_held_is_answered_by_a_snapshot_too() -> None:
    """Found by the oracle: resumed, it would never be told the quotes that it did not ask for before."""
    async with world() as made:
        sink = CheckedSink(made.exchange)
        sink.symbols = lambda: frozenset({"AAPL"})
        attachment = await made.open(sink, None, frozenset({"AAPL"}))
        attachment.resume(Position(made.exchange.epoch, 1))
        attachment.set_symbols(frozenset({"MSFT"}))
        await attachment.ready(1.0)
        assert not attachment.resumed
        sink.symbols = lambda: frozenset({"MSFT"})
        attachment.start()
        assert sink.ranges[1:] == [(1, 1, True)]


@pytest.mark.parametrize("wanted", ["other epoch", "out of window"])
def test_what_cannot_be_resumed_is_answered_by_a_snapshot_and_counted(wanted: str) -> None:
    async def body() -> None:
        async with world(ScriptedExchange(window=4)) as made:
            for _ in range(50):
                made.exchange.publish(symbols=["AAPL"])
            epoch = made.exchange.epoch + (1 if wanted == "other epoch" else 0)
            sink = CheckedSink(made.exchange)
            attachment = await made.open(sink, Position(epoch, 5))
            await asyncio.sleep(1)
            assert not attachment.resumed
            assert sink.ranges == [(51, 51, True)]
            text = made.metrics.render()[0].decode()
            assert 'session_client_reconnections_total{resumed="false"} 1.0' in text
            assert "session_resume_gap_total 1.0" in text

    in_fake_time(body)


@pytest.mark.parametrize(("sockets", "writes"), [(1, 2), (8, 1)])
def test_updates_of_one_moment_go_out_together(sockets: int, writes: int) -> None:
    """A session with few sockets does not wait for the second update to send the first."""

    async def body() -> None:
        async with world() as made:
            sinks = [CheckedSink(made.exchange) for _ in range(sockets)]
            for sink in sinks:
                await made.open(sink)
            await asyncio.sleep(1)
            for _ in range(8):
                made.exchange.publish(symbols=["AAPL"])
            await asyncio.sleep(1)
            assert [sink.writes for sink in sinks] == [1 + writes] * sockets
            assert [len(sink.frames) for sink in sinks] == [9] * sockets

    in_fake_time(body)


@fake_time
async def test_a_filter_carries_the_range_of_what_it_skips_at_least_once_a_second() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        sink.symbols = lambda: frozenset({"MSFT"})
        await made.open(sink, None, frozenset({"MSFT"}))
        for _ in range(30):
            made.exchange.publish(symbols=["AAPL"])
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert sink.position == Position(made.exchange.epoch, 31)
        assert 3 <= len(sink.frames) - 1 <= 7


@fake_time
async def test_orders_pass_every_filter() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        sink.symbols = lambda: frozenset({"MSFT"})
        await made.open(sink, None, frozenset({"MSFT"}))
        made.exchange.publish(symbols=["TSLA"])
        await asyncio.sleep(0.1)
        made.exchange.publish(symbols=["TSLA"], orders=1)
        await asyncio.sleep(0.01)
        assert sink.ranges == [(1, 1, True), (2, 3, False)]


@fake_time
async def test_a_changed_filter_is_answered_by_a_snapshot_and_an_unknown_symbol_by_an_error() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        attachment = await made.open(sink)
        with pytest.raises(UnknownSymbolError, match="NVDA"):
            attachment.set_symbols(frozenset({"AAPL", "NVDA"}))
        assert attachment.symbols is None
        sink.symbols = lambda: frozenset({"AAPL"})
        attachment.set_symbols(frozenset({"AAPL"}))
        assert sink.ranges[-1] == (1, 1, True)
        sink.symbols = lambda: None
        attachment.set_symbols(frozenset())
        assert len(sink.frames) == 3


@fake_time
async def test_a_slow_reader_gets_one_merged_frame_when_it_has_drained() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        sink.stalled = True
        sink.unsent = 10**6
        for _ in range(20):
            made.exchange.publish(symbols=["AAPL"], orders=1)
            await asyncio.sleep(0.1)
        assert len(sink.frames) == 1
        sink.drain()
        await asyncio.sleep(0.5)
        assert sink.ranges == [(1, 1, True), (2, 21, False)]


@fake_time
async def test_a_reader_that_has_drained_shares_again_with_those_that_kept_up() -> None:
    async with world() as made:
        slow, quick = CheckedSink(made.exchange), CheckedSink(made.exchange)
        await made.open(slow)
        await made.open(quick)
        slow.unsent = 10**6
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0.1)
        slow.drain()
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0.1)
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0.1)
        assert quick.ranges == [(1, 1, True), (2, 2, False), (3, 3, False), (4, 4, False)]
        assert slow.ranges == [(1, 1, True), (2, 3, False), (4, 4, False)]


@fake_time
async def test_a_socket_that_joins_others_of_its_filter_brings_them_to_the_head() -> None:
    async with world() as made:
        chosen = frozenset({"MSFT"})
        first, second = CheckedSink(made.exchange), CheckedSink(made.exchange)
        first.symbols = second.symbols = lambda: chosen
        await made.open(first, None, chosen)
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0.1)
        second.position = Position(made.exchange.epoch, 2)
        assert (await made.open(second, second.position, chosen)).resumed
        made.exchange.publish(symbols=["MSFT"])
        await asyncio.sleep(0.1)
        assert first.ranges == [(1, 1, True), (2, 2, False), (3, 3, False)]
        assert second.ranges == [(3, 3, False)]


@fake_time
async def test_many_small_frames_are_sent_between_two_looks_at_a_socket() -> None:
    async with world(limits=StreamLimits(check_bytes=2_000)) as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        sink.unsent = 10**6
        for _ in range(20):
            made.exchange.publish(symbols=["AAPL"])
            await asyncio.sleep(0.1)
        assert 2 <= len(sink.frames) <= 10


@fake_time
async def test_a_reader_without_progress_is_given_up_although_no_update_comes() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        sink.unsent = 10**6
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(9.5)
        assert not sink.slow
        await asyncio.sleep(1)
        assert sink.slow


@fake_time
async def test_a_reader_that_takes_bytes_is_kept() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        sink.unsent = 10**6
        for _ in range(30):
            made.exchange.publish(symbols=["AAPL"])
            sink.unsent -= 10
            await asyncio.sleep(1)
        assert not sink.slow


@fake_time
async def test_more_order_updates_than_a_merge_may_hold_close_the_socket() -> None:
    async with world(limits=TIGHT) as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        sink.unsent = 10**6
        for _ in range(13):
            made.exchange.publish(orders=1)
            await asyncio.sleep(0.1)
        assert sink.slow


@fake_time
async def test_a_broken_stream_is_continued_without_a_gap() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        for _ in range(5):
            made.exchange.break_streams()
            made.exchange.publish(symbols=["AAPL"])
            await asyncio.sleep(3)
        assert sink.ranges == [(1, 1, True), *[(n, n, False) for n in range(2, 7)]]
        assert made.lost == ["simulator-1"] * 5


@fake_time
async def test_a_new_epoch_reaches_sockets_as_a_snapshot() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        made.exchange.publish(symbols=["AAPL"])
        await asyncio.sleep(0.1)
        made.exchange.restart()
        await asyncio.sleep(3)
        assert sink.ranges == [(1, 1, True), (2, 2, False), (1, 1, True)]


@fake_time
async def test_without_a_simulator_a_socket_waits_for_one_at_no_cost() -> None:
    async with world() as made:
        made.simulator = None
        sink = CheckedSink(made.exchange)
        attachment = made.attach(sink, Position(5, 5))
        began_s = asyncio.get_running_loop().time()
        await attachment.ready(1.0)
        assert asyncio.get_running_loop().time() - began_s < 0.1
        assert (attachment.resumed, attachment.position) == (False, None)
        attachment.start()
        with pytest.raises(SimulatorNotRunningError):
            attachment.refresh()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        made.simulator = "simulator-1"
        made.streams.simulator_changed(SESSION)
        await asyncio.sleep(0.1)
        assert sink.ranges == [(1, 1, True)]


@fake_time
async def test_a_simulator_that_came_while_the_answer_that_there_is_none_was_on_its_way_is_found() -> None:
    async with world() as made:
        made.simulator = None
        made.look_up_s = 0.1
        sink = CheckedSink(made.exchange)
        attachment = made.attach(sink)
        attachment.start()
        await asyncio.sleep(0.05)
        made.simulator = "simulator-1"
        made.streams.simulator_changed(SESSION)
        await asyncio.sleep(1)
        assert sink.ranges == [(1, 1, True)]


@fake_time
async def test_ready_waits_no_longer_than_it_may() -> None:
    async with world() as made:
        made.exchange.online = False
        sink = CheckedSink(made.exchange)
        attachment = made.attach(sink, Position(made.exchange.epoch, 1))
        await attachment.ready(1.0)
        assert asyncio.get_running_loop().time() == pytest.approx(1.0, abs=0.01)
        assert (attachment.resumed, attachment.position) == (False, None)
        text = made.metrics.render()[0].decode()
        assert 'session_client_reconnections_total{resumed="false"} 1.0' in text
        assert "session_resume_gap_total 1.0" in text
        attachment.start()
        made.exchange.online = True
        await asyncio.sleep(3)
        assert sink.ranges == [(1, 1, True)]


@fake_time
async def test_the_stream_lingers_for_a_client_that_comes_back_and_then_ends() -> None:
    async with world() as made:
        attachment = await made.open(CheckedSink(made.exchange))
        attachment.detach()
        await asyncio.sleep(4)
        assert made.exchange.streams == 1
        again = await made.open(CheckedSink(made.exchange))
        again.detach()
        await asyncio.sleep(4)
        assert made.exchange.streams == 1
        await asyncio.sleep(2)
        assert made.exchange.streams == 0
        assert made.exchange.opened == [(0, 0)]


@fake_time
async def test_an_unnumbered_simulator_is_numbered_per_stream_and_never_resumed() -> None:
    async with world(ScriptedExchange(numbered=False)) as made:
        sink = Reader()
        await made.open(sink)
        made.exchange.publish(symbols=["AAPL"], orders=1)
        await asyncio.sleep(0.1)
        assert sink.ranges == [(1, 1, True), (2, 2, False)]
        epoch = sink.frames[0]["epoch"]
        assert isinstance(epoch, int)
        late = Reader()
        attachment = await made.open(late, Position(epoch, 1))
        assert not attachment.resumed
        assert late.ranges == [(2, 2, True)]
        made.exchange.break_streams()
        await asyncio.sleep(1)
        assert sink.ranges[2:] == [(1, 1, True)]
        assert sink.frames[2]["epoch"] != epoch
        data = sink.frames[2]["data"]
        assert isinstance(data, dict)
        assert [order["orderId"] for order in data["orderUpdates"]] == ["o2-0"]


@fake_time
async def test_an_exchange_that_breaks_the_sequence_is_asked_for_a_snapshot() -> None:
    async with world() as made:
        sink = CheckedSink(made.exchange)
        await made.open(sink)
        history = made.exchange.history[made.exchange.epoch]
        made.exchange.publish(symbols=["AAPL"])
        history[-1] = msgspec.structs.replace(history[-1], from_sequence=7, sequence=7)
        await asyncio.sleep(1)
        assert sink.ranges == [(1, 1, True), (2, 2, True)]
        assert made.exchange.opened == [(0, 0), (0, 0)]
