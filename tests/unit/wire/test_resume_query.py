"""The query of an upgrade, and Last-Event-ID."""

from __future__ import annotations

import pytest

from session_service.domain.market import Position
from session_service.errors import InvalidRequestError
from session_service.wire.resume_query import ResumeQuery, last_event_position, parse


def test_only_the_device_is_needed() -> None:
    assert parse({"deviceId": "d"}, device_required=True) == ResumeQuery("d")
    assert parse({}, device_required=False) == ResumeQuery(None)


def test_everything_at_once() -> None:
    query = parse(
        {
            "deviceId": "d",
            "sessionId": "s",
            "clientId": "c",
            "attempt": "3",
            "epoch": "7",
            "sequence": "0",
            "symbols": "A,B",
        },
        device_required=True,
    )
    assert query == ResumeQuery("d", "s", "c", 3, Position(7, 0), frozenset({"A", "B"}))


def test_empty_values_count_as_absent() -> None:
    empty = dict.fromkeys(("sessionId", "clientId", "attempt", "epoch", "sequence", "symbols"), "")
    assert parse({"deviceId": "d", **empty}, device_required=True) == ResumeQuery("d")


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("deviceId", {"deviceId": ""}),
        ("deviceId", {"deviceId": "a\nb"}),
        ("deviceId", {"deviceId": "\ud800"}),
        ("sessionId", {"deviceId": "d", "sessionId": "\x00"}),
        ("clientId", {"deviceId": "d", "clientId": "c" * 65}),
        ("attempt", {"deviceId": "d", "attempt": "²"}),
        ("attempt", {"deviceId": "d", "attempt": "+1"}),
        ("attempt", {"deviceId": "d", "attempt": "9" * 5000}),
        ("epoch", {"deviceId": "d", "sequence": "1"}),
        ("sequence", {"deviceId": "d", "epoch": "1"}),
        ("sequence", {"deviceId": "d", "epoch": "1", "sequence": str(2**53)}),
        ("symbols", {"deviceId": "d", "symbols": "A,,B"}),
    ],
)
def test_a_wrong_field_is_named(field: str, query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(query, device_required=True)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("7:12", Position(7, 12)),
        (" 7:12 ", Position(7, 12)),
        (None, None),
        ("", None),
        ("7", None),
        ("7:", None),
        ("a:b", None),
        ("-1:2", None),
        (f"{2**53}:1", None),
        ("7:12:13", None),
        ("9" * 5000 + ":1", None),
    ],
)
def test_a_last_event_id_is_a_position_or_nothing(text: str | None, position: Position | None) -> None:
    assert last_event_position(text) == position
