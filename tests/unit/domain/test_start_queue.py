"""Who may be created next: users take turns, and never more than the limit hold a slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.start_queue import WaitingStart, admitted, fair_order

users = st.sampled_from(["ann", "ben", "cat"])
queues = st.lists(
    st.builds(WaitingStart, st.text("abcdef", min_size=1, max_size=6), users, st.integers(0, 9).map(float)),
    max_size=20,
    unique_by=lambda start: start.simulator_id,
)
slots = st.dictionaries(users, st.integers(0, 4))
times = st.dictionaries(users, st.integers(0, 20).map(float))


def starts(*described: tuple[str, str, float]) -> list[WaitingStart]:
    return [WaitingStart(*one) for one in described]


def ids(order: Sequence[WaitingStart]) -> str:
    return " ".join(start.simulator_id for start in order)


@pytest.mark.parametrize(
    ("waiting", "held", "served", "order"),
    [
        ([], {}, {}, ""),
        # Of one user the oldest first; of one age whichever id is smaller, so that every pod says the same.
        (starts(("c", "ann", 2), ("b", "ann", 1), ("a", "ann", 2)), {}, {}, "b a c"),
        # Turns: the first of each, by age, then the second of each.
        (starts(("a1", "ann", 1), ("a2", "ann", 1), ("a3", "ann", 1), ("b1", "ben", 9)), {}, {}, "a1 b1 a2 a3"),
        # What holds a slot has had its turn.
        (starts(("a2", "ann", 1), ("b1", "ben", 9)), {"ann": 1}, {"ann": 5}, "b1 a2"),
        (starts(("a3", "ann", 1), ("b2", "ben", 9), ("b3", "ben", 9)), {"ann": 2, "ben": 1}, {}, "b2 a3 b3"),
        # So it has where its slot is free again. But whoever came only after that turn has not waited longer.
        (starts(("a2", "ann", 1), ("a3", "ann", 1), ("b1", "ben", 9)), {}, {"ann": 10}, "b1 a2 a3"),
        (starts(("a2", "ann", 1), ("a3", "ann", 1), ("b1", "ben", 9)), {}, {"ann": 8}, "a2 b1 a3"),
        # Of two second starts that one is first whose user's first one was.
        (starts(("a2", "ann", 1), ("b1", "ben", 2), ("b2", "ben", 2)), {"ann": 1}, {"ann": 10}, "b1 a2 b2"),
    ],
)
def test_the_order(waiting: list[WaitingStart], held: dict[str, int], served: dict[str, float], order: str) -> None:
    assert ids(fair_order(waiting, held, served)) == order


@pytest.mark.parametrize(("limit", "expected"), [(0, ""), (2, ""), (3, "b1"), (4, "b1 b2"), (9, "b1 b2 a3")])
def test_free_slots_go_to_the_first(limit: int, expected: str) -> None:
    waiting = starts(("a3", "ann", 1), ("b1", "ben", 8), ("b2", "ben", 9))
    assert ids(admitted(waiting, {"ann": 2}, {}, limit)) == expected


@given(queues, slots, times)
def test_everybody_has_one_place(
    waiting: list[WaitingStart], held: Mapping[str, int], served: Mapping[str, float]
) -> None:
    order = fair_order(waiting, held, served)
    assert sorted(ids(order).split()) == sorted(ids(waiting).split())
    assert fair_order(order, held, served) == order  # in whatever order they are named


@given(queues, slots, times)
def test_of_one_user_the_older_is_never_later(
    waiting: list[WaitingStart], held: Mapping[str, int], served: Mapping[str, float]
) -> None:
    order = fair_order(waiting, held, served)
    for user in {start.user_id for start in waiting}:
        ages = [start.created_at for start in order if start.user_id == user]
        assert ages == sorted(ages)


@given(queues, slots, times, st.integers(1, 40))
def test_anothers_burst_delays_a_first_start_by_one_place(
    waiting: list[WaitingStart], held: Mapping[str, int], served: Mapping[str, float], burst: int
) -> None:
    mine = WaitingStart("mine", "me", 99.0)
    without = fair_order([*waiting, mine], held, served).index(mine)
    many = [WaitingStart(f"burst{number}", "dan", 0.0) for number in range(burst)]
    assert fair_order([*waiting, *many, mine], held, served).index(mine) - without <= 1


@given(queues, slots, times, st.integers(0, 30))
def test_a_slot_given_moves_nobody_back(
    waiting: list[WaitingStart], held: dict[str, int], served: dict[str, float], limit: int
) -> None:
    """What is told as a position falls: whoever is admitted goes from the front, and the rest keep their order."""
    gone = admitted(waiting, held, served, limit)
    assert len(gone) <= max(limit - sum(held.values()), 0)
    after, then = dict(held), dict(served)
    for number, start in enumerate(gone):
        after[start.user_id] = after.get(start.user_id, 0) + 1
        then[start.user_id] = 100.0 + number
    left = [start for start in waiting if start not in gone]
    assert fair_order(left, after, then) == fair_order(waiting, held, served)[len(gone) :]
    assert admitted(left, after, then, limit) == []


@given(st.integers(1, 4), st.lists(st.tuples(users, st.integers(0, 9)), max_size=30), st.randoms())
def test_of_no_other_user_more_than_one_is_admitted_before_a_first_start(
    limit: int, asked: list[tuple[str, int]], chance: Random
) -> None:
    """Whenever slots become free again, and whoever had them."""
    mine = WaitingStart("mine", "me", 10.0)
    waiting = [WaitingStart(f"{number}", user, float(at)) for number, (user, at) in enumerate(asked)] + [mine]
    holding: list[str] = []
    served: dict[str, float] = {}
    before: Counter[str] = Counter()
    now = 11.0
    while mine in waiting:
        for start in admitted(waiting, Counter(holding), served, limit):
            waiting.remove(start)
            holding.append(start.user_id)
            before[start.user_id] += 1
            now += 1.0
            served[start.user_id] = now
            if start is mine:
                break
        holding.pop(chance.randrange(len(holding)))
    assert max(before.values()) == 1
