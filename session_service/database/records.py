"""Rows to domain objects, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from session_service.domain.session import Session, SessionStatus
from session_service.domain.simulator import DEFAULT_SYMBOLS, Simulator, SimulatorStatus, SimulatorTarget


def session_of(record: asyncpg.Record) -> Session:
    return Session(
        session_id=record["session_id"],
        user_id=record["user_id"],
        status=SessionStatus(record["status"]),
        created_at=record["created_at"],
        last_active=record["last_active"],
        expires_at=record["expires_at"],
        device_id=record["device_id"],
        metadata=record["metadata"],
    )


def simulator_of(record: asyncpg.Record) -> Simulator:
    return Simulator(
        simulator_id=record["simulator_id"],
        session_id=record["session_id"],
        user_id=record["user_id"],
        status=SimulatorStatus(record["status"]),
        target=SimulatorTarget(record["target"]),
        endpoint=record["endpoint"],
        created_at=record["created_at"],
        last_active=record["last_active"],
        initial_symbols=tuple(record["initial_symbols"] or DEFAULT_SYMBOLS),
        initial_cash=record["initial_cash"],
        reason=record["reason"],
        workload_uid=record["workload_uid"],
        changed_in=record["changed_in"],
        was_spare=record["was_spare"],
    )


def in_places(records: Sequence[asyncpg.Record], count: int) -> list[asyncpg.Record | None]:
    """The rows of a statement for ``count`` items, each at its item's index; None where an item has no row.

    ``place`` of a row counts from 1, as WITH ORDINALITY does.
    """
    found: list[asyncpg.Record | None] = [None] * count
    for record in records:
        found[record["place"] - 1] = record
    return found
