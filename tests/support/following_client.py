"""A client that follows exchange data by the documented rule alone, and checks what it is given against the log."""

from __future__ import annotations

import asyncio
from collections import deque

from session_service.domain.market import Position
from session_service.websocket.streams import Attachment
from session_service.wire.exchange_frames import ExchangeFrame
from tests.support.scripted_exchange import Reader
from tests.support.simulator_log import Json, Known, SimulatorLog


class Link(Reader):
    """One socket of a client. What goes wrong is kept in ``faults``: the feed lives through a sink that raises."""

    def __init__(self, pod: int, symbols: frozenset[str] | None, faults: list[str]) -> None:
        super().__init__()
        self.pod = pod
        self.faults = faults
        self.symbols = symbols  # of the frames that come from here on
        self.position: Position | None = None  # the last that came; None: only a snapshot may come
        self.head: Position | None = None  # the last that came at all, whatever was commanded since
        self.held = True
        self.ever_stalled = False
        self.arrived: deque[Json] = deque()  # and not read: a stalled reader reads later
        self.snapshots = 0
        self.attachment: Attachment
        self.opening: asyncio.Task[None]

    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        if self.held or self.detached or self.slow:
            self.faults.append(f"a frame to a socket: {self.held=} {self.detached=} {self.slow=}")
        super().send_exchange_frame(frame)

    def too_slow(self) -> None:
        if not self.ever_stalled:
            self.faults.append("a reader that keeps up is too slow")
        super().too_slow()

    def on_frame(self, content: Json) -> None:
        self.arrived.append(content)

    def hold(self, stated: Position | None, delay_s: float, log: SimulatorLog) -> None:
        """Frames flow ``delay_s`` after it is known where this socket continues: its upgrade may be slow."""
        self.held = True
        self.position = None
        self.arrived.clear()
        self.opening = asyncio.get_running_loop().create_task(self._open(stated, delay_s, log))

    def expect_snapshot(self, symbols: frozenset[str] | None) -> None:
        """A command was given that is answered by a snapshot, under this filter."""
        self.symbols = symbols
        self.position = None

    async def _open(self, stated: Position | None, delay_s: float, log: SimulatorLog) -> None:
        attachment = self.attachment
        asked_at_s = asyncio.get_running_loop().time()
        await attachment.ready(1.0)
        if asyncio.get_running_loop().time() - asked_at_s > 1.01:
            self.faults.append("connected took longer than a second")
        if attachment.resumed:
            if attachment.position != stated or stated is None:
                self.faults.append(f"resumed at {attachment.position}, stated {stated}")
            elif not log.is_numbered(stated.epoch) or stated.sequence > log.head(stated.epoch):
                self.faults.append(f"resumed at {stated}, which never was")
            self.position = stated
        await asyncio.sleep(delay_s)
        self.held = False
        attachment.start()

    def close(self) -> None:
        self.opening.cancel()
        self.attachment.detach()
        self.detached = True


