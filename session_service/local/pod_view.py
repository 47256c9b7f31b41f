"""The pods of a local run as a person sees them: process, readiness, and how much each has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from session_service.local.pod import Pod, PodStatus
from session_service.local.pod_loads import PodLoad, PodLoads


class PodRow(msgspec.Struct, frozen=True):
    """``pid`` is None while there is no process, the counts while PostgreSQL is away."""

    name: str
    url: str
    pid: int | None
    status: PodStatus
    sessions: int | None
    sockets: int | None
    simulators: int | None


class PodTable(msgspec.Struct, frozen=True):
    """Every pod, in port order."""

    pods: list[PodRow]


async def look_at_pods(pods: Sequence[Pod], loads: PodLoads) -> PodTable:
    """How they are now. Those that start are asked whether they are ready; counts may be a second old."""
    statuses = await asyncio.gather(*(pod.look() for pod in pods))
    counted = await loads.read()
    return PodTable([_row(pod, status, counted) for pod, status in zip(pods, statuses, strict=True)])


def _row(pod: Pod, status: PodStatus, counted: Mapping[str, PodLoad] | None) -> PodRow:
    load = None if counted is None else counted.get(pod.name, PodLoad())
    return PodRow(
        name=pod.name,
        url=pod.url,
        pid=None if status is PodStatus.STOPPED else pod.pid,
        status=status,
        sessions=None if load is None else load.sessions,
        sockets=None if load is None else load.sockets,
        simulators=None if load is None else load.simulators,
    )
