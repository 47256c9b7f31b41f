"""The quality rule and its hysteresis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.quality import REPORTS_UNTIL_BETTER, Quality, QualityTracker, judge

GOOD, DEGRADED, POOR = (20.0, 0), (900.0, 0), (20.0, 3)
ORDER = [Quality.GOOD, Quality.DEGRADED, Quality.POOR]


@pytest.mark.parametrize(
    ("latency_ms", "missed", "expected"),
    [
        (0.0, 0, Quality.GOOD),
        (500.0, 0, Quality.GOOD),
        (500.1, 0, Quality.DEGRADED),
        (1.0, 1, Quality.DEGRADED),
        (1.0, 2, Quality.DEGRADED),
        (1.0, 3, Quality.POOR),
        (9000.0, 3, Quality.POOR),
        (None, None, Quality.GOOD),
        (None, 3, Quality.POOR),
        (501.0, None, Quality.DEGRADED),
    ],
)
def test_one_report_is_judged_by_the_documented_limits(
    latency_ms: float | None, missed: int | None, expected: Quality
) -> None:
    assert judge(latency_ms, missed) is expected


def test_worse_counts_at_once_and_recommends_to_reconnect_when_poor() -> None:
    tracker = QualityTracker()
    degraded = tracker.report(*DEGRADED)
    assert (degraded.quality, degraded.changed, degraded.reconnect_recommended) == (Quality.DEGRADED, True, False)
    poor = tracker.report(*POOR)
    assert (poor.quality, poor.changed, poor.reconnect_recommended) == (Quality.POOR, True, True)
    assert tracker.report(*POOR).changed is False


def test_better_counts_only_after_three_better_reports_in_a_row() -> None:
    tracker = QualityTracker()
    tracker.report(*DEGRADED)
    assert [tracker.report(*GOOD).quality for _ in range(3)] == [Quality.DEGRADED, Quality.DEGRADED, Quality.GOOD]


def test_a_bad_report_in_between_starts_the_count_again() -> None:
    tracker = QualityTracker()
    tracker.report(*DEGRADED)
    tracker.report(*GOOD)
    tracker.report(*GOOD)
    tracker.report(*DEGRADED)
    assert tracker.report(*GOOD).quality is Quality.DEGRADED


def test_recovery_goes_to_the_worst_of_the_better_reports() -> None:
    tracker = QualityTracker()
    tracker.report(*POOR)
    verdicts = [tracker.report(*report) for report in (GOOD, DEGRADED, GOOD)]
    assert [verdict.quality for verdict in verdicts] == [Quality.POOR, Quality.POOR, Quality.DEGRADED]
    assert verdicts[-1].changed
    assert not verdicts[-1].reconnect_recommended


@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(0, 5))))
def test_the_verdict_is_never_better_than_the_latest_report(reports: list[tuple[float, int]]) -> None:
    tracker = QualityTracker()
    for report in reports:
        before = tracker.quality
        verdict = tracker.report(*report)
        assert ORDER.index(verdict.quality) >= ORDER.index(judge(*report))
        assert verdict.changed == (verdict.quality is not before)
        assert verdict.reconnect_recommended == (verdict.quality is Quality.POOR)


@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(0, 5))))
def test_enough_good_reports_always_lead_back_to_good(reports: list[tuple[float, int]]) -> None:
    tracker = QualityTracker()
    for report in reports:
        tracker.report(*report)
    # Twice: reports of the prefix may have left a count whose worst is DEGRADED.
    for _ in range(2 * REPORTS_UNTIL_BETTER):
        tracker.report(*GOOD)
    assert tracker.quality is Quality.GOOD
