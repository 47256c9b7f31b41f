"""The warm pool's rules: what a spare's row and its workload, as seen now, ask for next. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from session_service.database.warm_pool import Spare, SpareStatus
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.steps import START_LIMIT_S


class SpareAction(StrEnum):
    KEEP = "keep"  # it is as its row says, or on its way there
    RECORD = "record"  # it is further than its row says
    REMOVE = "remove"  # nobody may take it: it is made up for by another one


class SpareStep(msgspec.Struct, frozen=True):
    action: SpareAction
    reason: str | None = None


_KEEP = SpareStep(SpareAction.KEEP)


def next_spare_step(spare: Spare, workload: Workload | None) -> SpareStep:
    """A spare is never mended: nobody waits for this one, and a new one is as good.

    ``workload``: by its platform's own present word.
    """
    if workload is None or workload.phase is WorkloadPhase.PARTIAL:
        is_to_come = spare.workload_uid is None and spare.create_is_open
        return _KEEP if is_to_come else SpareStep(SpareAction.REMOVE, "gone")
    if spare.workload_uid not in {None, workload.uid}:
        return SpareStep(SpareAction.REMOVE, "gone")
    if workload.phase in {WorkloadPhase.FAILED, WorkloadPhase.ENDING}:
        return SpareStep(SpareAction.REMOVE, workload.reason or "gone")
    is_ready = workload.phase is WorkloadPhase.READY and workload.endpoint is not None
    if spare.status is SpareStatus.READY:
        return _KEEP if is_ready else SpareStep(SpareAction.REMOVE, workload.reason or "not_ready")
    if is_ready:
        return SpareStep(SpareAction.RECORD)
    if spare.age_s > START_LIMIT_S:
        return SpareStep(SpareAction.REMOVE, workload.reason or "start_timeout")
    return _KEEP if spare.workload_uid else SpareStep(SpareAction.RECORD)
