"""The live connection of one client: one numbered socket at a time, and while it moves two.

One task supervises: it opens sockets, and does what is due (heartbeats, token, slot). One more task per socket reads.
There is no task per frame and none per command.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from session_service_client import frames, reconnection
from session_service_client.access_token import TokenSource, refresh_again_in_s, refresh_in_s
from session_service_client.backoff import DecorrelatedJitter
from session_service_client.commands import Commands
from session_service_client.endpoints import Endpoints
from session_service_client.errors import ConnectionEndedError, ServiceError, TransportError
from session_service_client.events import (
    Connected,
    Disconnected,
    Event,
    ExchangeData,
    PodTerminating,
    QualityChanged,
    ServiceNotice,
    SessionEnded,
    SimulatorStatus,
)
from session_service_client.exchange_view import ExchangeView
from session_service_client.live_socket import ClosedOnOpenError, LiveSocket, RefusedError, open_socket
from session_service_client.reconnection import Ask, Final, Retry, TokenState
from session_service_client.rest import RestClient
from session_service_client.silence import Look
from session_service_client.slot import Slot, Step
from session_service_client.statistics import Statistics

FIRST_PAUSE_S = 0.25  # the first reconnect comes within it
BASE_PAUSE_S = 0.5
STABLE_S = 5.0  # a socket that lived so long was no failure: the next loss begins with a short pause again
MIN_OPEN_LIMIT_S = 0.5  # a try near the deadline of a slot gets so long
GET_TOKEN_LIMIT_S = 10.0
SNAPSHOT_LIMIT_S = 5.0  # a snapshot that was asked for and did not come is asked for again
MAX_UNEXPLAINED_REFUSALS = 5  # in a row, of an upgrade that REST finds nothing wrong with
ABNORMAL_CLOSURE = 1006  # RFC 6455 §7.1.5: there was no close frame

_READERS: Mapping[str, Callable[[frames.Frame], Event]] = {
    "exchange_data": frames.read_exchange_data,
    "simulator_status": frames.read_simulator_status,
    "pod_terminating": frames.read_pod_terminating,
    "connection_quality_update": frames.read_quality,
    "error": frames.read_notice,
}
_UNREADABLE = (KeyError, TypeError, AttributeError)  # what a frame of another shape raises in its reader
_ENDED_CODES = {"SESSION_ENDED": "ended", "SESSION_NOT_FOUND": "ended", "SESSION_EXPIRED": "expired"}


class EventSink(Protocol):
    """Where events go. ``full``: read no more until ``room`` returns."""

    @property
    def full(self) -> bool: ...

    def put(self, event: Event) -> None: ...

    async def room(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """``client_id``: this client's for its whole life, 1–64 characters."""

    device_id: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Timing:
    """``open_timeout_s``: for one try, from TCP to ``connected``; ``max_pause_s``: between two tries.

    ``silence_limit_s``: without any frame while a simulator is running, until the connection is given up.
    """

    open_timeout_s: float
    max_pause_s: float
    silence_limit_s: float


@dataclass(frozen=True, slots=True)
class _Failed:
    """A socket that was lost, or could not be opened."""

    url: str
    reason: str
    close_code: int | None
    decision: Retry | Final


