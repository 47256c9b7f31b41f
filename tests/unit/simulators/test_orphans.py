"""Which workloads nobody knows of, and how many may go without a word."""

from __future__ import annotations

import pytest

from session_service.database.orphans import KnownWorkload
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.orphans import FEW, Finding, compare


def workloads(count: int, phase: WorkloadPhase = WorkloadPhase.READY) -> tuple[Workload, ...]:
    return tuple(Workload(f"sim-{number}", f"uid-{number}", phase) for number in range(count))


@pytest.mark.parametrize("phase", [WorkloadPhase.PENDING, WorkloadPhase.READY, WorkloadPhase.FAILED])
def test_what_has_neither_row_nor_teardown_is_removed_in_whatever_phase(phase: WorkloadPhase) -> None:
    listed = workloads(3, phase)
    known = [KnownWorkload("sim-0", None), KnownWorkload("sim-2", "uid-2"), KnownWorkload("sim-elsewhere", None)]
    assert compare(listed, known) == Finding(removable=(listed[1],))


def test_nothing_known_and_nothing_listed_is_nothing_to_do() -> None:
    assert compare([], [KnownWorkload("sim-0", None)]) == Finding()


def test_what_is_being_removed_already_is_left_to_that() -> None:
    assert compare(workloads(3, WorkloadPhase.ENDING), []) == Finding()


def test_a_teardown_of_one_workload_is_none_of_another_under_the_same_id() -> None:
    listed = [Workload("sim-0", "uid-new", WorkloadPhase.READY)]
    assert compare(listed, [KnownWorkload("sim-0", "uid-old")]) == Finding(removable=tuple(listed))
    # Of two that know it, one is enough.
    assert compare(listed, [KnownWorkload("sim-0", "uid-old"), KnownWorkload("sim-0", "uid-new")]) == Finding()
    assert compare(listed, [KnownWorkload("sim-0", "uid-old"), KnownWorkload("sim-0", None)]) == Finding()


@pytest.mark.parametrize(
    ("listed", "orphans", "held"),
    [
        (FEW, FEW, False),  # few are removed even where they are all there is
        (FEW + 1, FEW + 1, True),
        (50, 10, False),
        (50, 11, True),
        (100, 20, False),
        (100, 21, True),
    ],
)
def test_more_than_ten_and_more_than_a_fifth_are_held_all_of_them(listed: int, orphans: int, held: bool) -> None:
    there = workloads(listed)
    known = [KnownWorkload(workload.simulator_id, None) for workload in there[orphans:]]
    found = there[:orphans]
    assert compare(there, known) == (Finding(held=found) if held else Finding(removable=found))
