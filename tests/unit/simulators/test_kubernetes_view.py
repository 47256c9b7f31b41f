"""What lists and watches tell, in whatever order: only news is told on, and what vanished is told as gone."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from session_service.clients.kubernetes_types import Deployment, Pod
from session_service.clients.kubernetes_watch import Changed, Deleted, Listed
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.kubernetes_view import WorkloadView


def deployment(simulator_id: str = "a", uid: str = "1") -> Deployment:
    return msgspec.convert({"metadata": {"uid": uid, "labels": {"simulator_id": simulator_id}}}, Deployment)


def pod(simulator_id: str = "a", *, ready: bool = True, uid: str = "pod-1") -> Pod:
    return msgspec.convert(
        {
            "metadata": {"uid": uid, "labels": {"simulator_id": simulator_id}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
        },
        Pod,
    )


def phases(news: list[Workload]) -> list[tuple[str, WorkloadPhase, str | None]]:
    return [(workload.uid, workload.phase, workload.reason) for workload in news]


GONE = (WorkloadPhase.FAILED, "gone")


def test_readiness_is_told_once() -> None:
    view = WorkloadView("sims")
    assert phases(view.deployments_told(Listed((deployment(),)))) == [("1", WorkloadPhase.PENDING, None)]
    assert view.pods_told(Changed(pod(ready=False))) == []
    assert phases(view.pods_told(Changed(pod()))) == [("1", WorkloadPhase.READY, None)]
    assert view.pods_told(Changed(pod())) == []
    observed = view.observed("a")
    assert observed is not None
    assert observed.phase is WorkloadPhase.READY


def test_pods_may_be_told_before_their_deployment() -> None:
    view = WorkloadView("sims")
    assert view.pods_told(Listed((pod(),))) == []
    assert phases(view.deployments_told(Listed((deployment(),)))) == [("1", WorkloadPhase.READY, None)]


def test_what_vanished_between_two_lists_is_gone() -> None:
    view = WorkloadView("sims")
    view.deployments_told(Listed((deployment("a"), deployment("b", "2"))))
    assert phases(view.deployments_told(Listed((deployment("b", "2"),)))) == [("1", *GONE)]
    assert phases(view.deployments_told(Deleted(deployment("b", "2")))) == [("2", *GONE)]
    assert view.observed("b") is None


def test_what_was_replaced_between_two_lists_is_gone_before_its_successor_comes() -> None:
    view = WorkloadView("sims")
    view.deployments_told(Listed((deployment(uid="1"),)))
    told = view.deployments_told(Listed((deployment(uid="2"),)))
    assert phases(told) == [("1", *GONE), ("2", WorkloadPhase.PENDING, None)]


def test_the_end_of_a_predecessor_that_is_told_late_does_not_hide_the_successor() -> None:
    view = WorkloadView("sims")
    view.deployments_told(Changed(deployment(uid="2")))
    assert view.deployments_told(Deleted(deployment(uid="1"))) == []
    assert view.observed("a") is not None


def test_a_pod_that_went_takes_readiness_with_it() -> None:
    view = WorkloadView("sims")
    view.deployments_told(Listed((deployment(),)))
    view.pods_told(Listed((pod(),)))
    assert phases(view.pods_told(Deleted(pod()))) == [("1", WorkloadPhase.PENDING, None)]
    view.pods_told(Changed(pod()))
    assert phases(view.pods_told(Listed(()))) == [("1", WorkloadPhase.PENDING, None)]


steps = st.one_of(
    st.tuples(st.just("deployment"), st.sampled_from("ab"), st.sampled_from("12")),
    st.tuples(st.just("no deployment"), st.sampled_from("ab"), st.just("")),
    st.tuples(st.just("ready"), st.sampled_from("ab"), st.just("")),
    st.tuples(st.just("not ready"), st.sampled_from("ab"), st.just("")),
    st.tuples(st.just("no pod"), st.sampled_from("ab"), st.just("")),
)


@given(st.lists(st.tuples(steps, st.booleans(), st.booleans()), max_size=30))
def test_a_watch_with_gaps_and_lists_between_ends_as_one_without(
    history: list[tuple[tuple[str, str, str], bool, bool]],
) -> None:
    """Some changes are missed and made up for by lists: what is known, and what was told last, is the same."""
    deployments: dict[str, Deployment] = {}
    pods: dict[str, Pod] = {}
    view = WorkloadView("sims")
    told: dict[str, Workload] = {}

    def tell(news: list[Workload]) -> None:
        for workload in news:
            if workload.reason == "gone":
                assert told.pop(workload.simulator_id).uid == workload.uid
            else:
                told[workload.simulator_id] = workload

    for (what, simulator_id, uid), missed, lists in history:
        match what:
            case "deployment":
                before = deployments.get(simulator_id)
                if before is not None and before.metadata.uid != uid and not missed:
                    tell(view.deployments_told(Deleted(before)))
                deployments[simulator_id] = deployment(simulator_id, uid)
                if not missed:
                    tell(view.deployments_told(Changed(deployments[simulator_id])))
            case "no deployment":
                gone = deployments.pop(simulator_id, None)
                if gone is not None and not missed:
                    tell(view.deployments_told(Deleted(gone)))
            case "ready" | "not ready":
                pods[simulator_id] = pod(simulator_id, ready=what == "ready")
                if not missed:
                    tell(view.pods_told(Changed(pods[simulator_id])))
            case "no pod":
                ended = pods.pop(simulator_id, None)
                if ended is not None and not missed:
                    tell(view.pods_told(Deleted(ended)))
        if lists:
            tell(view.deployments_told(Listed(tuple(deployments.values()))))
            tell(view.pods_told(Listed(tuple(pods.values()))))
    tell(view.pods_told(Listed(tuple(pods.values()))))
    tell(view.deployments_told(Listed(tuple(deployments.values()))))
    expected = WorkloadView("sims")
    expected.pods_told(Listed(tuple(pods.values())))
    fresh = {one.simulator_id: one for one in expected.deployments_told(Listed(tuple(deployments.values())))}
    assert told == fresh
    assert {simulator_id: view.observed(simulator_id) for simulator_id in fresh} == fresh
