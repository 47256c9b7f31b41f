"""connection_quality: what clients report of their connections, judged, remembered, written once a round."""

from __future__ import annotations

import time

from session_service.domain.quality import QualityTracker, QualityVerdict
from session_service.sessions.metadata_log import MetadataLog


class ConnectionQuality:
    """One tracker per connection; the session's metadata hold the last report of any of them."""

    def __init__(self, metadata: MetadataLog) -> None:
        self._metadata = metadata
        self._trackers: dict[tuple[str, str], QualityTracker] = {}

    def report(
        self, session_id: str, client_id: str, latency_ms: float | None, missed_heartbeats: int | None
    ) -> QualityVerdict:
        """Judge one report. No I/O: the figures reach the metadata with the next round."""
        tracker = self._trackers.get((session_id, client_id))
        if tracker is None:
            tracker = self._trackers[session_id, client_id] = QualityTracker()
        verdict = tracker.report(latency_ms, missed_heartbeats)
        fields: dict[str, object] = {
            "connection_quality": verdict.quality.value,
            "last_quality_update": int(time.time()),
        }
        if latency_ms is not None:
            fields["heartbeat_latency"] = latency_ms
        if missed_heartbeats is not None:
            fields["missed_heartbeats"] = missed_heartbeats
        self._metadata.put(session_id, **fields)
        return verdict

    def forget(self, session_id: str, client_id: str) -> None:
        """The connection is over."""
        self._trackers.pop((session_id, client_id), None)
