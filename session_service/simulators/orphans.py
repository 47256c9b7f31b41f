"""Workloads that nobody knows of: which they are, and whether they may be removed unasked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from session_service.database.orphans import KnownWorkload
from session_service.simulators.backend import Workload, WorkloadPhase

FEW = 10
SHARE = 0.2  # of all that the platform has of this database


class Finding(msgspec.Struct, frozen=True):
    """What a comparison says of the orphans: all of them are in one or the other.

    ``held``: so many that rows are more likely to be missing than workloads to be left over.
    """

    removable: tuple[Workload, ...] = ()
    held: tuple[Workload, ...] = ()


def compare(listed: Sequence[Workload], known: Iterable[KnownWorkload]) -> Finding:
    """``listed``: the platform's workloads of this database, as they were before ``known`` was read.

    That order makes ages needless: a row is written before its workload is created, so that one which was listed
    and is not known had a row that has gone. What is being removed already is nobody's orphan.
    """
    uids: dict[str, set[str | None]] = {}
    for one in known:
        uids.setdefault(one.simulator_id, set()).add(one.uid)
    orphans = tuple(
        workload
        for workload in listed
        if workload.phase is not WorkloadPhase.ENDING
        and uids.get(workload.simulator_id, set()).isdisjoint({None, workload.uid})
    )
    if len(orphans) > max(FEW, SHARE * len(listed)):
        return Finding(held=orphans)
    return Finding(removable=orphans)
