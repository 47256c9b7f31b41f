"""The sockets of one session with the same symbol filter: one encoded frame for all that keep up.

The group as a whole stands at one sequence: whatever it was given, each member was either sent, or has in its own
pending merge. So the next frame of every member begins where its last one ended (docs/exchange-data.md#numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from session_service.domain.market import MarketUpdate, PendingMerge, is_empty, select_symbols
from session_service.websocket.frame_sink import FrameSink, StreamLimits
from session_service.wire.exchange_frames import ExchangeFrame, exchange_frame, joined


class Receiver:
    """One socket as the fan-out sees it. ``pending`` is there while the socket is behind."""

    __slots__ = ("dropped", "least_unsent_bytes", "pending", "progress_at_s", "send", "sink", "unsent_bytes")

    def __init__(self, sink: FrameSink) -> None:
        self.sink = sink
        self.send = sink.send_exchange_frame  # bound once: they are called for each socket and update
        self.unsent_bytes = sink.unsent_bytes
        self.pending: PendingMerge | None = None
        self.least_unsent_bytes = 0
        self.progress_at_s = 0.0
        self.dropped = False  # told to be too slow; gets nothing more


class FilterGroup:
    """``symbols`` None passes everything. ``clock``: monotonic seconds; ``now_ms``: milliseconds since 1970."""

    __slots__ = (
        "_behind",
        "_clock",
        "_level",
        "_limits",
        "_now_ms",
        "_skipped",
        "_skipped_at_s",
        "_snapshot_frame",
        "_unchecked_bytes",
        "symbols",
    )

    def __init__(
        self,
        symbols: frozenset[str] | None,
        limits: StreamLimits,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self.symbols = symbols
        self._limits = limits
        self._clock = clock
        self._now_ms = now_ms
        self._level: dict[Receiver, None] = {}  # were sent everything so far
        self._behind: dict[Receiver, None] = {}  # have a pending merge
        self._skipped: MarketUpdate | None = None  # the range of updates that held nothing for the filter
        self._skipped_at_s = 0.0
        self._unchecked_bytes = 0  # sent to every level socket since they were asked for their unsent bytes
        self._snapshot_frame: ExchangeFrame | None = None  # of the present sequence, for all that ask for it

    def __bool__(self) -> bool:
        return bool(self._level or self._behind)

    @property
    def restless(self) -> bool:
        """Whether ``poll`` has something to do although no update comes."""
        return bool(self._behind) or self._skipped is not None

    def is_behind(self, receiver: Receiver) -> bool:
        return receiver in self._behind

    def deliver(self, updates: Sequence[MarketUpdate]) -> None:
        """Give everybody these successive updates, in one write each. A snapshot comes alone."""
        passing = updates if self.symbols is None else self._passing(updates)
        if passing:
            self._emit(passing)

    def carry(self) -> None:
        """Send the range of skipped updates now, so that everybody stands at the head."""
        if self._skipped is not None:
            update, self._skipped = self._skipped, None
            self._emit((update,))

    def poll(self) -> None:
        """Look after skipped ranges and slow sockets."""
        if self._skipped is not None and self._clock() - self._skipped_at_s >= self._limits.carry_s:
            self.carry()
        for receiver in list(self._behind):
            self._advance(receiver)

    def join(self, receiver: Receiver) -> None:
        """Take in the first socket of a new group."""
        self._level[receiver] = None

    def begin(self, receiver: Receiver, snapshot: MarketUpdate) -> None:
        """Take in a socket with a snapshot as of the head that the group was given."""
        self.carry()
        frame = self._snapshot_frame
        if frame is None or frame.sequence != snapshot.sequence or frame.epoch != snapshot.epoch:
            frame = exchange_frame(select_symbols(snapshot, self.symbols), self._now_ms())
            self._snapshot_frame = frame
        if receiver.unsent_bytes() > self._limits.unsent_limit_bytes:
            self._fall_behind(receiver, (select_symbols(snapshot, self.symbols),))
        else:
            self._level[receiver] = None
            receiver.send(frame)

    def leave(self, receiver: Receiver) -> None:
        """What is pending for the socket is forgotten."""
        self._level.pop(receiver, None)
        if receiver in self._behind:
            del self._behind[receiver]
            receiver.pending = None
        if not self:
            self._skipped = None
            self._snapshot_frame = None

    def move(self, receiver: Receiver, to: FilterGroup) -> None:
        """Hand a member over to a group of the same filter that was given the same head."""
        self.carry()
        to.carry()
        if receiver in self._behind:
            del self._behind[receiver]
            to._behind[receiver] = None
        elif receiver in self._level:
            del self._level[receiver]
            to._level[receiver] = None

    def _passing(self, updates: Sequence[MarketUpdate]) -> list[MarketUpdate]:
        passing = []
        for update in updates:
            selected = select_symbols(update, self.symbols)
            if selected.snapshot:
                self._skipped = None
            elif self._skipped is not None:
                selected = msgspec.structs.replace(selected, from_sequence=self._skipped.from_sequence)
            if not is_empty(selected):
                self._skipped = None
                passing.append(selected)
                continue
            if self._skipped is None:
                self._skipped_at_s = self._clock()
            self._skipped = selected
        if self._skipped is not None and self._clock() - self._skipped_at_s >= self._limits.carry_s:
            passing.append(self._skipped)
            self._skipped = None
        return passing

    def _emit(self, updates: Sequence[MarketUpdate]) -> None:
        self._snapshot_frame = None
        level = list(self._level)  # a copy: who catches up below has its frame, who is written to may detach
        if self._behind:
            self._merge(updates)
        if not level:
            return
        now_ms = self._now_ms()
        if len(updates) == 1:
            frame = exchange_frame(updates[0], now_ms)
        else:
            frame = joined([exchange_frame(update, now_ms) for update in updates])
        self._unchecked_bytes += len(frame.websocket)
        if self._unchecked_bytes <= self._limits.check_bytes:
            # Asking costs as much as our share of writing: not for each of many small frames.
            for receiver in level:
                receiver.send(frame)
            return
        self._unchecked_bytes = 0
        limit_bytes = self._limits.unsent_limit_bytes
        for receiver in level:
            if receiver.unsent_bytes() > limit_bytes:
                self._fall_behind(receiver, updates)
            else:
                receiver.send(frame)

    def _merge(self, updates: Sequence[MarketUpdate]) -> None:
        """Add to what is pending for those behind, and see how they do."""
        for receiver in list(self._behind):
            if receiver.pending is not None:
                for update in updates:
                    receiver.pending.add(update)
            self._advance(receiver)

    def _fall_behind(self, receiver: Receiver, updates: Sequence[MarketUpdate]) -> None:
        self._level.pop(receiver, None)
        limits = self._limits
        pending = PendingMerge(
            updates[0], max_order_updates=limits.pending_order_updates, max_bytes=limits.pending_bytes
        )
        for update in updates[1:]:
            pending.add(update)
        receiver.pending = pending
        receiver.least_unsent_bytes = receiver.unsent_bytes()
        receiver.progress_at_s = self._clock()
        self._behind[receiver] = None

    def _advance(self, receiver: Receiver) -> None:
        """Send a slow socket its merge where it has drained; give it up where it is past a bound."""
        pending = receiver.pending
        if pending is None:
            return
        unsent_bytes = receiver.unsent_bytes()
        now_s = self._clock()
        if unsent_bytes <= self._limits.low_water_bytes:
            receiver.pending = None
            del self._behind[receiver]
            self._level[receiver] = None
            receiver.send(exchange_frame(pending.merged(), self._now_ms()))
            return
        if unsent_bytes < receiver.least_unsent_bytes:
            receiver.least_unsent_bytes = unsent_bytes
            receiver.progress_at_s = now_s
        if pending.over_bounds or now_s - receiver.progress_at_s >= self._limits.no_progress_s:
            self.leave(receiver)
            receiver.dropped = True
            receiver.sink.too_slow()
