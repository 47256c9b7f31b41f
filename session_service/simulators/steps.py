"""The reconciler's rules: what a simulator's row and its workload, as seen now, ask for next. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from session_service.domain.simulator import Simulator, SimulatorStatus
from session_service.simulators.backend import Workload, WorkloadPhase

SPARE_LIMIT_S = 5.0  # from the first look at one that took a spare: two calls may go unanswered
START_LIMIT_S = 120.0  # that a new simulator is being brought up, its time in the start queue left out
UNRESPONSIVE_LIMIT_S = 30.0  # a frozen process may thaw, and with it comes the portfolio: patience before ERROR


class Action(StrEnum):
    """One external step, recorded before the next."""

    REST = "rest"  # nothing to do: the row is at its end
    WAIT = "wait"  # look again later
    CREATE_WORKLOAD = "create_workload"
    RECORD_WORKLOAD = "record_workload"  # it is there; the row does not say so yet
    REPLACE_SPARE = "replace_spare"  # what it took is not ready any more: it gets a workload of its own
    START_EXCHANGE = "start_exchange"  # StartSimulator
    HEARTBEAT = "heartbeat"
    REMOVE_WORKLOAD = "remove_workload"  # StopSimulator, then the workload
    FAIL = "fail"


class Step(msgspec.Struct, frozen=True):
    action: Action
    reason: str | None = None


def next_step(simulator: Simulator, workload: Workload | None, *, predecessor_remains: bool, waited_s: float) -> Step:
    """What to do about ``simulator``. ``waited_s``: how long this pod has been trying to start it,
    its time in the start queue left out.
    """
    match simulator.status:
        case SimulatorStatus.STOPPED | SimulatorStatus.ERROR | SimulatorStatus.NONE:
            return Step(Action.REST)
        case SimulatorStatus.STOPPING:
            return Step(Action.REMOVE_WORKLOAD)
        case SimulatorStatus.RUNNING:
            return Step(Action.HEARTBEAT)
    if simulator.status is SimulatorStatus.STARTING and simulator.was_spare and waited_s <= START_LIMIT_S:
        # Nobody has used it yet: what became of it is no reason to fail.
        is_ready = workload is not None and workload.phase is WorkloadPhase.READY and bool(workload.endpoint)
        if workload is None or not is_ready or _is_lost(simulator, workload) or waited_s > SPARE_LIMIT_S:
            return Step(Action.REPLACE_SPARE)
    if workload is not None and workload.phase is WorkloadPhase.FAILED:
        return Step(Action.FAIL, workload.reason or "workload_failed")
    if waited_s > START_LIMIT_S:
        return Step(Action.FAIL, (workload.reason if workload else None) or "start_timeout")
    if simulator.status is SimulatorStatus.CREATING:
        if workload is not None and workload.phase is not WorkloadPhase.PARTIAL:
            ending = workload.phase is WorkloadPhase.ENDING  # another is created when it is gone
            return Step(Action.WAIT, "ending") if ending else Step(Action.RECORD_WORKLOAD)
        return Step(Action.WAIT, "predecessor") if predecessor_remains else Step(Action.CREATE_WORKLOAD)
    if workload is None or _is_lost(simulator, workload):
        return Step(Action.FAIL, "workload_gone")
    if workload.phase is WorkloadPhase.READY and workload.endpoint:
        return Step(Action.START_EXCHANGE)
    return Step(Action.WAIT, workload.reason)


def after_failed_step(waited_s: float) -> Step:
    """What a start asks for whose platform did not do the last step, or could not be asked."""
    return Step(Action.FAIL if waited_s > START_LIMIT_S else Action.WAIT, "platform_unavailable")


def after_failed_heartbeat(simulator: Simulator, workload: Workload | None, silent_s: float) -> Step:
    """What a RUNNING simulator that does not answer asks for. ``silent_s``: since its first unanswered call."""
    if workload is None or _is_lost(simulator, workload):
        return Step(Action.FAIL, "workload_gone")
    if workload.phase is WorkloadPhase.FAILED:
        return Step(Action.FAIL, workload.reason or "workload_failed")
    if silent_s > UNRESPONSIVE_LIMIT_S:
        return Step(Action.FAIL, "unresponsive")
    return Step(Action.WAIT, "unresponsive")


def _is_lost(simulator: Simulator, workload: Workload) -> bool:
    """Whether what stands under the simulator's id is not whole, or not, or soon no more, what was recorded."""
    incomplete = workload.phase in {WorkloadPhase.ENDING, WorkloadPhase.PARTIAL}
    return incomplete or simulator.workload_uid not in {None, workload.uid}
