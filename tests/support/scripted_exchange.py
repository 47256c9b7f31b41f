"""An exchange whose every update, break and restart a test commands, and a client that checks all that it gets.

``ScriptedExchange`` keeps the whole history, so that ``CheckedSink`` can compare each frame with it: this is the
oracle of the data plane. It stands in for the stream of one simulator only where a test needs to command the moment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence

from websockets.frames import Frame
from websockets.protocol import Protocol, Side, State

from session_service.domain.market import MarketState, MarketUpdate, OrderUpdate, Portfolio, Position, Quote
from session_service.domain.simulator import SimulatorAddress
from session_service.errors import ExchangeUnavailableError
from session_service.wire.exchange_frames import ExchangeFrame, exchange_frame

SYMBOLS = ("AAPL", "MSFT", "TSLA")
EPOCH_STEP = 1_000_003


class _OpenStream:
    """``ending``: how it ends as soon as it is looked at; None while it goes on."""

    __slots__ = ("client_id", "ending")

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.ending: str | None = None


class ScriptedExchange:
    """One simulator. ``history[epoch]`` is every update of that state, number 1 first (a snapshot).

    Epochs are multiples of ``EPOCH_STEP`` above ``after_epoch``. The timestamp of an update is its epoch plus its
    number, so that also an update of a simulator that does not number (``numbered`` False) says which one it is.
    """

    def __init__(self, window: int = 2_048, *, numbered: bool = True, after_epoch: int = 0) -> None:
        self.window = window
        self.numbered = numbered
        self.epoch = after_epoch
        self.online = True
        self.history: dict[int, list[MarketUpdate]] = {}
        self.states: dict[int, list[MarketUpdate]] = {}  # the snapshot as of each number
        self.opened: list[tuple[int, int]] = []  # (epoch, from_sequence) of every stream that was opened
        self._open: set[_OpenStream] = set()
        self._changed: list[asyncio.Future[None]] = []
        self.restart()

    @property
    def head(self) -> int:
        return len(self.history[self.epoch])

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._open)

    def restart(self) -> None:
        """A new state, as after a crash: a new epoch, and every stream breaks."""
        self.epoch += EPOCH_STEP
        snapshot = MarketUpdate(
            self.epoch,
            1,
            1,
            True,
            self.epoch + 1,
            tuple(Quote(symbol, 100.0, 100.5, 100, 100, 100.25, 1) for symbol in SYMBOLS),
            (),
            Portfolio((), 1_000.0, 1_000.0),
        )
        self.history[self.epoch] = [snapshot]
        self.states[self.epoch] = [snapshot]
        self.break_streams()

    def publish(self, *, symbols: Sequence[str] = (), orders: int = 0, portfolio: bool = False) -> MarketUpdate:
        number = self.head + 1
        price = 100.0 + number
        update = MarketUpdate(
            self.epoch,
            number,
            number,
            False,
            self.epoch + number,
            tuple(Quote(symbol, price, price + 0.5, number, number, price, 1) for symbol in symbols),
            tuple(OrderUpdate(f"o{number % 7}-{n}", "AAPL", "NEW", number, price, number) for n in range(orders)),
            Portfolio((), float(number), float(number)) if portfolio else None,
        )
        state = MarketState(self.states[self.epoch][-1])
        state.apply(update)
        self.history[self.epoch].append(update)
        self.states[self.epoch].append(state.snapshot())
        self._wake()
        return update

    def break_streams(self, of_client: str = "") -> None:
        """Lose every open stream whose client id begins so."""
        self._end_streams(of_client, "lost")

    def end_streams(self, of_client: str = "") -> None:
        """End them in good order, as a simulator that shuts down."""
        self._end_streams(of_client, "ended")

    def _end_streams(self, of_client: str, ending: str) -> None:
        for stream in self._open:
            if stream.client_id.startswith(of_client):
                stream.ending = ending
        self._wake()

    def snapshot_at(self, epoch: int, sequence: int) -> MarketUpdate:
        return self.states[epoch][sequence - 1]

    def range(self, epoch: int, from_sequence: int, sequence: int) -> list[MarketUpdate]:
        return self.history[epoch][from_sequence - 1 : sequence]

    async def stream(
        self,
        address: SimulatorAddress,
        client_id: str,
        epoch: int,
        from_sequence: int,
        symbols: Sequence[str] = (),
    ) -> AsyncGenerator[MarketUpdate]:
        if not self.online:
            raise ExchangeUnavailableError
        self.opened.append((epoch, from_sequence))
        first = max(1, self.head - self.window + 1)
        resumes = epoch == self.epoch and from_sequence > 0 and first <= from_sequence <= self.head + 1
        position = from_sequence if resumes else 0
        opened = _OpenStream(client_id)
        self._open.add(opened)
        try:
            while True:
                if opened.ending == "lost":
                    raise ExchangeUnavailableError
                if opened.ending == "ended":
                    return
                if max(1, self.head - self.window + 1) <= position <= self.head:
                    update = self.history[self.epoch][position - 1]
                    position += 1
                elif position <= self.head:
                    update = self.states[self.epoch][-1]
                    position = self.head + 1
                else:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._changed.append(waiter)
                    await waiter
                    continue
                yield update if self.numbered else unnumbered(update)
        finally:
            self._open.discard(opened)

    def _wake(self) -> None:
        changed, self._changed = self._changed, []
        for waiter in changed:
            if not waiter.done():
                waiter.set_result(None)


def unnumbered(update: MarketUpdate) -> MarketUpdate:
    return MarketUpdate(0, 0, 0, False, update.timestamp_ms, update.quotes, update.order_updates, update.portfolio)


class Reader:
    """A sink that takes bytes as fast as a test says, and takes every frame apart again."""

    def __init__(self) -> None:
        self.frames: list[dict[str, object]] = []
        self.writes = 0
        self.stalled = False
        self.unsent = 0
        self.slow = False
        self.detached = False
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)

    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        assert not self.slow, "a frame after too_slow"
        assert not self.detached, "a frame after detach"
        self.writes += 1
        if self.stalled:
            self.unsent += len(frame.websocket)
        self._protocol.receive_data(frame.websocket)
        events = self._protocol.events_received()
        read = [json.loads(bytes(event.data)) for event in events if isinstance(event, Frame)]
        assert len(read) == frame.messages
        self.frames.extend(read)
        for content in read:
            self.on_frame(content)

    def unsent_bytes(self) -> int:
        return self.unsent

    def too_slow(self) -> None:
        assert not self.slow, "too_slow twice"
        self.slow = True

    def drain(self) -> None:
        self.stalled = False
        self.unsent = 0

    def on_frame(self, content: dict[str, object]) -> None:
        """For subclasses."""

    @property
    def ranges(self) -> list[tuple[object, object, object]]:
        return [(frame["fromSequence"], frame["sequence"], frame["snapshot"]) for frame in self.frames]


class CheckedSink(Reader):
    """Compares every frame with the exchange's history, and with the sequence rule."""

    def __init__(self, exchange: ScriptedExchange) -> None:
        super().__init__()
        self.exchange = exchange
        self.symbols: Callable[[], frozenset[str] | None] = lambda: None
        self.position: Position | None = None  # of the client; None: only a snapshot may come

    def on_frame(self, content: dict[str, object]) -> None:
        epoch, sequence, first = content["epoch"], content["sequence"], content["fromSequence"]
        assert isinstance(epoch, int)
        assert isinstance(sequence, int)
        assert isinstance(first, int)
        symbols = self.symbols()
        if content["snapshot"]:
            assert first == sequence
            expected = self.exchange.snapshot_at(epoch, sequence)
        else:
            assert self.position is not None, "a snapshot must come first"
            assert epoch == self.position.epoch, "a new epoch without a snapshot"
            assert first == self.position.sequence + 1, f"{first}…{sequence} after {self.position}"
            expected = merged(self.exchange.range(epoch, first, sequence))
        assert content["data"] == as_client_reads(expected, symbols)
        self.position = Position(epoch, sequence)


def merged(updates: Sequence[MarketUpdate]) -> MarketUpdate:
    """What a client must learn from these updates: said again here, without the product's own merge."""
    quotes = {quote.symbol: quote for update in updates for quote in update.quotes}
    portfolios = [update.portfolio for update in updates if update.portfolio is not None]
    return MarketUpdate(
        updates[0].epoch,
        updates[0].from_sequence,
        updates[-1].sequence,
        False,
        updates[-1].timestamp_ms,
        tuple(quotes.values()),
        tuple(order for update in updates for order in update.order_updates),
        portfolios[-1] if portfolios else None,
    )


def as_client_reads(update: MarketUpdate, symbols: frozenset[str] | None) -> object:
    chosen = tuple(quote for quote in update.quotes if symbols is None or quote.symbol in symbols)
    whole = MarketUpdate(
        update.epoch,
        update.from_sequence,
        update.sequence,
        update.snapshot,
        update.timestamp_ms,
        chosen,
        update.order_updates,
        update.portfolio,
    )
    text = exchange_frame(whole, 0).event_stream.decode().splitlines()[2].removeprefix("data: ")
    return json.loads(text)["data"]
