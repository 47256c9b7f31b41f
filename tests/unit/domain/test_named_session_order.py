"""Which titles named sessions get that another service left, and what the report says of a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.named_session import MAX_TITLE_LENGTH, title_fault
from session_service.domain.named_session_order import Disorder, Row, report_row, titles_in_order

# Few letters and pieces, so that titles and what they become meet; and titles at both sides of the limit.
pieces = st.lists(st.sampled_from(["a", "b", "🙂", " (2)", " (3)", "untitled"]), max_size=3).map("".join)
long = st.builds(lambda title, length: (title * length)[:length], st.sampled_from("a🙂"), st.integers(974, 1001))
any_titles = st.lists(st.one_of(pieces, long), max_size=25)


@pytest.mark.parametrize(
    ("titles", "become"),
    [
        ([], []),
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
        (["a", "a", "a (2)"], ["a", "a (3)", "a (2)"]),  # what is there stays, wherever it comes
        (["a (2)", "a (2)", "a", "a"], ["a (2)", "a (2) (2)", "a", "a (3)"]),
        (["", "", "untitled"], ["untitled (2)", "untitled (3)", "untitled"]),
        ([""], ["untitled"]),
        (["x" * 1000, "x" * 1000], ["x" * 1000, "x" * 996 + " (2)"]),
        (["x" * 1001, "x" * 1001], ["x" * 1000, "x" * 996 + " (2)"]),
        (["x" * 1001, "x" * 1000], ["x" * 996 + " (2)", "x" * 1000]),
        (["🙂" * 1000, "🙂" * 1000], ["🙂" * 1000, "🙂" * 996 + " (2)"]),
        ([" ", " "], [" ", "  (2)"]),
    ],
)
def test_titles(titles: list[str], become: list[str]) -> None:
    assert titles_in_order(titles) == become


@given(any_titles)
def test_all_are_titles_all_are_different_and_who_can_stay_stays(titles: list[str]) -> None:
    become = titles_in_order(titles)
    assert len(become) == len(titles) == len(set(become))
    assert all(title_fault(title) is None for title in become)
    for place, (was, now) in enumerate(zip(titles, become, strict=True)):
        can_stay = title_fault(was) is None and was not in titles[:place]
        assert (now == was) == can_stay


@given(any_titles)
def test_what_is_in_order_stays_as_it_is(titles: list[str]) -> None:
    in_order = titles_in_order(titles)
    assert titles_in_order(in_order) == in_order


@given(st.lists(st.sampled_from(["a" * 30, "a" * 31, "b"]), max_size=20))
def test_a_narrower_column(titles: list[str]) -> None:
    become = titles_in_order(titles, 30)
    assert len(set(become)) == len(titles)
    assert all(len(title) <= 30 for title in become)


def test_many_of_one_title_take_no_number_twice() -> None:
    """A search that begins anew for each would take minutes."""
    stem = "x" * 990
    long = [f"{stem}{number:010}" for number in range(15_000)]
    become = titles_in_order(["a"] * 50_000 + long + long)
    assert become[49_999] == "a (50000)"
    assert len(set(become)) == 80_000


ORDERED = Row("a", False, "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00")


def test_a_report_has_what_changes_and_the_whole_of_what_was() -> None:
    title = "x" * 5000
    was = Row(title, True, None, "2026-01-02T00:00:00+00:00")
    becomes = Row(title[:MAX_TITLE_LENGTH], False, "2026-01-02T00:00:00+00:00", "2026-01-02T00:00:00+00:00")
    report = report_row("id", 7, was, becomes)
    assert report.what == (Disorder.SEVERAL_ACTIVE, Disorder.LONG_TITLE, Disorder.NULL_CREATED_AT)
    assert report.was == {"title": title, "active": True, "created_at": None}
    assert report.becomes == {
        "title": title[:MAX_TITLE_LENGTH],
        "active": False,
        "created_at": "2026-01-02T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("was", "what"),
    [
        (Row("", False, ORDERED.created_at, ORDERED.updated_at), Disorder.EMPTY_TITLE),
        (Row("b", False, ORDERED.created_at, ORDERED.updated_at), Disorder.DUPLICATE_TITLE),
        (Row("a", None, ORDERED.created_at, ORDERED.updated_at), Disorder.NULL_ACTIVE),
        (Row("a", False, ORDERED.created_at, None), Disorder.NULL_UPDATED_AT),
    ],
)
def test_what_was_wrong(was: Row, what: Disorder) -> None:
    assert report_row("id", 1, was, ORDERED).what == (what,)


def test_a_user_whom_no_token_names_is_reported_unchanged() -> None:
    report = report_row("id", 0, ORDERED, ORDERED)
    assert (report.what, report.was, report.becomes) == ((Disorder.UNREACHABLE_USER,), {}, {})