class LiveConnection:
    """``session_id`` and ``symbols`` are part of each opening, and may change in between.

    ``view`` is the state after every frame that was told to ``sink``.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        endpoints: Endpoints,
        tokens: TokenSource,
        rest: RestClient,
        identity: ClientIdentity,
        timing: Timing,
        *,
        session_id: str | None,
        symbols: tuple[str, ...],
        view: ExchangeView,
        commands: Commands,
        statistics: Statistics,
        sink: EventSink,
        random: Callable[[], float],
    ) -> None:
        self.session_id = session_id
        self.symbols = symbols
        self.last_connected: Connected | None = None
        self.connected_once = asyncio.Event()
        self._http = http
        self._endpoints = endpoints
        self._tokens = tokens
        self._rest = rest
        self._identity = identity
        self._timing = timing
        self._view = view
        self._commands = commands
        self._statistics = statistics
        self._sink = sink
        self._random = random
        self._clock = asyncio.get_running_loop().time
        self._backoff = DecorrelatedJitter(
            random, first_s=FIRST_PAUSE_S, base_s=BASE_PAUSE_S, cap_s=timing.max_pause_s, short=len(endpoints)
        )
        self._attempt = -1  # of the last try: 0 for the first, each one above it counts as a reconnect
        self._current: LiveSocket | None = None
        self._successor: LiveSocket | None = None  # while it moves: connected, and its first frame is not there
        self._opening: asyncio.Task[None] | None = None  # of a successor
        self._sockets: set[LiveSocket] = set()  # every one that was not read to its end
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader_failure: BaseException | None = None
        self._token_refused = False
        self._unexplained_refusals = 0
        self._pause_s = 0.0
        self._lost_at_s: float | None = None
        self._last_data_s: float | None = None
        self._awaits_data = False  # of the socket that is new: its first data ends a pause
        self._quality = "GOOD"
        self._session_ended = False  # and told so

    async def run(self) -> None:
        """Keep the connection until that is impossible: raises ConnectionEndedError. Cancel it, then ``close``."""
        while True:
            if self._current is None:
                await self._connect()
            self._wake.clear()
            await self._tend()
            if self._reader_failure is not None:
                raise self._reader_failure
            if self._current is not None:
                await self._wait_until(self._next_due_s(self._current))

    async def close(self) -> None:
        """Leave with 1000, and end every task. ``run`` must have ended."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        sockets = list(self._sockets)
        for live in sockets:
            live.superseded = True
        await asyncio.gather(*(live.leave() for live in sockets))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connected(self) -> bool:
        return self._current is not None and not self._current.ended

    def wake(self) -> None:
        """There is something new to do, such as a command to send."""
        self._wake.set()

    def cut(self) -> None:
        """Drop the present socket as a network does, without a close frame: to try what happens then."""
        if self._current is not None:
            self._current.abandon()

    # --- opening -------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Until there is a socket. Raises ConnectionEndedError."""
        while True:
            await asyncio.sleep(self._pause_s)
            url, wait_s = self._endpoints.choose(self._clock())
            await asyncio.sleep(wait_s)
            opened = await self._open(url, self._timing.open_timeout_s)
            if isinstance(opened, LiveSocket):
                self._take(opened)
                return
            self._plan(opened)

    async def _open(self, url: str, limit_s: float) -> LiveSocket | _Failed:
        """One try."""
        try:
            async with asyncio.timeout(GET_TOKEN_LIMIT_S):
                token = await self._tokens.get()
        except Exception as error:  # noqa: BLE001 # the user's own code: whatever it raises, the next try asks again
            return _Failed(url, f"no token: {type(error).__name__}", None, Retry())
        self._attempt += 1
        position = self._view.position
        try:
            live = await open_socket(
                self._http,
                url,
                self._query(),
                token,
                attempt=self._attempt,
                stated=position,
                limit_s=limit_s,
                silence_limit_s=self._timing.silence_limit_s,
            )
        except RefusedError as error:
            self._statistics.refused += 1
            decision = reconnection.after_refusal(error.status, error.retry_after_s, self._token_state())
            if isinstance(decision, Ask):
                decision = await self._ask(error.status)
            return _Failed(url, str(error), None, decision)
        except ClosedOnOpenError as error:
            self._statistics.refused += 1
            after = reconnection.after_close(
                error.close_code, self._token_state(), superseded=False, code=error.code, reason=error.reason
            )
            return _Failed(url, str(error), error.close_code, after)
        except TransportError as error:
            self._statistics.refused += 1
            return _Failed(url, str(error), None, Retry())
        self._count_opened(live, stated=position is not None)
        self._sockets.add(live)
        self._spawn(self._read(live))
        return live

    def _query(self) -> dict[str, str]:
        query = {
            "deviceId": self._identity.device_id,
            "clientId": self._identity.client_id,
            "attempt": str(self._attempt),
        }
        if self.session_id is not None:
            query["sessionId"] = self.session_id
        if self._view.position is not None:
            query["epoch"] = str(self._view.position.epoch)
            query["sequence"] = str(self._view.position.sequence)
        if self.symbols:
            query["symbols"] = ",".join(self.symbols)
        return query

    def _count_opened(self, live: LiveSocket, *, stated: bool) -> None:
        self._token_refused = False
        self._unexplained_refusals = 0
        self.session_id = live.connected["sessionId"]
        refresh_s = refresh_in_s(live.token, time.time()) if self._tokens.renewable else None
        live.refresh_at_s = None if refresh_s is None else self._clock() + refresh_s
        statistics = self._statistics
        statistics.connections += 1
        if statistics.connections > 1:
            statistics.reconnects += 1
        if stated:
            if live.connected["resumed"]:
                statistics.resumed += 1
            else:
                statistics.not_resumed += 1

    async def _ask(self, status: int) -> Retry | Final:
        """An upgrade was refused, and nobody can read the body of such an answer: REST says the same in words."""
        try:
            if self.session_id is None:
                await self._rest.open_session(self._identity.device_id)
            else:
                await self._rest.get_session(self.session_id)
                if status == 409:
                    await self._rest.reconnect(self.session_id, self._identity.device_id, self._attempt)
        except ServiceError as error:
            if error.code != "UNKNOWN":  # a page of some proxy explains nothing
                return reconnection.after_answer(error.code, error.message, error.status, error.retry_after_s)
        except TransportError:
            return Retry()
        self._unexplained_refusals += 1
        if self._unexplained_refusals < MAX_UNEXPLAINED_REFUSALS:
            return Retry()
        return Final("UNKNOWN", f"the upgrade is refused with HTTP {status}, and REST finds nothing wrong")

    def _token_state(self) -> TokenState:
        if not self._tokens.renewable:
            return TokenState.FIXED
        return TokenState.RENEWED if self._token_refused else TokenState.RENEWABLE

    def _plan(self, failed: _Failed) -> None:
        """Decide on the next try, and tell of it. Raises ConnectionEndedError where there will be none."""
        decision = failed.decision
        if isinstance(decision, Final):
            if decision.code in _ENDED_CODES:
                self._tell_session_ended(_ENDED_CODES[decision.code])
            raise ConnectionEndedError(decision.code, decision.reason, close_code=failed.close_code)
        self._token_refused = self._token_refused or decision.fresh_token
        now_s = self._clock()
        self._endpoints.leave(failed.url, not_before_s=self._not_before_s(decision, now_s))
        _next, wait_s = self._endpoints.choose(now_s)
        self._pause_s = max(self._backoff.next_s(), wait_s)
        self._sink.put(Disconnected(failed.reason, failed.close_code, self._pause_s))

    def _not_before_s(self, decision: Retry, now_s: float) -> float:
        """``Retry-After``, and up to as long again: those who were told the same do not come back together."""
        return 0.0 if decision.after_s is None else now_s + decision.after_s * (1.0 + self._random())

    def _take(self, live: LiveSocket) -> None:
        """A socket becomes the present one, and its user is told."""
        now_s = self._clock()
        first = self.last_connected is None
        pause_s = None if first else (0.0 if self._lost_at_s is None else now_s - self._lost_at_s)
        if pause_s is not None and self._last_data_s is None:
            self._statistics.longest_pause_s = max(self._statistics.longest_pause_s, pause_s)
        self._lost_at_s = None
        self._pause_s = 0.0
        self._awaits_data = not first
        self._current = live
        self.last_connected = frames.read_connected(
            live.connected, url=live.url, attempt=live.attempt, pause_s=pause_s
        )
        self._sink.put(self.last_connected)
        self.connected_once.set()

    # --- what is due ---------------------------------------------------------------------------------------

    async def _wait_until(self, due_s: float) -> None:
        try:
            async with asyncio.timeout_at(due_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _next_due_s(self, live: LiveSocket) -> float:
        due = [live.heartbeats.next_s]
        if live.must_speak:
            due.append(live.silence.next_s)
        if live.refresh_at_s is not None:
            due.append(live.refresh_at_s)
        if live.slot is not None:
            due.append(live.slot.next_s(opened=self._successor is not None))
        if live.checker.broken and live.refresh_asked_s is not None:
            due.append(live.refresh_asked_s + SNAPSHOT_LIMIT_S)
        return min(due)

    async def _tend(self) -> None:
        """Do what is due of the present socket. Raises ConnectionEndedError."""
        await self._move()
        live = self._current
        if live is None:
            return
        if not live.ended:
            await self._beat(live)
            await self._renew_token(live)
            await self._mend(live)
            await self._send_commands(live)

    async def _send_commands(self, live: LiveSocket) -> None:
        """Those that this socket has not been given yet: new ones, and what an earlier one did not answer."""
        for command in self._commands.unsent(live):
            command.sent_over = live
            await live.send(command.message)

    async def _move(self) -> None:
        """Follow the ends of sockets, and the slot that a terminating pod gave. Raises ConnectionEndedError."""
        live = self._current
        if live is None:
            return
        if self._successor is not None and self._successor.ended:
            self._successor = None
            if live.slot is not None:
                live.slot.postpone(self._clock() + self._backoff.next_s())
        if self._opening is not None:
            return  # its end comes within a limit, and is told
        successor = self._successor
        if live.ended:
            if successor is None:
                self._lost(live)
            else:
                self._switch(successor)
        elif live.slot is not None:
            self._follow_slot(live, live.slot, successor)

    def _follow_slot(self, live: LiveSocket, slot: Slot, successor: LiveSocket | None) -> None:
        now_s = self._clock()
        delivers = successor is not None and not successor.simulator_runs
        step = slot.step(now_s, opened=successor is not None, delivers=delivers)
        if step is Step.OPEN:
            url, wait_s = self._endpoints.choose(now_s)
            if wait_s > 0:
                slot.postpone(now_s + wait_s)
                return
            limit_s = min(self._timing.open_timeout_s, max(MIN_OPEN_LIMIT_S, slot.deadline_s - now_s))
            self._opening = asyncio.create_task(self._open_successor(slot, url, limit_s))
        elif step is Step.SWITCH and successor is not None:
            self._switch(successor)
        elif step is Step.GIVE_UP:
            live.superseded = True
            live.ended_at_s = now_s
            self._spawn(live.leave())
            self._lost(live)

    async def _open_successor(self, slot: Slot, url: str, limit_s: float) -> None:
        """One try, beside the old socket, which is read and written on."""
        opened = await self._open(url, limit_s)
        self._opening = None
        self._wake.set()
        if isinstance(opened, LiveSocket):
            self._successor = opened  # before its reader runs for the first time
            return
        now_s = self._clock()
        # What is final here is told again by the old socket's own end, or by the tries that follow it.
        decision = opened.decision if isinstance(opened.decision, Retry) else Retry()
        self._token_refused = self._token_refused or decision.fresh_token
        self._endpoints.leave(url, not_before_s=self._not_before_s(decision, now_s))
        slot.postpone(now_s + max(self._backoff.next_s(), self._endpoints.choose(now_s)[1]))

    def _switch(self, successor: LiveSocket) -> None:
        """Leave the old socket: the new one is the present one from this frame on."""
        old = self._current
        self._successor = None
        if old is not None:
            old.superseded = True
            if old.slot is not None:
                self._statistics.moves += 1
            if old.ended:
                if old.ended_at_s < successor.opened_at_s:
                    self._lost_at_s = old.ended_at_s
                self._statistics.close_codes[old.close_code or ABNORMAL_CLOSURE] += 1
            else:
                self._spawn(old.leave())
        self._backoff.reset()
        self._take(successor)
        self._wake.set()

    def _lost(self, live: LiveSocket) -> None:
        """The present socket is over, and there is no other. Raises ConnectionEndedError."""
        self._current = None
        self._lost_at_s = live.ended_at_s
        if live.ended_at_s - live.opened_at_s >= STABLE_S:
            self._backoff.reset()
        if not live.superseded:
            self._statistics.close_codes[live.close_code or ABNORMAL_CLOSURE] += 1
        decision = reconnection.after_close(
            live.close_code,
            self._token_state(),
            superseded=live.superseded or live.attempt < self._attempt,
            code=live.end_code,
            reason=live.end_reason,
        )
        reason = live.end_reason or (
            "connection lost" if live.close_code is None else f"closed with {live.close_code}"
        )
        self._plan(_Failed(live.url, reason, live.close_code, decision))

    async def _beat(self, live: LiveSocket) -> None:
        """Send a heartbeat when it is due, and early where the socket is silent; give it up where it stays so."""
        now_s = self._clock()
        heartbeats = live.heartbeats
        look = live.silence.look(now_s, live.last_heard_s) if live.must_speak else Look.NOTHING
        if look is Look.LOST:
            live.end_reason = f"silent for {self._timing.silence_limit_s:g} s"
            live.abandon()
            return
        if now_s < heartbeats.next_s and look is not Look.ASK:
            return
        timestamp_ms = int(time.time() * 1000)
        heartbeats.beat(now_s, timestamp_ms)
        self._statistics.heartbeats += 1
        if heartbeats.missed and not live.blocked:
            self._statistics.heartbeats_missed += 1
            if heartbeats.lost(live.last_heard_s):
                live.abandon()
                return
        position = self._view.position
        await live.send(
            {
                "type": "heartbeat",
                "timestamp": timestamp_ms,
                "deviceId": self._identity.device_id,
                "connectionQuality": self._quality,
                "sequence": None if position is None else position.sequence,
            }
        )
        if heartbeats.latency_s is not None and not live.blocked:
            await live.send(
                {
                    "type": "connection_quality",
                    "latencyMs": round(heartbeats.latency_s * 1000, 3),
                    "missedHeartbeats": heartbeats.missed,
                }
            )

    async def _renew_token(self, live: LiveSocket) -> None:
        now_s = self._clock()
        if live.refresh_at_s is None or now_s < live.refresh_at_s:
            return
        try:
            async with asyncio.timeout(GET_TOKEN_LIMIT_S):
                token = await self._tokens.get()
        except Exception:  # noqa: BLE001 # the user's own code: whatever it raises, it is asked again before the end
            token = live.token
        if token == live.token:
            live.refresh_at_s = self._clock() + refresh_again_in_s(token, time.time())
            return
        live.token = token
        refresh_s = refresh_in_s(token, time.time())
        live.refresh_at_s = None if refresh_s is None else self._clock() + refresh_s
        await live.send({"type": "authenticate", "token": token})

    async def _mend(self, live: LiveSocket) -> None:
        """Ask for a snapshot after a violation of the sequence rule; again, where none comes."""
        if not live.checker.broken:
            live.refresh_asked_s = None
            return
        now_s = self._clock()
        if live.refresh_asked_s is None or now_s >= live.refresh_asked_s + SNAPSHOT_LIMIT_S:
            live.refresh_asked_s = now_s
            await live.send({"type": "request_full_refresh", "requestId": uuid.uuid4().hex})

    # --- reading -------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, live: LiveSocket) -> None:
        try:
            async for frame in live.frames():
                live.last_heard_s = self._clock()
                self._on_frame(live, frame)
                if self._sink.full:
                    live.blocked = True
                    await self._sink.room()
                    live.blocked = False
                    live.last_heard_s = self._clock()
                    self._wake.set()
        except Exception as error:  # noqa: BLE001 # ours or the user's callback: told by `run`, which ends with it
            self._reader_failure = error
        else:
            self._sockets.discard(live)
        finally:
            live.ended = True
            live.ended_at_s = self._clock()
            self._wake.set()

    def _on_frame(self, live: LiveSocket, frame: Mapping[str, Any]) -> None:
        """Frames of a superseded socket count for nothing, but for answers to commands that it was given."""
        kind = frame.get("type")
        if kind != "exchange_data" and "requestId" in frame and self._commands.answered(frame):
            return
        if live.superseded or not isinstance(kind, str):
            return
        if kind == "heartbeat_ack":
            self._on_heartbeat_ack(live, frame)
        elif kind in {"session_ended", "connection_replaced"}:
            self._on_end(live, kind, str(frame.get("reason", "")))
        elif kind in _READERS:
            try:
                event = _READERS[kind](frame)
            except _UNREADABLE:
                event = ServiceNotice("INVALID_MESSAGE", f"a {kind} frame that cannot be read")
            if isinstance(event, ExchangeData):
                self._on_exchange_data(live, event)
            else:
                self._on_event(live, event)

    def _on_exchange_data(self, live: LiveSocket, data: ExchangeData) -> None:
        statistics = self._statistics
        violation = live.checker.check(data.epoch, data.from_sequence, data.sequence, snapshot=data.snapshot)
        if violation is not None:
            if violation.kind == "DUPLICATE":
                statistics.duplicates += 1
            else:
                statistics.gaps += 1
            self._sink.put(violation)
            self._wake.set()
        if live.checker.broken:
            return
        if live is self._successor:
            self._switch(live)
        statistics.frames += 1
        self._end_pause()
        before = self._view.position
        applied = self._view.apply(data)
        if applied is None:
            statistics.overlapped += 1
            return
        if applied.snapshot:
            statistics.snapshots += 1
            if before is not None and before.epoch == applied.epoch and before.sequence < applied.sequence:
                statistics.snapshots_skipping += 1
        else:
            statistics.updates += applied.sequence - applied.from_sequence + 1
            statistics.order_updates += len(applied.order_updates)
        self._sink.put(applied)

    def _end_pause(self) -> None:
        now_s = self._clock()
        if self._awaits_data and self._last_data_s is not None:
            self._statistics.longest_pause_s = max(self._statistics.longest_pause_s, now_s - self._last_data_s)
        self._awaits_data = False
        self._last_data_s = now_s

    def _on_heartbeat_ack(self, live: LiveSocket, frame: Mapping[str, Any]) -> None:
        live.heartbeats.answered(self._clock(), frame.get("clientTimestamp"))
        self._statistics.latency_s = live.heartbeats.latency_s
        if frame.get("sessionStatus") == "invalid" or frame.get("deviceIdValid") is False:
            self._on_end(live, "session_ended", "invalid")
            self._spawn(live.leave())

    def _on_event(self, live: LiveSocket, event: Event) -> None:
        if isinstance(event, PodTerminating):
            live.slot = Slot(self._clock(), reconnect_after_s=event.reconnect_after_s, deadline_s=event.deadline_s)
            self._endpoints.leave(live.url)
            self._wake.set()
        elif isinstance(event, QualityChanged):
            if event.quality == self._quality:
                return
            self._quality = event.quality
        elif isinstance(event, SimulatorStatus):
            live.simulator_runs = event.status == "RUNNING"
            self._wake.set()
            if not live.simulator_runs:
                self._last_data_s = None  # silence is no pause of ours then
        if live is self._current:
            self._sink.put(event)

    def _on_end(self, live: LiveSocket, kind: str, reason: str) -> None:
        live.end_reason = reason
        if kind == "session_ended":
            live.end_code = "SESSION_ENDED"
            self._tell_session_ended(reason)

    def _tell_session_ended(self, reason: str) -> None:
        if not self._session_ended:
            self._session_ended = True
            self._sink.put(SessionEnded(reason))
