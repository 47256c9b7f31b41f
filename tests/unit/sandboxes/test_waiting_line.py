"""Who is woken, in which order, and how many at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.errors import UnavailableError
from session_service.sandboxes.waiting_line import WAKE_BURST, WAKES_PER_S, Place, WaitingLine, pieces_of


def line_of(waiters: int, *, limit: int = 1000) -> tuple[WaitingLine, list[Place]]:
    """All of them waiting, in this order."""
    line = WaitingLine(limit, 0.0)
    places = [line.enter() for _ in range(waiters)]
    for place in places:
        line.wait(place)
    return line, places


@pytest.mark.parametrize(
    ("payload", "pieces"),
    [("a", 1), ("a,b,c", 3), ("a,b,+40", 42), ("+7", 7), ("", 1), ("+0", 1), ("a,+1e9", 2), ("a,+9999999999", 2)],
)
def test_how_much_work_a_notification_tells_of(payload: str, pieces: int) -> None:
    assert pieces_of(payload) == pieces


def test_one_piece_wakes_who_waits_longest() -> None:
    line, places = line_of(3)
    line.work_came(1)
    assert line.wake(0.0) == places[:1]
    line.work_came(2)
    assert line.wake(0.0) == places[1:]
    line.work_came(1)
    assert line.wake(0.0) == []
    assert not line.owes


def test_who_was_woken_in_vain_waits_behind_the_others() -> None:
    line, (first, second) = line_of(2)
    line.work_came(1)
    assert line.wake(0.0) == [first]
    assert line.ask(first)
    line.wait(first)
    line.work_came(1)
    assert line.wake(0.0) == [second]


def test_work_that_comes_while_one_asks_is_noted_on_it() -> None:
    """It may have asked just before: without a note it would sleep beside work."""
    line = WaitingLine(10, 0.0)
    place = line.enter()
    line.work_came(1)
    assert line.wake(0.0) == [place]
    line.wait(place)
    assert line.ask(place)
    assert not line.ask(place)


def test_who_waits_is_woken_before_who_is_asking() -> None:
    line, (waiting,) = line_of(1)
    asking = line.enter()
    line.ask(waiting)
    line.wait(waiting)
    line.work_came(1)
    assert line.wake(0.0) == [waiting]
    line.work_came(1)
    assert line.wake(0.0) == [asking]


def test_a_wake_up_that_its_waiter_had_no_use_for_goes_to_the_next() -> None:
    line, (first, second) = line_of(2)
    line.work_came(1)
    assert line.wake(0.0) == [first]
    line.leave(first)
    assert line.wake(0.0) == [second]
    line.ask(second)
    line.leave(second)
    assert not line.owes
    assert len(line) == 0


def test_the_number_of_waiters_has_a_limit() -> None:
    line, places = line_of(2, limit=2)
    with pytest.raises(UnavailableError):
        line.enter()
    line.leave(places[0])
    line.enter()


def test_after_a_reconnect_all_are_woken_but_never_all_at_once() -> None:
    line, places = line_of(WAKE_BURST + 10)
    line.all_may_have_missed_some()
    assert line.wake(0.0) == places[:WAKE_BURST]
    assert line.owes
    assert line.wake(0.0) == []
    assert line.wake(3.5 / WAKES_PER_S) == places[WAKE_BURST : WAKE_BURST + 3]
    assert line.wake(1.0) == places[WAKE_BURST + 3 :]
    assert not line.owes


def test_no_more_is_owed_than_there_are_waiters() -> None:
    """Somebody who notifies of a billion pieces does not have whoever comes later woken for nothing."""
    line, places = line_of(1)
    line.work_came(10**9)
    assert line.wake(0.0) == places
    assert not line.owes
    line.enter()
    assert line.wake(1.0) == []


@given(st.lists(st.sampled_from(["enter", "wait", "ask", "leave", "work", "wake"]), max_size=60), st.randoms())
def test_work_never_goes_unnoticed_while_somebody_sleeps(steps: list[str], random: object) -> None:
    """Told of work, and with all that is owed done, there is a waiter that knows, or none that could."""
    line, asleep, awake = WaitingLine(8, 0.0), list[Place](), list[Place]()
    now_s = 0.0
    unseen = False  # work that nobody has asked for since it came
    for step in steps:
        now_s += 1.0
        if step == "enter" and len(line) < 8:
            awake.append(line.enter())
            unseen = False  # it asks first
        elif step == "wait" and awake:
            place = awake.pop(0)
            line.wait(place)
            asleep.append(place)
        elif step == "ask" and asleep:
            place = asleep.pop()
            if line.ask(place):
                unseen = False
            awake.append(place)
        elif step == "leave" and awake:
            line.leave(awake.pop())
        elif step == "work":
            unseen = len(line) > 0
            line.work_came(1)
        line.wake(now_s)
        known = any(place.woken for place in asleep + awake)
        assert not (unseen and len(line) > 0) or known or line.owes
