"""What a Deployment and its Pods say of a simulator: every row of docs/simulators-on-kubernetes.md."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from session_service.clients.kubernetes_types import Deployment, Pod
from session_service.simulators.backend import WorkloadPhase
from session_service.simulators.kubernetes_phases import workload_of

PENDING, READY, FAILED = WorkloadPhase.PENDING, WorkloadPhase.READY, WorkloadPhase.FAILED


def deployment(*, ending: bool = False, conditions: list[dict[str, str]] | None = None) -> Deployment:
    metadata: dict[str, Any] = {"uid": "uid", "labels": {"simulator_id": "sim", "session_id": "session"}}
    if ending:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return msgspec.convert({"metadata": metadata, "status": {"conditions": conditions}}, Deployment)


def pod(
    *,
    waiting: str | None = None,
    ended: str | None = None,
    ended_before: str | None = None,
    ready: bool = False,
    scheduled: bool = True,
    phase: str = "Pending",
    reason: str = "",
    ending: bool = False,
    created: str = "2026-01-01T00:00:00Z",
) -> Pod:
    def terminated(why: str | None) -> dict[str, Any]:
        return {} if why is None else {"terminated": {"reason": why, "exitCode": 1}}

    state: dict[str, Any] = terminated(ended) if waiting is None else {"waiting": {"reason": waiting}}
    return msgspec.convert(
        {
            "metadata": {
                "uid": f"pod-{created}",
                "creationTimestamp": created,
                "deletionTimestamp": "2026-01-01T00:00:00Z" if ending else None,
            },
            "status": {
                "phase": phase,
                "reason": reason,
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": str(scheduled),
                        "reason": "" if scheduled else "Unschedulable",
                    },
                    {"type": "Ready", "status": str(ready)},
                ],
                "containerStatuses": [
                    {"name": "a-sidecar", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                    {"name": "simulator", "state": state, "lastState": terminated(ended_before)},
                ],
            },
        },
        Pod,
    )


@pytest.mark.parametrize(
    ("pods", "phase", "reason"),
    [
        ([], PENDING, None),
        ([pod(scheduled=False)], PENDING, "Unschedulable"),
        ([pod(waiting="ContainerCreating")], PENDING, None),
        ([pod(waiting="ErrImagePull")], PENDING, "ErrImagePull"),
        ([pod(waiting="ImagePullBackOff")], PENDING, "ImagePullBackOff"),
        ([pod(waiting="CreateContainerConfigError")], PENDING, "CreateContainerConfigError"),
        ([pod(waiting="InvalidImageName")], FAILED, "InvalidImageName"),
        ([pod(waiting="ErrImageNeverPull")], FAILED, "ErrImageNeverPull"),
        ([pod(waiting="CrashLoopBackOff", ended_before="Error", phase="Running")], FAILED, "CrashLoopBackOff"),
        ([pod(ended="OOMKilled", phase="Running")], FAILED, "OOMKilled"),
        ([pod(waiting="CrashLoopBackOff", ended_before="OOMKilled", phase="Running")], FAILED, "OOMKilled"),
        ([pod(ended_before="OOMKilled", phase="Running", ready=True)], FAILED, "OOMKilled"),
        ([pod(phase="Running")], PENDING, None),
        ([pod(phase="Running", ready=True)], READY, None),
        # It came back once, and empty: its own answer to a call says so.
        ([pod(ended_before="Error", phase="Running", ready=True)], READY, None),
        ([pod(phase="Failed", reason="Evicted")], PENDING, "Evicted"),
        ([pod(phase="Running", ready=True, ending=True)], PENDING, None),
        ([pod(phase="Failed", reason="Evicted"), pod(waiting="ContainerCreating")], PENDING, None),
        ([pod(waiting="ContainerCreating"), pod(phase="Failed", reason="Evicted")], PENDING, None),
        (
            [
                pod(phase="Running", ready=True, created="2026-01-01T00:00:09Z"),
                pod(phase="Failed", reason="Evicted", created="2026-01-01T00:00:01Z"),
            ],
            READY,
            None,
        ),
    ],
)
def test_what_its_pods_say(pods: list[Pod], phase: WorkloadPhase, reason: str | None) -> None:
    workload = workload_of(deployment(), pods, namespace="sims")
    assert (workload.phase, workload.reason) == (phase, reason)
    assert (workload.endpoint is not None) == (phase is READY)


def test_what_it_is() -> None:
    workload = workload_of(deployment(), [pod(phase="Running", ready=True)], namespace="sims")
    assert (workload.simulator_id, workload.session_id, workload.uid) == ("sim", "session", "uid")
    assert workload.endpoint == "simulator-sim.sims.svc.cluster.local:50055"


def test_a_pod_that_cannot_be_made_is_a_reason() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    workload = workload_of(deployment(conditions=[failure]), [], namespace="sims")
    assert (workload.phase, workload.reason) == (PENDING, "FailedCreate")
    over = {"type": "ReplicaFailure", "status": "False", "reason": "FailedCreate"}
    assert workload_of(deployment(conditions=[over]), [], namespace="sims").reason is None


def test_a_deployment_without_its_service_is_partial_whatever_its_pod_does() -> None:
    workload = workload_of(deployment(), [pod(phase="Running", ready=True)], namespace="sims", has_service=False)
    assert (workload.phase, workload.endpoint) == (WorkloadPhase.PARTIAL, None)


def test_nothing_is_built_on_what_is_being_removed() -> None:
    ready = [pod(phase="Running", ready=True)]
    for has_service in (True, False):
        workload = workload_of(deployment(ending=True), ready, namespace="sims", has_service=has_service)
        assert (workload.phase, workload.endpoint) == (WorkloadPhase.ENDING, None)
