"""A cluster in the test's process: an API server, the controllers behind it, and what runs in its Pods."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.support.fake_kubernetes.api_server import ApiServer
from tests.support.fake_kubernetes.kubelet import Containers
from tests.support.fake_kubernetes.network import ServiceNetwork
from tests.support.fake_kubernetes.object_store import FOREGROUND, Key, Manifest, ObjectStore
from tests.support.fake_kubernetes.roles import Role, shipped_role
from tests.support.fake_kubernetes.validation import violations_of_restricted

NAMESPACE = "session-simulators"
TOKEN = "a-service-accounts-token"
DNS = f".{NAMESPACE}.svc.cluster.local"


class Fate(StrEnum):
    """What becomes of a Deployment's Pod. Kubernetes' own words for it are what the service reads."""

    READY = "Ready"
    IMAGE = "ImagePullBackOff"
    NO_NODE = "Unschedulable"
    MEMORY = "OOMKilled"
    CRASH = "CrashLoopBackOff"
    CONFIG = "CreateContainerConfigError"
    QUOTA = "FailedCreate"
    NEVER = "Pending"  # nothing at all comes of it


class Cluster:
    """Controllers over a store. ``fate``: of Pods that are made from now on; ``fates``: of single users' simulators.

    Pods belong to their Deployments directly: nobody looks at ReplicaSets.
    """

    def __init__(
        self,
        api: ApiServer,
        *,
        pod_delay_s: float,
        grace_s: float,
        containers: Containers | None,
        network: ServiceNetwork | None,
    ) -> None:
        self.api = api
        self.store = api.store
        self.fate = Fate.READY
        self.fates: dict[str, Fate] = {}
        self.collecting = True  # False: the garbage collector stands still, and nothing that is ending ends
        self._pod_delay_s = pod_delay_s
        self._grace_s = grace_s
        self._containers = containers
        self._network = network
        self._addresses = itertools.count(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by the Deployment's, Service's or Pod's uid

    def deployments(self) -> dict[str, Manifest]:
        return {key.name: found for key, found in self.store.select("deployments", NAMESPACE)}

    def services(self) -> dict[str, Manifest]:
        return {key.name: found for key, found in self.store.select("services", NAMESPACE)}

    def pods(self) -> dict[str, Manifest]:
        return {key.name: found for key, found in self.store.select("pods", NAMESPACE)}

    def is_empty(self) -> bool:
        return not (self.deployments() or self.services() or self.pods())

    def resolve(self, target: str) -> str:
        """Where ``host:port`` leads: to the process behind that Service, as the cluster's DNS and proxies would."""
        host, _, _ = target.rpartition(":")
        service = self.store.get(Key("services", NAMESPACE, host.removesuffix(DNS)))
        if not host.endswith(DNS) or service is None:
            return target
        for pod in self.pods().values():
            labels = pod["metadata"]["labels"]
            selected = all(labels.get(name) == value for name, value in service["spec"]["selector"].items())
            if selected and self._containers is not None:
                address = self._containers.address(pod["metadata"]["uid"])
                if address is not None:
                    return address
        return "127.0.0.1:1"  # nobody listens

    def kubeconfig(self, path: Path, *, token: str = TOKEN) -> Path:
        """Write the file by which this cluster is found."""
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": {"server": self.api.url}}],
                    "users": [{"name": "test", "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                }
            ),
            encoding="utf-8",
        )
        return path

    async def evict(self, deployment: str) -> None:
        """The Pod's node takes it back: it is Failed, and the Deployment makes another one."""
        for key, pod in self.store.select("pods", NAMESPACE):
            if pod["metadata"]["labels"]["simulator_id"] == deployment.removeprefix("simulator-"):
                pod["status"] = {"phase": "Failed", "reason": "Evicted"}
                self.store.update(key, pod)
                await self._kill(pod["metadata"]["uid"])

    async def run(self) -> None:
        """What the controllers do, whenever something was written."""
        seen = 0
        try:
            while True:
                seen = self.store.version
                self._collect()
                if self._network is not None:
                    self._network.resolve_only(key.name for key, _ in self.store.peek("services", NAMESPACE))
                self._replicate()
                await self.store.wait_for_change(seen, 0.05)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, uid: str, work: Any) -> None:
        if uid in self._tasks and not self._tasks[uid].done():
            work.close()
            return
        if uid in self._tasks:
            self._tasks[uid].result()
        self._tasks[uid] = asyncio.create_task(work)

    def _replicate(self) -> None:
        """The controllers of Deployments and ReplicaSets: each has a Pod that is not over, or gets one."""
        served = {
            owner["uid"]
            for _, found in self.store.peek("pods", NAMESPACE)
            if found.get("status", {}).get("phase") not in {"Failed", "Succeeded"}
            for owner in found["metadata"]["ownerReferences"]
        }
        for key, found in self.store.peek("deployments", NAMESPACE):
            uid = found["metadata"]["uid"]
            if "deletionTimestamp" not in found["metadata"] and uid not in served:
                self._begin(uid, self._place(key, found))

    def _collect(self) -> None:
        """The garbage collector: dependents before what waits for them, and what has lost its owner."""
        if not self.collecting:
            return
        owned = self.store.owned()
        for key, found in self.store.peek("deployments", NAMESPACE):
            if FOREGROUND not in found["metadata"].get("finalizers", ()):
                continue
            dependents = [item for item in owned if found["metadata"]["uid"] in _owners(item[1])]
            if not dependents:
                self.store.remove(key)
            for dependent, manifest in dependents:
                self._end(dependent, manifest)
        there = self.store.uids()
        for key, found in self.store.owned():
            if not _owners(found) & there:
                self._end(key, found)

    def _end(self, key: Key, found: Manifest) -> None:
        if key.plural == "services":
            self.store.remove(key)
        elif "deletionTimestamp" not in found["metadata"]:
            self.store.mark_ending(key)
            self._begin(found["metadata"]["uid"], self._terminate(key, found["metadata"]["uid"]))

    async def _terminate(self, key: Key, uid: str) -> None:
        await asyncio.sleep(self._grace_s)
        await self._kill(uid)
        self.store.remove(key)

    async def _kill(self, uid: str) -> None:
        if self._containers is not None:
            await self._containers.stop(uid)

    async def _place(self, deployment: Key, manifest: Manifest) -> None:
        """The Deployment's Pod, from nothing to where its fate takes it."""
        await asyncio.sleep(self._pod_delay_s)
        template = manifest["spec"]["template"]
        fate = self.fates.get(template["metadata"]["labels"]["user_id"], self.fate)
        violations = violations_of_restricted(template["spec"])
        if fate is Fate.NEVER:
            return
        current = self.store.get(deployment)
        if current is None or "deletionTimestamp" in current["metadata"]:
            return
        if fate is Fate.QUOTA or violations:
            failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
            if current.get("status") != {"conditions": [failure]}:
                self.store.update(deployment, {**current, "status": {"conditions": [failure]}})
            return
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.name}
        key = Key("pods", NAMESPACE, f"{deployment.name}-{next(self._addresses)}")
        pod = self.store.create(
            key,
            {
                "metadata": {
                    "name": key.name,
                    "labels": template["metadata"]["labels"],
                    "ownerReferences": [{**owner, "uid": manifest["metadata"]["uid"], "blockOwnerDeletion": True}],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            },
        )
        uid = pod["metadata"]["uid"]
        for status in _course(fate):
            if status["phase"] == "Running" and self._containers is not None and uid not in self._containers:
                await self._containers.start(uid, template["spec"]["containers"][0])
            present = self.store.get(key)
            if present is None or "deletionTimestamp" in present["metadata"]:
                await self._kill(uid)
                return
            self.store.update(key, {**present, "status": status})


def _owners(found: Manifest) -> set[str]:
    return {owner["uid"] for owner in found["metadata"]["ownerReferences"]}


def _course(fate: Fate) -> list[Manifest]:
    """The Pod's statuses, one after the other."""
    if fate is Fate.NO_NODE:
        return [_status("Pending", scheduled=False)]
    creating = _status("Pending", waiting="ContainerCreating")
    match fate:
        case Fate.IMAGE:
            return [creating, _status("Pending", waiting="ErrImagePull"), _status("Pending", waiting=fate.value)]
        case Fate.CONFIG:
            return [creating, _status("Pending", waiting=fate.value)]
        case Fate.MEMORY:
            return [creating, _status("Running", ended="OOMKilled", exit_code=137)]
        case Fate.CRASH:
            return [creating, _status("Running", waiting=fate.value, ended="Error", exit_code=1)]
    return [creating, _status("Running"), _status("Running", ready=True)]


def _status(
    phase: str,
    *,
    scheduled: bool = True,
    waiting: str | None = None,
    ready: bool = False,
    ended: str | None = None,
    exit_code: int = 0,
) -> Manifest:
    conditions: list[Manifest] = [{"type": "PodScheduled", "status": "True"}]
    if not scheduled:
        return {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
        }
    conditions.append({"type": "Ready", "status": str(ready)})
    state: Manifest = {"running": {}} if waiting is None else {"waiting": {"reason": waiting}}
    last = {} if ended is None else {"terminated": {"reason": ended, "exitCode": exit_code}}
    container = {"name": "simulator", "restartCount": int(ended is not None), "state": state, "lastState": last}
    return {"phase": phase, "conditions": conditions, "containerStatuses": [container]}


@contextlib.asynccontextmanager
async def fake_cluster(
    *,
    roles: Mapping[str, Role] | None = None,
    pod_delay_s: float = 0.0,
    grace_s: float = 0.0,
    containers: Containers | None = None,
    network: ServiceNetwork | None = None,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> AsyncIterator[Cluster]:
    """A cluster for as long as the block lasts. ``TOKEN`` has the shipped Role's rights. Without ``containers``
    nothing runs in its Pods. The names of its Services resolve in ``network``."""
    api = ApiServer(ObjectStore(), NAMESPACE, {TOKEN: shipped_role()} if roles is None else roles, tls=tls, port=port)
    async with api:
        cluster = Cluster(api, pod_delay_s=pod_delay_s, grace_s=grace_s, containers=containers, network=network)
        controllers = asyncio.create_task(cluster.run())
        try:
            yield cluster
        finally:
            controllers.cancel()
            await asyncio.wait([controllers])
            if not controllers.cancelled():
                controllers.result()
