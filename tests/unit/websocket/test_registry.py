"""The registry: who stays and who goes. Connections are event streams over a transport that takes everything."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from session_service.domain.session import Session, SessionStatus
from session_service.domain.simulator import Simulator, SimulatorStatus, SimulatorTarget
from session_service.telemetry.metrics import Metrics
from session_service.websocket.connection import ClientConnection, EventStreamConnection
from session_service.websocket.drain import drain_slots
from session_service.websocket.registry import WebSocketRegistry
from session_service.websocket.session_entry import SessionEntry
from session_service.websocket.traffic import Traffic
from session_service.wire.close_codes import CloseCode

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class BottomlessTransport(asyncio.Transport):
    """Takes every byte and never loses its peer."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        pass


def session(session_id: str = "s1", user_id: str = "u1") -> Session:
    return Session(session_id, user_id, SessionStatus.ACTIVE, NOW, NOW, NOW, "device-1", {})


def connection(
    client_id: str, attempt: int = 0, *, named: bool = True, last_message_s: float = 0.0
) -> ClientConnection:
    return EventStreamConnection(
        BottomlessTransport(),
        Traffic(Metrics()),
        lambda: last_message_s,
        client_id=client_id,
        attempt=attempt,
        named=named,
        identity=None,  # type: ignore[arg-type]  # nobody asks who it is here
        token_deadline_s=float("inf"),
        comment_interval_s=15.0,
        chunked=True,
    )


async def test_by_session_client_and_user() -> None:
    registry = WebSocketRegistry()
    a, b, c = connection("a"), connection("b"), connection("a")
    registry.add(a, session("s1", "u1"))
    registry.add(b, session("s1", "u1"))
    registry.add(c, session("s2", "u1"))
    assert len(registry) == 3
    assert set(registry) == {a, b, c}
    assert registry.of_session("s1") == (a, b)
    assert registry.of_client("s1", "a") == (a,)
    assert set(registry.of_user("u1")) == {a, b, c}
    assert registry.session_ids() == ("s1", "s2")
    assert registry.remove(c)
    assert not registry.remove(c)
    assert registry.entry("s2") is None
    assert registry.of_user("u1") == (a, b)
    registry.remove(a)
    registry.remove(b)
    assert (len(registry), registry.of_user("u1"), registry.of_session("s1")) == (0, (), ())


async def test_a_lower_attempt_is_the_loser_and_an_equal_one_is_let_in() -> None:
    registry = WebSocketRegistry()
    first, second, equal, late = (connection("tab", attempt) for attempt in (1, 2, 2, 1))
    assert registry.add(first, session())
    assert registry.add(second, session())
    assert registry.add(equal, session())
    assert not registry.add(late, session())
    assert late not in registry.of_session("s1")
    second.close(CloseCode.REPLACED, "")
    equal.close(CloseCode.REPLACED, "")
    assert registry.add(late, session())  # those that are leaving hold no place


async def test_the_same_client_id_in_another_session_is_another_client() -> None:
    registry = WebSocketRegistry()
    assert registry.add(connection("tab", 5), session("s1", "u1"))
    assert registry.add(connection("tab", 1), session("s2", "u2"))


sockets = st.tuples(st.integers(0, 3), st.integers(1, 20))


async def test_an_event_that_comes_after_a_later_state_was_read_or_told_changes_nothing() -> None:
    entry = SessionEntry(session())
    entry.simulator_read(
        msgspec.structs.replace(simulator("sim-1", SimulatorStatus.RUNNING), changed_in=7), entry.simulator_version
    )
    version = entry.simulator_version
    assert not entry.simulator_changed("sim-1", SimulatorStatus.STARTING, None, 6)
    assert not entry.would_change("sim-1", SimulatorStatus.STARTING, None, 6)
    assert entry.simulator_version == version, "a query that is under way knows better"
    assert entry.simulator_changed("sim-1", SimulatorStatus.STOPPING, "stopped_by_user", 8)
    assert not entry.simulator_changed("sim-1", SimulatorStatus.RUNNING, None, 7)
    assert entry.simulator_changed("sim-2", SimulatorStatus.STARTING, None, 5)  # a transaction that took long
    assert entry.simulator_status == SimulatorStatus.STARTING


