"""Informative metadata, written once a round: the last value of each field wins."""

from __future__ import annotations

from typing import Any

from session_service.database.sessions import SessionRepository
from session_service.errors import DatabaseUnavailableError

_BATCH = 500


class MetadataLog:
    """Collects fields per session. Bounded by the number of sessions, since fields overwrite."""

    def __init__(self, repository: SessionRepository) -> None:
        self._repository = repository
        self._fields: dict[str, dict[str, Any]] = {}

    def put(self, session_id: str, **fields: Any) -> None:
        self._fields.setdefault(session_id, {}).update(fields)

    def forget(self, session_id: str) -> None:
        self._fields.pop(session_id, None)

    async def flush(self) -> None:
        """Write a batch per statement; what cannot be written is kept, under newer values."""
        while self._fields:
            keys = list(self._fields)[:_BATCH]
            batch = {key: self._fields.pop(key) for key in keys}
            try:
                await self._repository.merge_metadata(batch)
            except DatabaseUnavailableError:
                for key, fields in batch.items():
                    self._fields[key] = fields | self._fields.get(key, {})
                return
