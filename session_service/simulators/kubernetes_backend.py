"""Backend ``kubernetes``: a Deployment and a Service for each simulator (docs/simulators-on-kubernetes.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TypeVar

import structlog

from session_service.clients.kubernetes import EFFECT_LIMIT_S, KubernetesClient
from session_service.clients.kubernetes_types import DEPLOYMENTS, PODS, SERVICES, Deployment, Object, Pod, Resource
from session_service.clients.kubernetes_watch import WATCH_TIMES, ListWatch, WatchTimes, list_all
from session_service.errors import (
    BackendRefusedError,
    BackendUnavailableError,
    DatabaseUnavailableError,
    KubernetesConflictError,
    KubernetesExpiredError,
)
from session_service.simulators.backend import Workload, WorkloadSpec
from session_service.simulators.kubernetes_objects import (
    assignment,
    deployment_manifest,
    is_of,
    is_ours,
    label_selector,
    object_name,
    pod_selector,
    recipe,
    service_manifest,
    simulator_id_of,
)
from session_service.simulators.kubernetes_phases import workload_of
from session_service.simulators.kubernetes_view import GONE, WorkloadView
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Object)

CREATE_CALLS_LIMIT_S = 15.0
CALLS_LIMIT_S = 15.0
DEPARTURE_WAIT_S = 8.0  # longer than a Pod's grace
DATABASE_AGAIN_S = 1.0


class KubernetesBackend:
    """Implements SimulatorBackend. What it observes comes from two watches, of Deployments and of Pods.

    ``database_id`` gives the label of this database's workloads; others are not there for it. Until it has answered
    once ``get`` and ``delete`` raise what it raises, which may be DatabaseUnavailableError. The Service belongs to
    its Deployment, which is removed after everything it owns: when it is gone, all is. ``uid`` is the Deployment's.
    """

    create_limit_s = CREATE_CALLS_LIMIT_S + EFFECT_LIMIT_S

    def __init__(
        self,
        client: KubernetesClient,
        *,
        image: str,
        database_id: Callable[[], Awaitable[str]],
        metrics: Metrics,
        watch: WatchTimes = WATCH_TIMES,
        departure_wait_s: float = DEPARTURE_WAIT_S,
    ) -> None:
        self._client = client
        self._image = image
        self.recipe = recipe(image)
        self._ask_database_id = database_id
        self._database_id: str | None = None
        self._departure_wait_s = departure_wait_s
        self._view = WorkloadView(client.namespace)
        self._departures: dict[str, list[asyncio.Future[None]]] = {}  # by uid: who waits for it
        self._news: dict[tuple[str, str], Workload] = {}  # not told yet, the last of each
        self._has_news = asyncio.Event()
        clock = asyncio.get_running_loop().time
        self._deployments = ListWatch(client, DEPLOYMENTS, watch, metrics, clock=clock)
        self._pods = ListWatch(client, PODS, watch, metrics, clock=clock)

    async def start(self) -> None:
        """Raises ConfigurationError where there is no way to an API server. None is called."""
        await self._client.start()

    async def close(self) -> None:
        await self._client.close()

    async def create(self, spec: WorkloadSpec) -> Workload:
        """Deployment, then Service. What stands under their names already is taken where it is this simulator's.

        Raises BackendRefusedError where the name is another's, or the API server refuses (permission, quota).
        """
        async with _within(CREATE_CALLS_LIMIT_S):
            try:
                deployment = await self._client.create(DEPLOYMENTS, deployment_manifest(spec, self._image))
            except KubernetesConflictError:
                deployment = await self._adopted(spec)
            except BackendRefusedError as error:
                # An admission webhook may quote what it was shown.
                raise BackendRefusedError(error.reason, error.detail.replace(spec.token, "***")) from None
            if not deployment.is_ending:
                await self._ensure_service(spec, deployment)
        return self._workload(deployment, ())

    async def assign(self, simulator_id: str, uid: str, session_id: str, user_id: str) -> None:
        """By labels of the Deployment and of its Service. Raises BackendRefusedError where that is not allowed."""
        name, labels = object_name(simulator_id), assignment(session_id, user_id)
        async with _within(CALLS_LIMIT_S):
            try:
                if await self._client.patch(DEPLOYMENTS, name, {"metadata": {"uid": uid, "labels": labels}}):
                    await self._client.patch(SERVICES, name, {"metadata": {"labels": labels}})
            except KubernetesConflictError as error:
                raise BackendUnavailableError(error.detail) from None

    async def get(self, simulator_id: str) -> Workload | None:
        database_id = await self._own_database_id()
        async with _within(CALLS_LIMIT_S):
            name = object_name(simulator_id)
            deployment = await self._client.get(DEPLOYMENTS, name)
            if deployment is None or not is_ours(deployment, simulator_id, database_id):
                return None
            service = await self._client.get(SERVICES, name)
            pods = await _listed(self._client, PODS, pod_selector(simulator_id))
        return self._workload(deployment, pods, has_service=service is not None and not service.is_ending)

    def observed(self, simulator_id: str) -> Workload | None:
        """None too where a watch is behind, or has told nothing yet."""
        if not (self._deployments.is_current and self._pods.is_current):
            return None
        return self._view.observed(simulator_id)

    async def list(self, database_id: str) -> list[Workload]:
        selector = label_selector(database_id)
        deployments = await _listed(self._client, DEPLOYMENTS, selector)
        pods = await _listed(self._client, PODS, selector)
        by_simulator: dict[str, list[Pod]] = {}
        for pod in pods:
            by_simulator.setdefault(simulator_id_of(pod), []).append(pod)
        return [
            self._workload(deployment, by_simulator.get(simulator_id_of(deployment), ()))
            for deployment in deployments
        ]

    async def delete(self, simulator_id: str, uid: str | None) -> bool:
        """Waits a while for the end, as the watch tells it. False: not gone yet; ask again.

        Where another workload than ``uid`` stands under this id, ``uid`` is gone.
        """
        name, database_id = object_name(simulator_id), await self._own_database_id()
        async with _within(CALLS_LIMIT_S):
            standing = await self._client.get(DEPLOYMENTS, name)
            if standing is None or not is_ours(standing, simulator_id, database_id):
                return True
            if uid not in {None, standing.metadata.uid}:
                return True
            with self._departure(standing.metadata.uid) as departed:
                if not standing.is_ending:
                    try:
                        if not await self._client.delete(DEPLOYMENTS, name, uid=standing.metadata.uid):
                            return True
                    except KubernetesConflictError:
                        return uid is not None  # replaced since: where any was meant, it is still to be removed
                await asyncio.wait([departed], timeout=self._departure_wait_s)
            left = await self._client.get(DEPLOYMENTS, name)
        return left is None or left.metadata.uid != standing.metadata.uid

    async def changes(self) -> AsyncGenerator[Workload, None]:
        """Of changes that come faster than they are read the last of each workload is told."""
        following = asyncio.create_task(self._follow(), name="kubernetes-watches")
        following.add_done_callback(lambda _ended: self._has_news.set())
        try:
            while True:
                await self._has_news.wait()
                self._has_news.clear()
                if following.done():
                    following.result()  # it only ends by an error
                news, self._news = self._news, {}
                for workload in news.values():
                    yield workload
        finally:
            following.cancel()
            await asyncio.wait([following])

    async def _own_database_id(self) -> str:
        if self._database_id is None:
            self._database_id = await self._ask_database_id()
        return self._database_id

    async def _follow(self) -> None:
        """Keep the view as it is told, and note what is news."""
        while True:
            try:
                selector = label_selector(await self._own_database_id())
                break
            except DatabaseUnavailableError:
                await asyncio.sleep(DATABASE_AGAIN_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_deployments(selector), name="watch-deployments")
            group.create_task(self._follow_pods(selector), name="watch-pods")

    async def _follow_deployments(self, selector: str) -> None:
        async with aclosing(self._deployments.follow(selector)) as notices:
            async for notice in notices:
                self._note(self._view.deployments_told(notice))

    async def _follow_pods(self, selector: str) -> None:
        async with aclosing(self._pods.follow(selector)) as notices:
            async for notice in notices:
                self._note(self._view.pods_told(notice))

    def _note(self, news: Iterable[Workload]) -> None:
        for workload in news:
            self._news.pop((workload.simulator_id, workload.uid), None)  # the later one is told later
            self._news[workload.simulator_id, workload.uid] = workload
            if workload.reason == GONE:
                for waiter in self._departures.get(workload.uid, ()):
                    if not waiter.done():
                        waiter.set_result(None)
            self._has_news.set()

    @contextmanager
    def _departure(self, uid: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the watch has told that this Deployment is gone."""
        departed = asyncio.get_running_loop().create_future()
        waiters = self._departures.setdefault(uid, [])
        waiters.append(departed)
        try:
            yield departed
        finally:
            waiters.remove(departed)
            departed.cancel()
            if not waiters and self._departures.get(uid) is waiters:
                del self._departures[uid]

    async def _adopted(self, spec: WorkloadSpec) -> Deployment:
        """What stands under the simulator's name, if it is the simulator's."""
        standing = await self._client.get(DEPLOYMENTS, object_name(spec.simulator_id))
        if standing is None:
            raise BackendUnavailableError("the Deployment was removed meanwhile")
        if not is_of(standing, spec):
            raise BackendRefusedError("NameTaken", f"another Deployment is called {standing.metadata.name}")
        log.info("kubernetes_deployment_adopted", simulator_id=spec.simulator_id, ending=standing.is_ending)
        return standing

    async def _ensure_service(self, spec: WorkloadSpec, deployment: Deployment) -> None:
        try:
            await self._client.create(SERVICES, service_manifest(spec, deployment))
        except KubernetesConflictError:
            standing = await self._client.get(SERVICES, object_name(spec.simulator_id))
            owners = () if standing is None else standing.metadata.owner_references or ()
            if standing is None or standing.is_ending or deployment.metadata.uid not in {one.uid for one in owners}:
                # That of an earlier Deployment, which is removed with it; or somebody else's, and then it stays so.
                raise BackendUnavailableError("another Service has the simulator's name") from None

    def _workload(self, deployment: Deployment, pods: Iterable[Pod], *, has_service: bool = True) -> Workload:
        return workload_of(deployment, pods, namespace=self._client.namespace, has_service=has_service)


async def _listed(client: KubernetesClient, resource: Resource[T], selector: str) -> tuple[T, ...]:
    """Everything under the selector. A list that took longer than its version is kept is made again, once."""
    try:
        items, _ = await list_all(client, resource, selector)
    except KubernetesExpiredError:
        try:
            items, _ = await list_all(client, resource, selector)
        except KubernetesExpiredError as error:
            raise BackendUnavailableError(error.detail) from None
    return items


@asynccontextmanager
async def _within(limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise BackendUnavailableError(f"not done within {limit_s:g} s") from None