class FollowingClient:
    """A tab: what it knows, as of which position, over one socket, or over two while it moves to another pod.

    ``known`` None: it has no state (a new tab, or one that lies about its position), so only the frames are checked.
    """

    def __init__(self, log: SimulatorLog, faults: list[str]) -> None:
        self.log = log
        self.faults = faults
        self.position: Position | None = None
        self.known: Known | None = None
        self.symbols: frozenset[str] | None = None  # what ``known`` holds quotes of
        self.links: list[Link] = []  # the newest last
        self._shifts: dict[int, tuple[int, int]] = {}  # by a pod's own epoch: (true epoch, true number - number)

    @property
    def newest(self) -> Link | None:
        return self.links[-1] if self.links else None

    def read(self) -> None:
        """Take in what has arrived; where the newest socket has spoken, the older ones are left."""
        for link in list(self.links):
            while link.arrived and not link.stalled:
                frame = link.arrived.popleft()
                epoch, number = self._check(link, frame)
                if self._applies(link, frame):
                    self._apply(link, frame, epoch, number)
            if link.slow:
                self.leave(link)

    def leave(self, link: Link) -> None:
        link.close()
        self.links.remove(link)

    def forget(self, symbols: frozenset[str] | None) -> None:
        """A new tab, with this filter."""
        self.position = self.known = None
        self.symbols = symbols

    def check_knows(self, epoch: int, number: int) -> None:
        """That the client's state is the simulator's as of ``number``."""
        if self.known is not None:
            self._compare(self.known, self.symbols, epoch, number, f"the client, at rest at {self.position}")

    def _check(self, link: Link, frame: Json) -> tuple[int, int]:
        """The rule of one socket, and that the frame says what the simulator said. Returns the true place."""
        epoch, first, last, data = frame["epoch"], frame["fromSequence"], frame["sequence"], frame["data"]
        said = f"pod {link.pod}: {first}…{last} of {epoch}, {frame['snapshot']=}, after {link.position}"
        if frame["snapshot"]:
            link.snapshots += 1
            self._expect(first == last, f"a snapshot is of one number; {said}")
            if link.head is not None and link.head.epoch == epoch:
                self._expect(link.head.sequence <= last, f"a snapshot that goes back behind {link.head}; {said}")
        else:
            follows = link.position is not None and link.position == Position(epoch, first - 1) and first <= last
            self._expect(follows, f"neither contiguous nor a snapshot; {said}")
        link.position = link.head = Position(epoch, last)
        true_epoch, number = self.log.locate(data)
        shift = number - last
        if self.log.is_numbered(true_epoch):
            self._expect((epoch, last) == (true_epoch, number), f"is {number} of {true_epoch}; {said}")
        else:
            self._expect(not self.log.is_numbered(epoch), f"an epoch of somebody else; {said}")
            place = self._shifts.setdefault(epoch, (true_epoch, shift))
            self._expect(place == (true_epoch, shift), f"numbered in two ways; {said}")
        if frame["snapshot"]:
            self._check_snapshot(link, data, true_epoch, number, said)
        else:
            expected = self.log.data(true_epoch, first + shift, number, link.symbols, shift)
            self._expect(data == expected, f"{data} instead of {expected}; {said}")
        return true_epoch, number

    def _check_snapshot(self, link: Link, data: Json, epoch: int, number: int, said: str) -> None:
        known = Known()
        known.apply(data, data["orderUpdates"])
        self._compare(known, link.symbols, epoch, number, said)
        self._expect(len(known.orders) == len(data["orderUpdates"]), f"an order twice; {said}")

    def _compare(self, known: Known, symbols: frozenset[str] | None, epoch: int, number: int, said: str) -> None:
        expected = self.log.state(epoch, number).under(symbols)
        self._expect(known.quotes == expected.quotes, f"{known.quotes} instead of {expected.quotes}; {said}")
        self._expect(known.portfolio == expected.portfolio, f"{known.portfolio}, not {expected.portfolio}; {said}")
        orders, wanted = known.orders, expected.orders
        if not self.log.is_numbered(epoch):
            # Numbers are the pod's. And it cannot know of a restart: what it has seen before stays known.
            orders = {name: {**order, "sequence": 0} for name, order in orders.items() if name in wanted}
            wanted = {name: {**order, "sequence": 0} for name, order in wanted.items()}
        self._expect(orders == wanted, f"{orders} instead of {wanted}; {said}")

    def _applies(self, link: Link, frame: Json) -> bool:
        """A socket is superseded by the first frame of a newer one that applies."""
        if link not in self.links[-2:]:
            return False
        if link is self.newest:
            if not frame["snapshot"] and (self.position is None or self.position.epoch != frame["epoch"]):
                return False  # the older socket was first to tell of another epoch: this one will tell it too
            for older in self.links[:-1]:
                self.leave(older)
            return True
        return True

    def _apply(self, link: Link, frame: Json, epoch: int, number: int) -> None:
        data, last = frame["data"], frame["sequence"]
        if frame["snapshot"]:
            self.known = Known()
            self.symbols = link.symbols
            self.known.apply(data, data["orderUpdates"])
        elif self.position is not None and last > self.position.sequence:
            since = self.position.sequence
            orders = [order for order in data["orderUpdates"] if order["sequence"] > since]
            shift = number - last
            missing = self.log.data(epoch, since + 1 + shift, number, None, shift)["orderUpdates"]
            self._expect(orders == missing, f"applied {orders} instead of {missing} after {self.position}")
            if self.known is not None:
                self.known.apply(data, orders)
        elif self.position is not None:
            return  # all of it is known by the other socket
        self.position = Position(frame["epoch"], last)
        if self.known is not None:
            self._compare(self.known, self.symbols, epoch, number, f"the client, at {self.position}")

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.faults.append(otherwise)
