"""What a Deployment and its Pods say of a simulator (docs/simulators-on-kubernetes.md#what-becomes-of-a-start). Pure.

Reasons are Kubernetes' own words: an operator finds them in ``kubectl describe``.
"""

from __future__ import annotations

from collections.abc import Iterable

from session_service.clients.kubernetes_types import Condition, ContainerStatus, Deployment, Pod
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.kubernetes_objects import CONTAINER, endpoint, simulator_id_of

# The kubelet tries these again for ever, and cannot succeed while the image and its name are the same.
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff"})
_ON_ITS_WAY = frozenset({"ContainerCreating", "PodInitializing", ""})
_OUT_OF_MEMORY = "OOMKilled"


def workload_of(deployment: Deployment, pods: Iterable[Pod], *, namespace: str, has_service: bool = True) -> Workload:
    """``pods``: those of this Deployment, in any order."""
    simulator_id = simulator_id_of(deployment)
    phase, reason = _phase(deployment, pods, has_service=has_service)
    return Workload(
        simulator_id,
        deployment.metadata.uid,
        phase,
        endpoint(simulator_id, namespace) if phase is WorkloadPhase.READY else None,
        reason,
        session_id=deployment.labels.get("session_id", ""),
    )


def _phase(deployment: Deployment, pods: Iterable[Pod], *, has_service: bool) -> tuple[WorkloadPhase, str | None]:
    if deployment.is_ending:
        return WorkloadPhase.ENDING, None
    if not has_service:
        return WorkloadPhase.PARTIAL, None
    standing = [pod for pod in pods if not pod.is_ending]
    if not standing:
        # No Pod could be made: a quota is used up, or an admission policy refuses it.
        failure = _condition(deployment.status.conditions if deployment.status else None, "ReplicaFailure")
        refused = failure is not None and failure.status == "True"
        return WorkloadPhase.PENDING, (failure.reason or "FailedCreate") if failure and refused else None
    return _phase_of_pod(max(standing, key=_newness))


def _newness(pod: Pod) -> tuple[bool, str, str]:
    """One that was evicted stays beside the one that took its place, made perhaps within the same second."""
    return not _is_over(pod), pod.metadata.creation_timestamp or "", pod.metadata.uid


def _is_over(pod: Pod) -> bool:
    return pod.status is not None and pod.status.phase in {"Failed", "Succeeded"}


def _phase_of_pod(pod: Pod) -> tuple[WorkloadPhase, str | None]:
    status = pod.status
    if status is None:
        return WorkloadPhase.PENDING, None
    container = next((one for one in status.container_statuses or () if one.name == CONTAINER), None)
    waiting = _waiting_for(container)
    if _ran_out_of_memory(container):  # and would again
        return WorkloadPhase.FAILED, _OUT_OF_MEMORY
    if waiting in _HOPELESS:
        return WorkloadPhase.FAILED, waiting
    if _is_over(pod):  # evicted, or its node went: the Deployment makes another one
        return WorkloadPhase.PENDING, status.reason or status.phase
    ready = _condition(status.conditions, "Ready")
    if ready is not None and ready.status == "True":
        return WorkloadPhase.READY, None
    if waiting not in _ON_ITS_WAY:
        return WorkloadPhase.PENDING, waiting
    scheduled = _condition(status.conditions, "PodScheduled")
    if scheduled is not None and scheduled.status == "False":
        return WorkloadPhase.PENDING, scheduled.reason or "Unschedulable"
    return WorkloadPhase.PENDING, None


def _waiting_for(container: ContainerStatus | None) -> str:
    if container is None or container.state is None or container.state.waiting is None:
        return ""
    return container.state.waiting.reason


def _ran_out_of_memory(container: ContainerStatus | None) -> bool:
    if container is None:
        return False
    ends = [state.terminated for state in (container.state, container.last_state) if state is not None]
    return any(end is not None and end.reason == _OUT_OF_MEMORY for end in ends)


def _condition(conditions: tuple[Condition, ...] | None, kind: str) -> Condition | None:
    return next((condition for condition in conditions or () if condition.type == kind), None)
