"""Connection quality: what a client's report means, and when a verdict changes.

Pure. A report is judged by one rule; a tracker adds hysteresis, so that a connection at the edge does not flap:
worse counts at once, better only after several better reports in a row.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

POOR_MISSED_HEARTBEATS = 3
DEGRADED_LATENCY_MS = 500.0
REPORTS_UNTIL_BETTER = 3


class Quality(StrEnum):
    GOOD = "GOOD"
    DEGRADED = "DEGRADED"  # heartbeats were missed, or they take longer than half a second
    POOR = "POOR"  # three or more missed: the client should open another connection


_RANK = {Quality.GOOD: 0, Quality.DEGRADED: 1, Quality.POOR: 2}


class QualityVerdict(msgspec.Struct, frozen=True):
    """What holds after a report. ``changed``: it is not what held before."""

    quality: Quality
    reconnect_recommended: bool
    changed: bool


def judge(latency_ms: float | None, missed_heartbeats: int | None) -> Quality:
    """One report on its own. An unknown figure (None) speaks for neither side."""
    missed = missed_heartbeats or 0
    if missed >= POOR_MISSED_HEARTBEATS:
        return Quality.POOR
    if missed > 0 or (latency_ms is not None and latency_ms > DEGRADED_LATENCY_MS):
        return Quality.DEGRADED
    return Quality.GOOD


class QualityTracker:
    """The quality of one connection over its reports.

    Better takes ``REPORTS_UNTIL_BETTER`` reports in a row that are all better than what holds; the new quality is the
    worst of these, so that one GOOD among DEGRADED reports does not lift a POOR connection to GOOD.
    """

    __slots__ = ("_better_count", "_worst_of_better", "quality")

    def __init__(self) -> None:
        self.quality = Quality.GOOD
        self._better_count = 0
        self._worst_of_better = Quality.GOOD

    def report(self, latency_ms: float | None, missed_heartbeats: int | None) -> QualityVerdict:
        judged = judge(latency_ms, missed_heartbeats)
        before = self.quality
        if _RANK[judged] >= _RANK[before]:
            self.quality = judged
            self._better_count = 0
        else:
            if self._better_count == 0 or _RANK[judged] > _RANK[self._worst_of_better]:
                self._worst_of_better = judged
            self._better_count += 1
            if self._better_count >= REPORTS_UNTIL_BETTER:
                self.quality = self._worst_of_better
                self._better_count = 0
        return QualityVerdict(self.quality, self.quality is Quality.POOR, self.quality is not before)
