"""ActivityLog under a clock of the test's own: what is written, when, and what an outage keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from session_service.database.sessions import SessionRepository
from session_service.errors import DatabaseUnavailableError
from session_service.sessions.activity import ActivityLog

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class FailingSessions(SessionRepository):
    """Keeps what was written; ``away`` while PostgreSQL does not answer. Its clock ticks with each answer."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[dict[str, tuple[float, float]]] = []
        self.pods: list[str] = []
        self.collected: list[int | None] = []  # ticks
        self.elapsed_s: list[float] = []
        self.locked: set[str] = set()  # sessions that somebody holds
        self.unwritten: list[list[str]] = []  # as said with each last statement of a flush

    async def flush_activity(
        self,
        uses_s: Mapping[str, tuple[float, float]],
        pod_id: str,
        *,
        answered_at: datetime | None,
        elapsed_s: float,
        is_all: bool,
        held: Sequence[str],
    ) -> tuple[datetime, list[str]]:
        if self.away:
            raise DatabaseUnavailableError
        self.written.append(dict(uses_s))
        self.pods.append(pod_id)
        self.collected.append((answered_at - EPOCH).seconds if answered_at and is_all else None)
        self.elapsed_s.append(elapsed_s)
        if is_all:
            self.unwritten.append([*held, *(self.locked & uses_s.keys())])
        return EPOCH + timedelta(seconds=len(self.written)), sorted(self.locked & uses_s.keys())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions() -> FailingSessions:
    return FailingSessions()


@pytest.fixture
def activity(sessions: FailingSessions, clock: Clock) -> ActivityLog:
    return ActivityLog(sessions, timeout_s=100, clock=clock, pod_id=lambda: "pod#1")


