"""What a stream can resume from."""

import pytest

from exchange_simulator.engine import Update
from exchange_simulator.window import UpdateWindow

EPOCH = 9


def filled(count: int, *, max_updates: int = 2_048, interval_ms: int = 0) -> UpdateWindow:
    window = UpdateWindow(EPOCH, max_updates=max_updates)
    for sequence in range(1, count + 1):
        window.append(Update(sequence, sequence * interval_ms, b"%d" % sequence))
    return window


def test_updates_come_back_by_number() -> None:
    window = filled(10)
    assert [window.get(sequence) for sequence in range(12)] == [
        None,
        *(b"%d" % sequence for sequence in range(1, 11)),
        None,
    ]


def test_only_the_last_ones_stay() -> None:
    window = filled(25, max_updates=10)
    assert (window.first, window.head) == (16, 25)
    assert window.get(15) is None
    assert window.get(16) == b"16"


def test_old_ones_go_whatever_their_number() -> None:
    window = filled(100, interval_ms=5_000)
    assert window.first == 100 - 120_000 // 5_000
    window.append(Update(101, 10_000_000, b"101"))
    assert (window.first, window.head) == (101, 101)


@pytest.mark.parametrize(
    ("epoch", "from_sequence", "expected"),
    [
        (EPOCH, 16, True),
        (EPOCH, 25, True),
        (EPOCH, 26, True),
        (EPOCH, 27, False),
        (EPOCH, 15, False),
        (EPOCH, 0, False),
        (EPOCH + 1, 20, False),
        (0, 20, False),
        (EPOCH, 2**64 - 1, False),
    ],
)
def test_a_resume_is_exact_or_refused(epoch: int, from_sequence: int, expected: bool) -> None:
    assert filled(25, max_updates=10).can_resume(epoch, from_sequence) is expected


def test_a_window_has_no_gaps() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        filled(3).append(Update(5, 0, b"5"))
