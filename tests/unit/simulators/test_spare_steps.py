"""Every row of the warm pool's table."""

from __future__ import annotations

import pytest

from session_service.database.warm_pool import Spare, SpareStatus
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.spare_steps import SpareAction, SpareStep, next_spare_step
from session_service.simulators.steps import START_LIMIT_S

PENDING = Workload("sim", "uid", WorkloadPhase.PENDING)
WITHOUT_IMAGE = Workload("sim", "uid", WorkloadPhase.PENDING, None, "ImagePullBackOff")
READY = Workload("sim", "uid", WorkloadPhase.READY, "127.0.0.1:1")
READY_WITHOUT_ENDPOINT = Workload("sim", "uid", WorkloadPhase.READY)
FAILED = Workload("sim", "uid", WorkloadPhase.FAILED, None, "exit code 1")
PARTIAL = Workload("sim", "uid", WorkloadPhase.PARTIAL)
ENDING = Workload("sim", "uid", WorkloadPhase.ENDING)
ANOTHER = Workload("sim", "another uid", WorkloadPhase.READY, "127.0.0.1:2")

KEEP = SpareStep(SpareAction.KEEP)
RECORD = SpareStep(SpareAction.RECORD)


def remove(reason: str) -> SpareStep:
    return SpareStep(SpareAction.REMOVE, reason)


def creating(uid: str | None = None, *, create_is_open: bool = False, age_s: float = 1.0) -> Spare:
    return Spare("sim", SpareStatus.CREATING, uid, create_is_open, age_s)


@pytest.mark.parametrize(
    ("workload", "step"),
    [
        (None, remove("gone")),
        (PARTIAL, remove("gone")),
        (ENDING, remove("gone")),
        (FAILED, remove("exit code 1")),
        (PENDING, RECORD),
        (READY_WITHOUT_ENDPOINT, RECORD),
        (READY, RECORD),
    ],
)
def test_one_that_is_on_its_way(workload: Workload | None, step: SpareStep) -> None:
    assert next_spare_step(creating(), workload) == step


@pytest.mark.parametrize("workload", [None, PARTIAL])
def test_what_a_create_may_still_make_is_waited_for(workload: Workload | None) -> None:
    assert next_spare_step(creating(create_is_open=True, age_s=2 * START_LIMIT_S), workload) == KEEP


@pytest.mark.parametrize("workload", [None, PARTIAL])
@pytest.mark.parametrize("status", SpareStatus)
def test_what_was_there_and_has_gone_is_not_waited_for(status: SpareStatus, workload: Workload | None) -> None:
    """Even if another create of it may still take effect: the teardown sees to that."""
    assert next_spare_step(Spare("sim", status, "uid", True, 1.0), workload) == remove("gone")


def test_one_that_is_recorded_is_waited_for_but_not_for_ever() -> None:
    assert next_spare_step(creating("uid"), PENDING) == KEEP
    assert next_spare_step(creating("uid"), READY) == RECORD
    late = creating("uid", age_s=START_LIMIT_S + 1)
    assert next_spare_step(late, PENDING) == remove("start_timeout")
    assert next_spare_step(late, WITHOUT_IMAGE) == remove("ImagePullBackOff")
    assert next_spare_step(late, READY) == RECORD


@pytest.mark.parametrize("status", SpareStatus)
def test_what_stands_in_its_place_is_not_it(status: SpareStatus) -> None:
    assert next_spare_step(Spare("sim", status, "uid", False, 1.0), ANOTHER) == remove("gone")


@pytest.mark.parametrize(
    ("workload", "step"),
    [
        (READY, KEEP),
        (None, remove("gone")),
        (PARTIAL, remove("gone")),
        (ENDING, remove("gone")),
        (FAILED, remove("exit code 1")),
        (PENDING, remove("not_ready")),
        (WITHOUT_IMAGE, remove("ImagePullBackOff")),
        (READY_WITHOUT_ENDPOINT, remove("not_ready")),
    ],
)
@pytest.mark.parametrize("age_s", [1.0, 100 * START_LIMIT_S])
def test_one_that_is_ready_is_so_or_goes(workload: Workload | None, step: SpareStep, age_s: float) -> None:
    assert next_spare_step(Spare("sim", SpareStatus.READY, "uid", False, age_s), workload) == step
