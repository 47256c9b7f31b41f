"""How many sessions there are, from what was counted and what was sampled."""

from __future__ import annotations

from session_service.database.sandbox_upkeep import COUNTED_AT_MOST, sessions_by_status


def test_few_are_counted_and_many_are_estimated() -> None:
    counted = {"pending": 7, "processing": 0, "completed": COUNTED_AT_MOST, "failed": COUNTED_AT_MOST}
    sampled = {"pending": 1, "completed": 20_000, "none": 300}
    assert sessions_by_status(counted, sampled, 5.0) == {
        "pending": 7,
        "processing": 0,
        "completed": 400_000,
        "failed": COUNTED_AT_MOST,
        "none": 6000,
    }


def test_a_table_that_was_read_whole_is_known() -> None:
    assert sessions_by_status({"pending": 3}, {"pending": 3, "none": 11}, 100.0) == {"pending": 3, "none": 11}
