"""The stream oracle: two pods, simulators that fail, clients that move.

Whatever happens, every socket is contiguous or begins anew by a snapshot, and every client knows what its simulator
knows, each order update applied once and in order.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from session_service.domain.market import MAX_SEQUENCE, MarketUpdate, Position
from session_service.domain.simulator import SimulatorAddress
from session_service.errors import DatabaseUnavailableError, SimulatorNotRunningError
from session_service.telemetry.metrics import Metrics
from session_service.websocket.streams import StreamLimits, StreamManager
from tests.support.following_client import FollowingClient, Link
from tests.support.scripted_exchange import SYMBOLS, ScriptedExchange
from tests.support.simulator_log import SimulatorLog

SESSION = "session-1"
PODS = 2
CLIENTS = 3
CALM_S = 20.0  # longer than any retry, linger or bound without progress
LINGER_S = 6.0  # longer than a stream without sockets is kept
DEEP = os.environ.get("FAULT_SCALE") == "1"  # `make faults`

FILTERS = st.sampled_from((None, None, frozenset({"AAPL"}), frozenset({"MSFT", "TSLA"})))
POD = st.integers(0, PODS - 1)
CLIENT = st.integers(0, CLIENTS - 1)
QUOTED = st.sets(st.sampled_from(SYMBOLS)).map(sorted)
Update = tuple[list[str], int, bool]  # symbols quoted, order updates, whether with a portfolio
UPDATES: st.SearchStrategy[list[Update]] = st.lists(
    st.tuples(QUOTED, st.sampled_from((0, 0, 1, 2)), st.booleans()), min_size=1, max_size=12
)
TURNS = st.integers(0, 6)  # of the event loop, without any time passing
SLOW_START_S = st.sampled_from((0.0, 0.0, 0.0, 0.3, 2.0))


class Platform:
    """What both pods share: which simulator the session has, and whether the database can say so."""

    def __init__(self) -> None:
        self.log = SimulatorLog()
        self.simulators: dict[str, ScriptedExchange] = {}
        self.current: str | None = None
        self.database_away = False

    @property
    def exchange(self) -> ScriptedExchange:
        """The newest simulator, registered or not."""
        return list(self.simulators.values())[-1]

    def add_simulator(self, window: int, *, numbered: bool) -> None:
        after_epoch = self.exchange.epoch if self.simulators else 0
        exchange = ScriptedExchange(window, numbered=numbered, after_epoch=after_epoch)
        self.log.add(exchange)
        self.current = f"simulator-{len(self.simulators)}"
        self.simulators[self.current] = exchange

    async def address_of(self, session_id: str) -> SimulatorAddress | None:
        await asyncio.sleep(0)
        if self.database_away:
            raise DatabaseUnavailableError
        if self.current is None:
            return None
        return SimulatorAddress(session_id, self.current, "127.0.0.1:1", "")


class Pod:
    """A pod's stream manager, and its way to the simulators, which can be held up."""

    def __init__(self, number: int, platform: Platform, limits: StreamLimits) -> None:
        self.name = f"pod-{number}"
        self.number = number
        self._platform = platform
        self._flowing = asyncio.Event()
        self._flowing.set()
        clock = asyncio.get_running_loop().time
        self.streams = StreamManager(self, platform.address_of, Metrics(), clock, limits=limits, pod_name=self.name)

    async def stream(
        self, address: SimulatorAddress, client_id: str, epoch: int, from_sequence: int, symbols: Sequence[str] = ()
    ) -> AsyncGenerator[MarketUpdate]:
        exchange = self._platform.simulators[address.simulator_id]
        async with aclosing(exchange.stream(address, client_id, epoch, from_sequence, symbols)) as updates:
            async for update in updates:
                await self._flowing.wait()
                yield update

    def toggle(self) -> None:
        """Hold up the way to the simulators, or let it flow again."""
        if self._flowing.is_set():
            self._flowing.clear()
        else:
            self._flowing.set()

    def let_flow(self) -> None:
        self._flowing.set()


