"""An outage of PostgreSQL in the log: one line when it begins, one when it is over."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from session_service.database.availability import Availability


def fail(availability: Availability, now_s: float, operation: str = "beat") -> None:
    availability.failed(operation, "connect", "ConnectionRefusedError", "[Errno 111]", now_s)


def shown(logs: list[Any]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in logs]


def test_an_outage_is_two_lines_and_the_rest_is_for_debugging() -> None:
    availability = Availability()
    with capture_logs() as logs:
        availability.answered(9.0)
        fail(availability, 10.0)
        fail(availability, 11.0, "get_session")
        availability.answered(70.0)
        availability.answered(70.5)
        availability.answered(71.0)
        availability.answered(80.0)
    assert shown(logs) == [
        ("error", "database_away"),
        ("debug", "database_call_failed"),
        ("info", "database_back"),
    ]
    first = {name: logs[0][name] for name in ("operation", "stage", "error", "detail")}
    assert first == {
        "operation": "beat",
        "stage": "connect",
        "error": "ConnectionRefusedError",
        "detail": "[Errno 111]",
    }
    assert logs[2]["away_s"] == 60.0, "until the first answer"


def test_calls_that_fail_and_succeed_by_turns_are_one_outage() -> None:
    availability = Availability()
    with capture_logs() as logs:
        for second in range(0, 20, 2):
            fail(availability, second * 0.5)
            availability.answered(second * 0.5 + 0.5)
        availability.answered(12.0)
    assert [event for level, event in shown(logs) if level != "debug"] == ["database_away", "database_back"]
    assert logs[-1]["away_s"] == 9.5


def test_the_next_outage_is_told_again() -> None:
    availability = Availability()
    with capture_logs() as logs:
        for start_s in (0.0, 100.0):
            fail(availability, start_s)
            availability.answered(start_s + 10)
            availability.answered(start_s + 12)
    assert [event for _level, event in shown(logs)] == ["database_away", "database_back"] * 2
