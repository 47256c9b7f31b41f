"""MetadataLog: the last value of a field wins, an outage loses none, an ended session is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from session_service.database.sessions import SessionRepository
from session_service.errors import DatabaseUnavailableError
from session_service.sessions.metadata_log import MetadataLog


class FailingSessions(SessionRepository):
    """Keeps what was written; ``away`` while PostgreSQL does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[dict[str, dict[str, Any]]] = []

    async def merge_metadata(self, fields: Mapping[str, Mapping[str, Any]]) -> None:
        if self.away:
            raise DatabaseUnavailableError
        self.written.append({key: dict(value) for key, value in fields.items()})


@pytest.fixture
def sessions() -> FailingSessions:
    return FailingSessions()


@pytest.fixture
def metadata(sessions: FailingSessions) -> MetadataLog:
    return MetadataLog(sessions)


async def test_a_round_is_one_statement_with_the_last_values(
    metadata: MetadataLog, sessions: FailingSessions
) -> None:
    metadata.put("a", connection_quality="GOOD", missed_heartbeats=0)
    metadata.put("b", heartbeat_latency=5)
    metadata.put("a", connection_quality="POOR")
    await metadata.flush()
    await metadata.flush()
    assert sessions.written == [
        {"a": {"connection_quality": "POOR", "missed_heartbeats": 0}, "b": {"heartbeat_latency": 5}}
    ]


async def test_an_outage_keeps_fields_under_newer_values(metadata: MetadataLog, sessions: FailingSessions) -> None:
    sessions.away = True
    metadata.put("a", connection_quality="POOR", missed_heartbeats=3)
    await metadata.flush()
    metadata.put("a", connection_quality="GOOD")
    await metadata.flush()
    sessions.away = False
    await metadata.flush()
    assert sessions.written == [{"a": {"connection_quality": "GOOD", "missed_heartbeats": 3}}]


async def test_more_than_a_batch_goes_in_several_statements(metadata: MetadataLog, sessions: FailingSessions) -> None:
    for number in range(1200):
        metadata.put(str(number), field=number)
    await metadata.flush()
    assert [len(batch) for batch in sessions.written] == [500, 500, 200]


async def test_a_session_that_is_over_is_forgotten(metadata: MetadataLog, sessions: FailingSessions) -> None:
    metadata.put("a", field=1)
    metadata.forget("a")
    await metadata.flush()
    assert sessions.written == []