class StreamMachine(RuleBasedStateMachine):
    """Each rule is one thing that happens, in fake time; after each, what has arrived is read and checked."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop(start=0)
        self.platform = Platform()
        self.faults: list[str] = []
        self.loop.set_exception_handler(lambda _loop, context: self.faults.append(str(context)))
        self.clients = [FollowingClient(self.platform.log, self.faults) for _ in range(CLIENTS)]
        self.saved: dict[int, tuple[Any, ...]] = {}
        self.pods: list[Pod] = []

    @initialize(
        window=st.sampled_from((4, 20, 2_048)),
        numbered=st.sampled_from((True, True, True, False)),
        check_bytes=st.sampled_from((0, 0, 600)),
        recent_items=st.sampled_from((0, 12, 40)),
        places=st.tuples(*[st.tuples(POD, FILTERS)] * CLIENTS),
    )
    def begin(
        self,
        window: int,
        numbered: bool,
        check_bytes: int,
        recent_items: int,
        places: tuple[tuple[int, frozenset[str] | None], ...],
    ) -> None:
        limits = StreamLimits(
            unsent_limit_bytes=1_500,
            check_bytes=check_bytes,
            low_water_bytes=300,
            pending_order_updates=25,
            pending_bytes=9_000,
            recent_items=recent_items,
        )
        self.window = window
        self._add_simulator(numbered=numbered)

        async def make_pods_and_connect() -> None:
            self.pods = [Pod(number, self.platform, limits) for number in range(PODS)]
            for client, (pod, symbols) in zip(self.clients, places, strict=True):
                client.symbols = symbols
                await self._open(client, pod, None, symbols, 0.0, 0)

        self.run(make_pods_and_connect())

    def _add_simulator(self, *, numbered: bool) -> None:
        self.platform.add_simulator(self.window if numbered else MAX_SEQUENCE, numbered=numbered)

    def run(self, happening: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(happening)
        self.loop.run_until_complete(self._read())

    async def _read(self) -> None:
        for client in self.clients:
            client.read()
        assert not self.faults, self.faults[0]

    # --- the simulator ---------------------------------------------------------------------------------------------

    @rule(updates=UPDATES, count=TURNS)
    def publish(self, updates: list[Update], count: int) -> None:
        async def publish() -> None:
            for quoted, orders, portfolio in updates:
                self.platform.exchange.publish(symbols=quoted, orders=orders, portfolio=portfolio)
                await turns(count)

        self.run(publish())

    @rule(number=st.sampled_from((1, 5, 10, 60)), quoted=QUOTED, orders=st.sampled_from((0, 0, 1)), count=TURNS)
    def publish_a_burst(self, number: int, quoted: list[str], orders: int, count: int) -> None:
        for _ in range(number):
            self.platform.exchange.publish(symbols=quoted, orders=orders)
        self.run(turns(count))

    @rule(seconds=st.sampled_from((0.001, 0.03, 0.1, 0.6, 3.0, 12.0)))
    def pause(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(kept=st.sampled_from((0, 1, 5)))
    def updates_age(self, kept: int) -> None:
        """The window is one of time, too."""
        exchange = self.platform.exchange
        if exchange.numbered:
            exchange.window = kept
            self.run(turns(2))
            exchange.window = self.window

    @rule(of_client=st.sampled_from(("", "pod-0", "pod-1", "pod-0/", "pod-1/")), in_order=st.booleans(), count=TURNS)
    def streams_end(self, of_client: str, in_order: bool, count: int) -> None:
        for exchange in self.platform.simulators.values():
            if in_order:
                exchange.end_streams(of_client)
            else:
                exchange.break_streams(of_client)
        self.run(turns(count))

    @rule(count=TURNS)
    def simulator_restarts(self, count: int) -> None:
        self.platform.exchange.restart()
        self.run(turns(count))

    @rule(numbered=st.sampled_from((True, True, False)), told=st.sets(POD), gap_s=st.sampled_from((0.0, 0.0, 0.5)))
    def simulator_is_replaced(self, numbered: bool, told: set[int], gap_s: float) -> None:
        """The old one goes on sending to whom was not told."""

        async def replace() -> None:
            if gap_s:
                self.platform.current = None
                self._tell(told)
                await asyncio.sleep(gap_s)
            self._add_simulator(numbered=numbered)
            self._tell(told)

        self.run(replace())

    def _tell(self, pods: set[int]) -> None:
        for number in pods:
            self.pods[number].streams.simulator_changed(SESSION)

    @rule(seconds=st.sampled_from((0.05, 1.0, 8.0)), published=st.integers(0, 5), of_database=st.booleans())
    def outage(self, seconds: float, published: int, of_database: bool) -> None:
        async def outage() -> None:
            exchange = self.platform.exchange
            self.platform.database_away = of_database
            exchange.online = of_database
            exchange.break_streams()
            await asyncio.sleep(seconds)
            for _ in range(published):
                exchange.publish(symbols=SYMBOLS, orders=1)
            self.platform.database_away = False
            exchange.online = True

        self.run(outage())

    @rule(pod=POD, count=TURNS)
    def pod_is_held_up_or_goes_on(self, pod: int, count: int) -> None:
        self.pods[pod].toggle()
        self.run(turns(count))

    # --- clients ---------------------------------------------------------------------------------------------------

    @rule(
        number=CLIENT,
        pod=POD,
        knows=st.sampled_from(("nothing", "all", "all", "what it saved", "a lie")),
        symbols=FILTERS,
        ahead=st.integers(-3, 60),
        foreign=st.booleans(),
        delay_s=SLOW_START_S,
        missed=st.sampled_from((0, 0, 3)),
        catch_up_is_lost=st.booleans(),
        count=TURNS,
    )
    def connect(
        self,
        number: int,
        pod: int,
        knows: str,
        symbols: frozenset[str] | None,
        ahead: int,
        foreign: bool,
        delay_s: float,
        missed: int,
        catch_up_is_lost: bool,
        count: int,
    ) -> None:
        """A tab comes, or comes back: by its position, by one it kept, or by one that it never had."""
        client = self.clients[number]

        async def connect() -> None:
            self._leave_all(client)
            for _ in range(missed):
                self.platform.exchange.publish(symbols=["MSFT"], orders=1)
            if knows == "what it saved" and number in self.saved:
                client.position, known, client.symbols = self.saved[number]
                client.known = known.copy()
            elif knows != "all" or client.position is None:
                client.forget(symbols)
            if knows == "a lie":
                exchange = self.platform.exchange
                client.position = Position(exchange.epoch - int(foreign), max(0, exchange.head + ahead))
            await self._open(client, pod, client.position, client.symbols, delay_s, count)
            if catch_up_is_lost:
                await asyncio.sleep(delay_s / 2)
                self.platform.exchange.break_streams(f"pod-{pod}/")

        self.run(connect())

    @rule(number=CLIENT, pod=POD, delay_s=SLOW_START_S, count=TURNS)
    def move(self, number: int, pod: int, delay_s: float, count: int) -> None:
        """Make before break: the older socket stays until the newer one has spoken."""
        client = self.clients[number]
        if len(client.links) == 1:
            link = client.links[0]
            position = client.position if link.symbols == client.symbols else None
            self.run(self._open(client, pod, position, link.symbols, delay_s, count))

    @rule(number=CLIENT)
    def close(self, number: int) -> None:
        async def close() -> None:
            self._leave_all(self.clients[number])

        self.run(close())

    @rule(number=CLIENT, unsent=st.sampled_from((0, 5_000, 5_000)), save=st.booleans())
    def stall(self, number: int, unsent: int, save: bool) -> None:
        """A tab may also keep what it knows by now, and come back with it later."""
        client = self.clients[number]
        if save and client.known is not None:
            self.saved[number] = (client.position, client.known.copy(), client.symbols)
        self._stall(client, unsent)

    def _stall(self, client: FollowingClient, unsent: int) -> None:
        for link in client.links[-1:]:
            link.stalled = link.ever_stalled = True
            link.unsent += unsent

    @rule(numbers=st.sets(CLIENT, min_size=1), updates=UPDATES, gap_s=st.sampled_from((0.0, 0.001, 0.3)))
    def some_read_slowly(self, numbers: set[int], updates: list[Update], gap_s: float) -> None:
        """They stall while updates come, and then take all that waits for them."""
        for number in numbers:
            self._stall(self.clients[number], 5_000)

        async def read_slowly() -> None:
            for quoted, orders, portfolio in updates:
                self.platform.exchange.publish(symbols=quoted, orders=orders, portfolio=portfolio)
                await asyncio.sleep(gap_s)

        self.run(read_slowly())
        for number in numbers:
            self._drain(self.clients[number], 0.0)
        self.run(asyncio.sleep(gap_s))

    @rule(number=CLIENT, part=st.sampled_from((0.0, 0.0, 0.0, 0.1, 0.9)), seconds=st.sampled_from((0.0, 0.3)))
    def drain(self, number: int, part: float, seconds: float) -> None:
        """A stalled reader takes all that waits for it, or only some."""
        self._drain(self.clients[number], part)
        self.run(asyncio.sleep(seconds))

    def _drain(self, client: FollowingClient, part: float) -> None:
        for link in client.links:
            link.unsent = int(link.unsent * part)
            link.stalled = link.stalled and bool(link.unsent)

    @rule(
        number=CLIENT,
        kind=st.sampled_from(("subscribe", "refresh", "reconnect", "reconnect")),
        symbols=st.one_of(st.just("as before"), FILTERS),
        delay_s=SLOW_START_S,
        count=TURNS,
    )
    def command(
        self, number: int, kind: str, symbols: frozenset[str] | str | None, delay_s: float, count: int
    ) -> None:
        """What a tab can say on its only socket. A changed filter, and a refresh, is answered by a snapshot."""
        client = self.clients[number]
        if len(client.links) != 1 or not client.links[0].opening.done():
            return
        link = client.links[0]
        link.arrived.clear()  # what waits unread is of before the answer, which replaces it
        chosen = link.symbols if isinstance(symbols, str) else symbols

        async def reconnect() -> None:
            position = client.position if link.symbols == client.symbols else None
            link.attachment.resume(position)
            if chosen != link.symbols:
                link.attachment.set_symbols(chosen)
                link.symbols = chosen
            link.hold(position, delay_s, self.platform.log)
            await turns(count)

        async def command() -> None:
            if kind == "subscribe":
                link.expect_snapshot(chosen)
                link.attachment.set_symbols(chosen)
                return
            expected = link.position
            link.expect_snapshot(link.symbols)
            try:
                link.attachment.refresh()
            except SimulatorNotRunningError:
                link.position = expected

        self.run(reconnect() if kind == "reconnect" else command())

    def _leave_all(self, client: FollowingClient) -> None:
        for link in list(client.links):
            client.leave(link)

    async def _open(
        self,
        client: FollowingClient,
        pod: int,
        stated: Position | None,
        symbols: frozenset[str] | None,
        delay_s: float,
        count: int,
    ) -> None:
        link = Link(pod, symbols, self.faults)
        link.attachment = self.pods[pod].streams.attach(SESSION, f"client-{id(client)}", link, stated, symbols)
        link.hold(stated, delay_s, self.platform.log)
        client.links.append(link)
        await turns(count)

    # --- quiet -----------------------------------------------------------------------------------------------------

    @rule()
    def all_is_quiet(self) -> None:
        """Everything works again: clients know what the simulator knows, and can go on from there on another pod."""
        self.run(self._calm())
        self._check_heads()
        exchange = self.platform.exchange
        exchange.publish(symbols=["TSLA"])
        self.run(asyncio.sleep(1.0))
        self._check_heads()
        assert all(len(client.links) <= 1 for client in self.clients), "a newer socket that says nothing"
        self.run(asyncio.sleep(LINGER_S))
        pods = {link.pod for client in self.clients for link in client.links}
        assert exchange.streams == len(pods), "one live stream for each pod with sockets"
        if not exchange.numbered or self.window < CLIENTS * 3:
            return
        for client in self.clients:
            link = client.newest
            if link is None:
                continue
            self.run(self._go_on(client, (link.pod + 1) % PODS))
            resumed = client.newest
            assert resumed is not None
            assert not resumed.snapshots, "a position in the window is resumed"
            self._check_heads()

    async def _go_on(self, client: FollowingClient, pod: int) -> None:
        """Miss two updates, and connect to the other pod."""
        self._leave_all(client)
        self.platform.exchange.publish(symbols=SYMBOLS, orders=2)
        self.platform.exchange.publish()
        await self._open(client, pod, client.position, client.symbols, 0.0, 0)
        await asyncio.sleep(2.0)

    async def _calm(self) -> None:
        for pod in self.pods:
            pod.let_flow()
        if self.platform.current is None:
            self._add_simulator(numbered=True)
        self._tell(set(range(PODS)))
        await turns(5)
        end_s = self.loop.time() + CALM_S
        while self.loop.time() < end_s:
            for client in self.clients:
                for link in client.links:
                    link.drain()
                client.read()
            await asyncio.sleep(1.0)

    def _check_heads(self) -> None:
        exchange = self.platform.exchange
        for client in self.clients:
            for link in client.links:
                said = client.position
                assert said is not None
                assert link.position == said
                if exchange.numbered:
                    assert said == Position(exchange.epoch, exchange.head), f"{said} of {exchange.head}"
                if client.known is not None:
                    client.check_knows(exchange.epoch, exchange.head)
        assert not self.faults, self.faults[0]

    def teardown(self) -> None:
        try:
            if self.pods and not self.faults:
                self.all_is_quiet()
        finally:
            left = self.loop.run_until_complete(self._end())
            self.loop.close()
        assert not left, left
        assert not any(exchange.streams for exchange in self.platform.simulators.values())

    async def _end(self) -> set[asyncio.Task[Any]]:
        """Closes everything; what runs on all the same is returned."""
        for client in self.clients:
            for link in list(client.links):
                client.leave(link)
        for pod in self.pods:
            await pod.streams.close()
        await turns(2)
        return asyncio.all_tasks() - {asyncio.current_task()}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


TestStreams = StreamMachine.TestCase
TestStreams.settings = settings(
    max_examples=2_000 if DEEP else 60,
    stateful_step_count=80 if DEEP else 50,
    derandomize=not DEEP,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
