"""What the runner and its clients share."""

from __future__ import annotations

import msgspec

from session_service.simulators.backend import Workload

TOKEN_VARIABLE = "SIMULATOR_RUNNER_TOKEN"  # noqa: S105 - a variable's name


class Assignment(msgspec.Struct, frozen=True):
    """Whose a spare is from now on."""

    session_id: str


class WorkloadList(msgspec.Struct, frozen=True):
    """The whole set of workloads. ``version`` is another one after every change, compared for equality."""

    version: int
    workloads: list[Workload]
