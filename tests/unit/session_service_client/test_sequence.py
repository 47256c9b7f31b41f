"""The sequence rule of one socket: what keeps it, what breaks it, and what mends it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_service_client.events import Position
from session_service_client.sequence import SequenceChecker


def test_a_socket_that_does_not_resume_begins_with_a_snapshot() -> None:
    checker = SequenceChecker(None)
    assert checker.check(7, 41, 41, snapshot=True) is None
    assert checker.check(7, 42, 44, snapshot=False) is None
    assert checker.position == Position(7, 44)


def test_a_socket_that_resumes_continues_with_the_next_number() -> None:
    checker = SequenceChecker(Position(7, 41))
    assert checker.check(7, 42, 42, snapshot=False) is None
    assert checker.position == Position(7, 42)


@pytest.mark.parametrize(
    ("frame", "kind", "expected"),
    [
        ((7, 43, 43, False), "GAP", 42),
        ((7, 41, 41, False), "DUPLICATE", 42),
        ((7, 41, 44, False), "DUPLICATE", 42),
        ((8, 42, 42, False), "WRONG_EPOCH", 42),
        ((7, 42, 40, False), "MALFORMED", 42),
        ((7, 42, 43, True), "MALFORMED", 42),
    ],
)
def test_what_breaks_the_rule(frame: tuple[int, int, int, bool], kind: str, expected: int) -> None:
    checker = SequenceChecker(Position(7, 41))
    epoch, first, last, snapshot = frame
    violation = checker.check(epoch, first, last, snapshot=snapshot)
    assert violation is not None
    assert (violation.kind, violation.expected) == (kind, expected)
    assert checker.broken


def test_a_first_frame_without_a_snapshot_breaks_it_where_nothing_was_resumed() -> None:
    violation = SequenceChecker(None).check(7, 1, 1, snapshot=False)
    assert violation is not None
    assert violation.expected is None


def test_a_break_is_told_once_and_mended_by_a_snapshot() -> None:
    checker = SequenceChecker(Position(7, 41))
    assert checker.check(7, 50, 50, snapshot=False) is not None
    told, broken = [], []
    for number, snapshot in ((51, False), (52, True), (53, False)):
        told.append(checker.check(7, number, number, snapshot=snapshot))
        broken.append(checker.broken)
    assert told == [None, None, None]
    assert broken == [True, False, False], "what lies between the break and the snapshot is to be passed over"


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(0, 29), st.integers(1, 4))
def test_any_lost_or_repeated_frame_is_seen(lengths: list[int], at: int, shift: int) -> None:
    """Contiguous frames pass; shifting one of them, either way, is seen at that very frame."""
    frames, position = [], 10
    for length in lengths:
        frames.append((position + 1, position + length))
        position += length
    checker = SequenceChecker(Position(7, 10))
    assert all(checker.check(7, first, last, snapshot=False) is None for first, last in frames)
    for sign in (1, -1):
        checker = SequenceChecker(Position(7, 10))
        for index, (first, last) in enumerate(frames):
            moved = sign * shift if index == at else 0
            violation = checker.check(7, first + moved, last + moved, snapshot=False)
            assert (violation is not None) == (index == at)
            if violation is not None:
                assert violation.kind == ("GAP" if sign > 0 else "DUPLICATE")
                break