@settings(deadline=None)  # it starts a loop
@given(st.lists(sockets, unique_by=lambda socket: socket[1], min_size=1), st.randoms())
def test_the_same_socket_stays_in_whatever_order_the_events_come(
    counted: list[tuple[int, int]], random: Random
) -> None:
    async def last_standing() -> list[tuple[int, int | None]]:
        registry = WebSocketRegistry()
        for attempt, arrival in sorted(counted):  # as PostgreSQL lets them in
            one = connection("tab", attempt)
            assert registry.add(one, session())
            one.arrival = arrival
        other, uncounted = connection("another tab"), connection("tab", 3)
        other.arrival = 1
        for bystander in (other, uncounted):
            registry.add(bystander, session())
        for attempt, arrival in random.sample(counted, len(counted)):
            for older in registry.outdone_by("s1", "tab", attempt, arrival):
                older.close(CloseCode.REPLACED, "")
        assert not other.is_leaving()
        assert not uncounted.is_leaving()
        return [
            (one.attempt, one.arrival)
            for one in registry.of_client("s1", "tab")
            if not one.is_leaving() and one is not uncounted
        ]

    assert asyncio.run(last_standing()) == [max(counted)]


async def test_a_session_without_connections_has_nobody_to_close() -> None:
    registry = WebSocketRegistry()
    assert registry.outdone_by("s1", "tab", 9, 9) == ()
    assert registry.counted("s1") == {}


def simulator(simulator_id: str, status: SimulatorStatus) -> Simulator:
    return Simulator(
        simulator_id, "s1", "u1", status, SimulatorTarget.RUNNING, None, NOW, NOW, ("AAPL",), 1.0, None, None
    )


async def test_a_query_that_began_before_an_event_does_not_undo_it() -> None:
    entry = SessionEntry(session())
    version = entry.simulator_version
    assert entry.simulator_changed("sim-1", SimulatorStatus.RUNNING, None, 1)
    entry.simulator_read(simulator("sim-1", SimulatorStatus.STARTING), version)
    assert entry.simulator_status == SimulatorStatus.RUNNING
    entry.simulator_read(None, entry.simulator_version)
    assert (entry.simulator_id, entry.simulator_status) == (None, SimulatorStatus.NONE)


async def test_a_row_is_news_when_its_event_would_change_what_clients_were_told() -> None:
    entry = SessionEntry(session())
    assert entry.would_change("sim-1", SimulatorStatus.STARTING, None, 1)
    entry.simulator_changed("sim-1", SimulatorStatus.STARTING, None, 2)
    assert not entry.would_change("sim-1", SimulatorStatus.CREATING, None, 2)  # shown as STARTING
    assert entry.would_change("sim-1", SimulatorStatus.RUNNING, None, 3)
    assert not entry.would_change("sim-0", SimulatorStatus.STOPPED, None, 4)
    assert entry.simulator_status == SimulatorStatus.STARTING


async def test_the_end_of_a_predecessor_says_nothing_of_its_live_successor() -> None:
    entry = SessionEntry(session())
    assert entry.simulator_changed("sim-1", SimulatorStatus.RUNNING, None, 3)
    assert not entry.simulator_changed("sim-1", SimulatorStatus.RUNNING, None, 3)  # said before
    assert entry.simulator_changed("sim-2", SimulatorStatus.STARTING, None, 2)
    assert not entry.simulator_changed("sim-1", SimulatorStatus.STOPPED, None, 4)
    assert entry.simulator_id == "sim-2"


@settings(deadline=None)  # it starts a loop
@given(st.integers(0, 50), st.floats(0, 60))
def test_drain_slots_are_spread_over_the_window_and_keep_sessions_together(count: int, window_s: float) -> None:
    async def slots() -> list[tuple[ClientConnection, float]]:
        registry = WebSocketRegistry()
        members = [connection(f"c{number}") for number in range(count)]
        for number, member in enumerate(members):
            registry.add(member, session(f"s{number % 7}"))
        return drain_slots(set(members), window_s)

    made = asyncio.run(slots())
    times_s = [slot_s for _, slot_s in made]
    assert len(made) == count
    assert times_s == sorted(times_s)
    assert all(0 <= slot_s <= window_s for slot_s in times_s)
    sessions = [one.entry.session_id for one, _ in made if one.entry is not None]
    assert len([name for name, _ in itertools.groupby(sessions)]) == len(set(sessions))
