"""What lists and watches have told of one database's Deployments and Pods, and what of it is news. Pure."""

from __future__ import annotations

from session_service.clients.kubernetes_types import Deployment, Pod
from session_service.clients.kubernetes_watch import Changed, Deleted, Listed
from session_service.simulators.backend import Workload, WorkloadPhase
from session_service.simulators.kubernetes_objects import simulator_id_of
from session_service.simulators.kubernetes_phases import workload_of

GONE = "gone"


class WorkloadView:
    """The workloads as they were when something was last heard. Each ``…told`` returns those that changed by it.

    Whether a simulator's Service is there is not looked at: it goes only when somebody removes it by hand.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._deployments: dict[str, Deployment] = {}  # by simulator id
        self._pods: dict[str, dict[str, Pod]] = {}  # by simulator id and the Pod's uid
        self._workloads: dict[str, Workload] = {}

    def observed(self, simulator_id: str) -> Workload | None:
        return self._workloads.get(simulator_id)

    def deployments_told(
        self, notice: Listed[Deployment] | Changed[Deployment] | Deleted[Deployment]
    ) -> list[Workload]:
        match notice:
            case Listed(items):
                listed = {simulator_id_of(item): item for item in items}
                touched = {*self._deployments, *listed}
                self._deployments = listed
            case Changed(item):
                touched = {simulator_id_of(item)}
                self._deployments[simulator_id_of(item)] = item
            case Deleted(item):
                touched = {simulator_id_of(item)}
                standing = self._deployments.get(simulator_id_of(item))
                if standing is not None and standing.metadata.uid == item.metadata.uid:
                    del self._deployments[simulator_id_of(item)]
        return [news for simulator_id in sorted(touched) for news in self._news(simulator_id)]

    def pods_told(self, notice: Listed[Pod] | Changed[Pod] | Deleted[Pod]) -> list[Workload]:
        match notice:
            case Listed(items):
                touched = set(self._pods)
                self._pods = {}
                for item in items:
                    self._pods.setdefault(simulator_id_of(item), {})[item.metadata.uid] = item
                touched |= self._pods.keys()
            case Changed(item):
                touched = {simulator_id_of(item)}
                self._pods.setdefault(simulator_id_of(item), {})[item.metadata.uid] = item
            case Deleted(item):
                touched = {simulator_id_of(item)}
                pods = self._pods.get(simulator_id_of(item), {})
                pods.pop(item.metadata.uid, None)
                if not pods:
                    self._pods.pop(simulator_id_of(item), None)
        return [news for simulator_id in sorted(touched) for news in self._news(simulator_id)]

    def _news(self, simulator_id: str) -> list[Workload]:
        before = self._workloads.get(simulator_id)
        deployment = self._deployments.get(simulator_id)
        now = None
        if deployment is not None:
            pods = self._pods.get(simulator_id, {}).values()
            now = workload_of(deployment, pods, namespace=self._namespace)
        if now == before:
            return []
        if now is None:
            del self._workloads[simulator_id]
        else:
            self._workloads[simulator_id] = now
        news = [] if now is None else [now]
        if before is not None and (now is None or now.uid != before.uid):
            news.insert(0, Workload(simulator_id, before.uid, WorkloadPhase.FAILED, None, GONE, before.session_id))
        return news
