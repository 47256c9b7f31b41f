"""One session's exchange data in this pod: one live stream, and every socket's place in it (ADR 0005).

The live stream always begins with a snapshot, so the feed knows the whole state and can begin a socket at the head by
itself. A socket that states a position is continued from the recent updates, or else by a catch-up stream of its own,
which ends where it meets the live one.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import structlog

from session_service.aiokit.backoff import Backoff
from session_service.domain.market import MAX_SEQUENCE, MarketState, MarketUpdate, Numbering, Position, SequenceError
from session_service.domain.simulator import SimulatorAddress, SimulatorStatus
from session_service.errors import (
    SessionServiceError,
    SimulatorNotRunningError,
    UnknownSymbolError,
)
from session_service.telemetry.metrics import Metrics
from session_service.websocket.filter_group import FilterGroup, Receiver
from session_service.websocket.frame_sink import FrameSink, StreamLimits
from session_service.websocket.recent_updates import RecentUpdates

log = structlog.stdlib.get_logger(__name__)

DRAIN_POLL_S = 0.02
MEET_S = 0.05
FEW_SOCKETS = 4  # up to here writing at once is cheaper than another turn of the loop, in which more may come
STEADY_S = 5.0  # a stream that lasted this long begins a new series of attempts


class UpdateSource(Protocol):
    """The one call of ``ExchangeClient`` that a feed makes."""

    def stream(
        self,
        address: SimulatorAddress,
        client_id: str,
        epoch: int,
        from_sequence: int,
        symbols: Sequence[str] = (),
    ) -> AsyncGenerator[MarketUpdate]: ...


AddressOf = Callable[[str], Awaitable[SimulatorAddress | None]]


class FeedContext:
    """What all feeds of a pod share."""

    __slots__ = (
        "address_of",
        "clock",
        "limits",
        "metrics",
        "now_ms",
        "on_empty",
        "on_restless",
        "on_stream_lost",
        "pod_name",
        "retry",
        "source",
    )

    def __init__(
        self,
        source: UpdateSource,
        address_of: AddressOf,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        limits: StreamLimits,
        pod_name: str,
        on_stream_lost: Callable[[str, str], None],
        on_restless: Callable[[SessionFeed], None],
        on_empty: Callable[[SessionFeed], None],
    ) -> None:
        self.source = source
        self.address_of = address_of
        self.metrics = metrics
        self.clock = clock
        self.now_ms = now_ms
        self.limits = limits
        self.pod_name = pod_name
        self.retry = Backoff(first_s=limits.retry_first_s, max_s=limits.retry_max_s, jitter=0.3)
        self.on_stream_lost = on_stream_lost
        self.on_restless = on_restless
        self.on_empty = on_empty


class Attachment:
    """One socket's place in a session's stream.

    It is first *held*: ``ready`` tells where it will continue, then ``start`` lets frames flow. ``resume`` holds it
    again. Every call but ``ready`` returns at once, and may write to the sink before it does. A connection reads
    ``position``, ``resumed`` and ``symbols``; the other attributes are the feed's.
    """

    __slots__ = (
        "_feed",
        "catch_up",
        "client_id",
        "decided",
        "group",
        "position",
        "receiver",
        "resumed",
        "started",
        "symbols",
        "waiter",
        "wanted",
    )

    def __init__(
        self,
        feed: SessionFeed,
        client_id: str,
        sink: FrameSink,
        position: Position | None,
        symbols: frozenset[str] | None,
    ) -> None:
        self._feed = feed
        self.client_id = client_id
        self.receiver = Receiver(sink)
        self.symbols = symbols or None
        self.wanted = position  # where to continue; None: by a snapshot
        self.position: Position | None = None
        self.resumed = False
        self.decided = False
        self.started = False
        self.group: FilterGroup | None = None  # that frames come from; None while none flow
        self.catch_up: asyncio.Task[None] | None = None
        self.waiter: asyncio.Future[None] | None = None  # of whoever waits for the decision, or then for the start

    async def ready(self, timeout_s: float) -> None:
        """Wait until it is known where this socket continues: ``position`` and ``resumed`` then say so.

        Not resumed: a snapshot comes first; ``position`` is the head it was decided at, None where that is not known
        (no simulator, or none that answered within ``timeout_s``). Safe to cancel.
        """
        if self.decided:
            return
        self.waiter = asyncio.get_running_loop().create_future()
        await asyncio.wait([self.waiter], timeout=timeout_s)
        if not self.decided:
            self._feed.give_up(self)

    def start(self) -> None:
        """Let frames flow."""
        if self.started:
            return
        self.started = True
        self._wake()
        self._feed.place(self)

    def set_symbols(self, symbols: frozenset[str] | None) -> None:
        """Change the filter (None or empty: all symbols). It continues by a snapshot.

        A held one, too, where the filter is another than before: what follows its position would leave it without
        the quotes that it did not ask for until now. Raises ``UnknownSymbolError``, changing nothing; while no
        simulator is known, any symbol is accepted.
        """
        self._feed.check_symbols(symbols)
        chosen = symbols or None
        if self.started or chosen != self.symbols:
            self._feed.release(self)
            self.wanted = None
        if not self.started and chosen != self.symbols:
            self._undecide()
        self.symbols = chosen
        self._feed.place(self)

    def check_symbols(self, symbols: frozenset[str] | None) -> None:
        """Raise what ``set_symbols`` would, changing nothing: an answer can then go out before the snapshot."""
        self._feed.check_symbols(symbols)

    def check_running(self) -> None:
        """Raise what ``refresh`` would, as above."""
        self._feed.check_running()

    def refresh(self) -> None:
        """Answer with a snapshot, whatever was pending. Raises ``SimulatorNotRunningError`` where there is none."""
        self._feed.check_running()
        self._feed.release(self)
        self.wanted = None
        self._feed.place(self)

    def resume(self, position: Position | None) -> None:
        """Hold the frames, and continue from ``position``: ``ready`` and ``start`` follow, as after ``attach``."""
        self._feed.release(self)
        self.started = False
        self._undecide()
        self.wanted = position
        self._feed.place(self)

    def detach(self) -> None:
        """The connection is gone: nothing is written from here on."""
        self.receiver.dropped = True
        self._feed.remove(self)

    def decide(self, *, resumed: bool, position: Position | None) -> bool:
        """Settle ``ready``'s answer; False where it was settled before, since the last hold."""
        if self.decided:
            return False
        self.decided = True
        self.resumed = resumed
        self.position = position
        self._wake()
        return True

    def _undecide(self) -> None:
        self.decided = False
        self.position = None
        self.resumed = False

    async def wait_for_start(self) -> None:
        if not self.started:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class SessionFeed:
    """The live stream of one session, from the first attachment until ``linger_s`` after the last.

    Without a simulator there is no task: ``recheck`` makes one. Everything runs in one event loop, and between two
    awaits the state, the recent updates and the groups agree.
    """

    __slots__ = (
        "_address",
        "_attachments",
        "_background",
        "_changes",
        "_closed",
        "_compare_task",
        "_context",
        "_flush_due",
        "_flushed_at_s",
        "_from_scratch",
        "_groups",
        "_linger",
        "_live",
        "_nap",
        "_numbering",
        "_recent",
        "_run_task",
        "_state",
        "_tick",
        "session_id",
    )

    def __init__(self, session_id: str, context: FeedContext) -> None:
        self.session_id = session_id
        self._context = context
        self._attachments: set[Attachment] = set()
        self._groups: dict[frozenset[str] | None, FilterGroup] = {}
        self._recent = RecentUpdates(context.limits.recent_items)
        self._state: MarketState | None = None
        self._numbering: Numbering | None = None  # of the present stream, where the simulator sends no numbers
        self._address: SimulatorAddress | None = None
        self._live = False  # the live stream has sent something and has not ended
        self._from_scratch = False  # the next stream begins with a snapshot, whatever is known
        self._changes = 0  # how often it was said that the simulator may be another than the last look said
        self._closed = False
        self._tick: list[MarketUpdate] = []  # applied, and not yet given to the groups
        self._flush_due = False
        self._flushed_at_s = 0.0
        self._run_task: asyncio.Task[None] | None = None
        self._compare_task: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None  # between two attempts
        self._background: set[asyncio.Task[None]] = set()
        self._linger: asyncio.TimerHandle | None = None

    # --- attachments ---------------------------------------------------------------------------------------------

    def attach(
        self, client_id: str, sink: FrameSink, position: Position | None, symbols: frozenset[str] | None
    ) -> Attachment:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        attachment = Attachment(self, client_id, sink, position, symbols)
        self._attachments.add(attachment)
        if self._run_task is None:
            self._run_task = self._spawn(self._run(), "feed")
        self.place(attachment)
        return attachment

    def remove(self, attachment: Attachment) -> None:
        self.release(attachment)
        self._attachments.discard(attachment)
        if not self._attachments and self._linger is None and not self._closed:
            linger_s = self._context.limits.linger_s if self._state is not None else 0.0
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(linger_s, self._context.on_empty, self)

    def release(self, attachment: Attachment) -> None:
        """No frames flow to this attachment until it is placed again."""
        if attachment.catch_up is not None:
            attachment.catch_up.cancel()
            attachment.catch_up = None
        group, attachment.group = attachment.group, None
        if group is not None:
            group.leave(attachment.receiver)
            if not group and self._groups.get(group.symbols) is group:
                del self._groups[group.symbols]

    def place(self, attachment: Attachment) -> None:
        """Decide where the attachment continues, if that is known by now, and continue there if it has started."""
        if attachment.group is not None or attachment.catch_up is not None or attachment.receiver.dropped:
            return
        state, wanted = self._state, attachment.wanted
        if state is None:
            if self._run_task is None:
                self._decide(attachment, resumed=False, position=None)
        elif wanted is None or self._numbering is not None or (self._live and wanted.epoch != state.epoch):
            self._decide(attachment, resumed=False, position=state.position)
            if attachment.started:
                self._flush()
                group = attachment.group = self._group(attachment.symbols)
                group.begin(attachment.receiver, state.snapshot())
                self._watch(group)
        elif (missed := self._recent.after(wanted)) is not None:
            self._decide(attachment, resumed=True, position=wanted)
            if attachment.started:
                self._join(attachment, self._alone(attachment), missed)
        elif self._live and self._address is not None:
            attachment.catch_up = self._spawn(self._catch_up(attachment, wanted, self._address), "catch-up")

    def give_up(self, attachment: Attachment) -> None:
        """It was not known in time where the attachment continues: by a snapshot."""
        self.release(attachment)
        self._decide(attachment, resumed=False, position=None)

    def check_symbols(self, symbols: frozenset[str] | None) -> None:
        """Raise ``UnknownSymbolError`` for a symbol that the simulator does not trade."""
        if self._state is None or symbols is None:
            return
        for symbol in sorted(symbols):
            if not self._state.knows(symbol):
                raise UnknownSymbolError(symbol)

    def check_running(self) -> None:
        """Raise ``SimulatorNotRunningError`` where there is nothing to make a snapshot of."""
        if self._state is None:
            raise SimulatorNotRunningError(
                SimulatorStatus.NONE if self._run_task is None else SimulatorStatus.STARTING
            )

    def _decide(self, attachment: Attachment, *, resumed: bool, position: Position | None) -> None:
        stated = attachment.wanted
        if not resumed:
            attachment.wanted = None
        if attachment.decide(resumed=resumed, position=position) and stated is not None:
            metrics = self._context.metrics
            metrics.client_reconnections_total.labels("true" if resumed else "false").inc()
            if not resumed:
                metrics.resume_gap_total.inc()

    def _place_all(self) -> None:
        for attachment in list(self._attachments):
            self.place(attachment)

    # --- groups --------------------------------------------------------------------------------------------------

    def poll(self) -> bool:
        """Look after slow sockets and skipped ranges; whether that will be needed again."""
        for group in list(self._groups.values()):
            group.poll()
        return any(group.restless for group in self._groups.values())

    def _new_group(self, symbols: frozenset[str] | None) -> FilterGroup:
        context = self._context
        return FilterGroup(symbols, context.limits, context.clock, context.now_ms)

    def _group(self, symbols: frozenset[str] | None) -> FilterGroup:
        group = self._groups.get(symbols)
        if group is None:
            group = self._groups[symbols] = self._new_group(symbols)
        return group

    def _alone(self, attachment: Attachment) -> FilterGroup:
        """A group of its own, for a socket that is not at the head."""
        group = attachment.group = self._new_group(attachment.symbols)
        group.join(attachment.receiver)
        return group

    def _join(self, attachment: Attachment, alone: FilterGroup, missed: Sequence[MarketUpdate]) -> None:
        """Bring a socket to the head by what it ``missed``, and into the group of its filter."""
        self._flush()
        if missed:
            alone.deliver(missed)
        group = attachment.group = self._group(attachment.symbols)
        alone.move(attachment.receiver, group)
        self._watch(group)

    def _watch(self, group: FilterGroup) -> None:
        if group.restless:
            self._context.on_restless(self)

    def _flush_on_time(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        """Give the groups what was applied since the last time, so that they stand at the head."""
        if not self._tick:
            return
        updates, self._tick = self._tick, []
        self._flushed_at_s = self._context.clock()
        for group in list(self._groups.values()):
            group.deliver(updates)
            if group.restless:
                self._context.on_restless(self)

    # --- the live stream -----------------------------------------------------------------------------------------

    def recheck(self) -> None:
        """The session's simulator may have come, gone, or been replaced: look its address up again."""
        self._changes += 1
        if self._run_task is None:
            if self._attachments:
                self._run_task = self._spawn(self._run(), "feed")
        elif self._nap is not None:
            if not self._nap.done():
                self._nap.set_result(None)
        elif self._compare_task is None:
            self._compare_task = self._spawn(self._compare(), "feed-compare")

    async def close(self) -> None:
        """End every task of this feed; attachments get nothing more. Safe to call twice."""
        self._closed = True
        if self._linger is not None:
            self._linger.cancel()
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def is_empty(self) -> bool:
        return not self._attachments

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{name} {self.session_id}")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _compare(self) -> None:
        """While a stream runs: end it where it is no longer that of the session's simulator."""
        try:
            seen = None
            while seen != self._changes:
                seen = self._changes
                address = await self._context.address_of(self.session_id)
            task = self._run_task
            if address != self._address and task is not None and self._nap is None:
                task.cancel()
                await asyncio.wait([task])
                if self._run_task is task or self._run_task is None:  # else an attachment has begun another already
                    self._run_task = self._spawn(self._run(), "feed")
        except SessionServiceError as error:
            # The database is away: the stream goes on, and tells by itself when its simulator has gone.
            log.info("simulator_address_unknown", session_id=self.session_id, error=error.message)
        finally:
            self._compare_task = None

    async def _run(self) -> None:
        failures = 0
        while True:
            seen = self._changes  # counted, so that a comparison under way cannot take it for its own
            try:
                address = await self._context.address_of(self.session_id)
            except SessionServiceError as error:
                log.info("simulator_address_unknown", session_id=self.session_id, error=error.message)
                address = self._address
                if address is None:
                    failures += 1
                    await self._rest(failures)
                    continue
            except Exception:  # a fault of ours at one moment must not end the session's data for good
                log.exception("simulator_look_up_failed", session_id=self.session_id)
                failures += 1
                await self._rest(failures)
                continue
            if address is None:
                if seen != self._changes:
                    continue
                self._run_task = None
                self._simulator_gone()
                return
            if self._address is not None and address.simulator_id != self._address.simulator_id:
                self._simulator_gone()
            self._address = address
            began_s = self._context.clock()
            await self._follow(address)
            failures = 1 if self._context.clock() - began_s > STEADY_S else failures + 1
            self._context.on_stream_lost(self.session_id, address.simulator_id)
            await self._rest(failures)

    async def _rest(self, failures: int) -> None:
        """Wait before the next attempt; ``recheck`` shortens that, but not to nothing."""
        delay_s = self._context.retry.delay_s(failures, random.random)
        shortest_s = min(delay_s, self._context.limits.retry_first_s)
        self._nap = asyncio.get_running_loop().create_future()
        try:
            await asyncio.sleep(shortest_s)
            await asyncio.wait([self._nap], timeout=delay_s - shortest_s)
        finally:
            self._nap = None

    def _simulator_gone(self) -> None:
        """Sockets keep their place; whatever comes next begins by a snapshot."""
        self._flush()
        self._address = None
        self._state = None
        self._numbering = None
        self._from_scratch = False
        self._recent.restart(Position(0, 0))
        for attachment in list(self._attachments):
            if attachment.catch_up is not None:
                self.release(attachment)
        self._place_all()

    async def _follow(self, address: SimulatorAddress) -> None:
        """Apply the simulator's updates until the stream ends, breaks, or breaks the sequence rule."""
        state = self._state
        epoch = from_sequence = 0
        if state is not None and self._numbering is None and not self._from_scratch:
            epoch, from_sequence = state.epoch, state.sequence + 1
        numbering: Numbering | None = None
        updates = self._context.source.stream(address, self._context.pod_name, epoch, from_sequence)
        try:
            async with aclosing(updates):
                async for update in updates:
                    if update.sequence == 0:
                        if numbering is None:
                            numbering = self._numbering = Numbering(1 + secrets.randbelow(MAX_SEQUENCE))
                        update = numbering.number(update, self._state)
                    self._apply(update)
                    if not self._live:
                        self._numbering = numbering
                        self._from_scratch = False
                        self._live = True
                        self._place_all()
        except SequenceError as error:
            self._from_scratch = True
            log.warning("exchange_sequence_broken", session_id=self.session_id, error=str(error))
        except SessionServiceError as error:
            log.info("exchange_stream_lost", session_id=self.session_id, error=error.message)
        except Exception:  # as in _run; the state may be half-way between two updates
            self._from_scratch = True
            log.exception("exchange_stream_failed", session_id=self.session_id)
        finally:
            self._live = False

    def _apply(self, update: MarketUpdate) -> None:
        if update.snapshot:
            self._replace(update)
            return
        if self._state is None:
            raise SequenceError(Position(0, 0), update)
        self._state.apply(update)
        self._recent.append(update)
        if not self._groups:
            return
        self._tick.append(update)
        if self._flush_due:
            return
        wait_s = self._flushed_at_s + self._context.limits.gather_s - self._context.clock()
        if wait_s <= 0 and len(self._attachments) <= FEW_SOCKETS:
            self._flush()
            return
        self._flush_due = True
        loop = asyncio.get_running_loop()
        # Alone it goes out in this iteration of the loop; in a burst, with those that come right behind it.
        if wait_s <= 0:
            loop.call_soon(self._flush_on_time)
        else:
            loop.call_later(wait_s, self._flush_on_time)

    def _replace(self, snapshot: MarketUpdate) -> None:
        """A snapshot came by the live stream: everybody gets it."""
        self._flush()
        before = self._state
        self._state = MarketState(snapshot)
        self._recent.restart(self._state.position)
        for group in list(self._groups.values()):
            group.deliver((snapshot,))
            self._watch(group)
        if before is not None and before.epoch != snapshot.epoch:
            for attachment in list(self._attachments):
                if attachment.catch_up is not None:  # of an epoch that is over
                    self.release(attachment)
                    attachment.wanted = None

    # --- catch-up streams ----------------------------------------------------------------------------------------

    async def _catch_up(self, attachment: Attachment, wanted: Position, address: SimulatorAddress) -> None:
        """Continue one socket by a stream of its own, from behind ``wanted`` to where it meets the live stream.

        Also for a position ahead of this pod's head: another pod may have been quicker, so the simulator is asked.
        """
        alone: FilterGroup | None = None
        at = wanted
        continues = True
        context = self._context
        client_id = f"{context.pod_name}/{attachment.client_id}"
        updates = context.source.stream(address, client_id, wanted.epoch, wanted.sequence + 1)
        try:
            async with aclosing(updates):
                async for update in updates:
                    if update.snapshot or update.epoch != at.epoch or update.from_sequence != at.sequence + 1:
                        continues = False
                        break
                    if alone is None:
                        self._decide(attachment, resumed=True, position=wanted)
                        await attachment.wait_for_start()
                        alone = self._alone(attachment)
                    await self._drained(attachment, alone)
                    alone.deliver((update,))
                    at = Position(update.epoch, update.sequence)
                    missed = self._recent.after(at)
                    if missed is None and self._is_behind(at):
                        # The live stream brings the same in a moment. Reading on instead, this one could stay ahead
                        # by one update for ever.
                        await asyncio.sleep(MEET_S)
                        missed = self._recent.after(at)
                    if missed is not None:
                        attachment.catch_up = None
                        self._join(attachment, alone, missed)
                        return
        except SessionServiceError as error:
            log.info("catch_up_stream_lost", session_id=self.session_id, error=error.message)
        if alone is not None:
            alone.carry()  # first: a socket that is full falls behind by this, and what is pending is not forgotten
            await self._drained(attachment, alone)
        if continues:
            attachment.wanted = at
            await asyncio.sleep(context.limits.retry_first_s)
        else:
            self._decide(attachment, resumed=False, position=None if self._state is None else self._state.position)
            attachment.wanted = None
        attachment.catch_up = None
        self.release(attachment)
        self.place(attachment)

    def _is_behind(self, position: Position) -> bool:
        state = self._state
        return state is not None and state.epoch == position.epoch and state.sequence < position.sequence

    async def _drained(self, attachment: Attachment, alone: FilterGroup) -> None:
        """Wait until the socket has taken what it was given, or was given up."""
        while alone.is_behind(attachment.receiver):
            await asyncio.sleep(DRAIN_POLL_S)
            alone.poll()