async def test_an_entry_says_when_the_activity_was_not_when_it_is_written(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    activity.touch("a")
    clock.now += 3
    activity.touch("b")
    clock.now += 1
    await activity.flush()
    assert sessions.written == [{"a": (4.0, 4.0), "b": (1.0, 1.0)}]


async def test_a_use_is_from_its_first_to_its_last_moment(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    activity.touch("a")
    clock.now += 3
    activity.touch("a")
    await activity.flush()
    assert sessions.written == [{"a": (3.0, 0.0)}]


async def test_what_is_written_is_not_written_again(activity: ActivityLog, sessions: FailingSessions) -> None:
    activity.touch("a")
    await activity.flush()
    await activity.flush()
    assert sessions.written == [{"a": (0.0, 0.0)}, {}]


async def test_each_flush_says_that_all_is_written_up_to_the_answer_before(
    activity: ActivityLog, sessions: FailingSessions
) -> None:
    for _ in range(3):
        await activity.flush()
    assert sessions.collected == [None, 1, 2]


async def test_a_flush_that_failed_says_nothing_and_the_next_no_more_than_it_would_have(
    activity: ActivityLog, sessions: FailingSessions
) -> None:
    await activity.flush()
    sessions.away = True
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            await activity.flush()
    sessions.away = False
    await activity.flush()
    assert sessions.collected == [None, 1]


async def test_ages_are_told_as_of_the_time_since_the_last_answer(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    await activity.flush()
    clock.now += 7
    activity.touch("a")
    clock.now += 3
    await activity.flush()
    assert sessions.elapsed_s == [0.0, 10.0]
    assert sessions.written[1] == {"a": (3.0, 3.0)}


async def test_the_pod_is_asked_for_anew_at_each_flush(sessions: FailingSessions, clock: Clock) -> None:
    incarnations = iter(["pod#1", "pod#2"])
    log = ActivityLog(sessions, timeout_s=100, clock=clock, pod_id=lambda: next(incarnations))
    await log.flush()
    await log.flush()
    assert sessions.pods == ["pod#1", "pod#2"]


async def test_writes_are_throttled_to_a_tenth_of_the_timeout(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    for _ in range(100):  # ten seconds of ten touches a second
        activity.touch("a")
        await activity.flush()
        clock.now += 0.1
    assert sum(map(len, sessions.written)) == 1
    clock.now += 0.01
    activity.touch("a")
    await activity.flush()
    assert sum(map(len, sessions.written)) == 2


async def test_an_outage_keeps_what_could_not_be_written(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    sessions.away = True
    activity.touch("a")
    with pytest.raises(DatabaseUnavailableError):
        await activity.flush()
    clock.now += 60
    activity.touch("b")
    with pytest.raises(DatabaseUnavailableError):
        await activity.flush()
    sessions.away = False
    await activity.flush()
    assert sessions.written == [{"a": (60.0, 60.0), "b": (0.0, 0.0)}]


async def test_a_pause_as_long_as_the_timeout_ends_a_use(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    """The session ran out in it, whether or not PostgreSQL could be told: what comes later must not revive it."""
    activity.touch("a")
    clock.now += 99
    activity.touch("a")
    clock.now += 100
    activity.touch("a")
    clock.now += 1
    await activity.flush()
    assert sessions.written == [{"a": (200.0, 101.0)}]


async def test_a_touch_during_the_write_is_not_lost(clock: Clock) -> None:
    class TouchedMeanwhile(FailingSessions):
        async def flush_activity(
            self,
            uses_s: Mapping[str, tuple[float, float]],
            pod_id: str,
            *,
            answered_at: datetime | None,
            elapsed_s: float,
            is_all: bool,
            held: Sequence[str],
        ) -> tuple[datetime, list[str]]:
            answer = await super().flush_activity(
                uses_s, pod_id, answered_at=answered_at, elapsed_s=elapsed_s, is_all=is_all, held=held
            )
            if len(self.written) == 1:
                clock.now += 5
                log.touch("a")
            return answer

    sessions = TouchedMeanwhile()
    log = ActivityLog(sessions, timeout_s=10, clock=clock, pod_id=lambda: "pod#1")
    log.touch("a")
    await log.flush()
    clock.now += 1
    await log.flush()
    assert sessions.written == [{"a": (0.0, 0.0)}, {"a": (6.0, 1.0)}]


async def test_a_session_that_somebody_holds_is_written_when_it_is_free(
    activity: ActivityLog, sessions: FailingSessions, clock: Clock
) -> None:
    activity.touch("a")
    activity.touch("b")
    sessions.locked = {"a"}
    await activity.flush()
    assert sessions.unwritten == [["a"]]
    clock.now += 1
    await activity.flush()
    assert sessions.written[1:] == [{"a": (1.0, 1.0)}]
    sessions.locked = set()
    clock.now += 1
    await activity.flush()
    await activity.flush()
    assert sessions.written[2:] == [{"a": (2.0, 2.0)}, {}]
    assert sessions.unwritten[2:] == [[], []]


async def test_a_session_that_is_over_is_forgotten(activity: ActivityLog, sessions: FailingSessions) -> None:
    activity.touch("a")
    activity.touch("b")
    activity.forget("a")
    await activity.flush()
    assert sessions.written == [{"b": (0.0, 0.0)}]


async def test_of_several_statements_only_the_last_says_that_all_is_written(
    activity: ActivityLog, sessions: FailingSessions
) -> None:
    await activity.flush()
    for number in range(2500):
        activity.touch(str(number))
    await activity.flush()
    assert [len(batch) for batch in sessions.written] == [0, 1000, 1000, 500]
    assert sessions.collected == [None, None, None, 1]


async def test_what_was_written_long_ago_is_forgotten(clock: Clock, sessions: FailingSessions) -> None:
    activity = ActivityLog(sessions, timeout_s=100, clock=clock, pod_id=lambda: "pod#1")
    for number in range(100):
        activity.touch(str(number))
        await activity.flush()
        clock.now += 1
    assert len(activity._written) <= 20
