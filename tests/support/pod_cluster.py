"""Several pods as processes over one database, one Redis and one place for simulators; where clients find them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from tests.support.api_client import ApiClient
from tests.support.balancer import BALANCED_URL, Balancer
from tests.support.pod_process import PodProcess
from tests.support.servers import Database
from tests.support.stalls import Stalls
from tests.support.workloads import Workloads

PODS = 3
PROBE_EVERY_S = 0.1
PROBE_LIMIT_S = 0.5
PROBES_UNTIL_OUT = 3
STARTED_WITHIN_S = 60.0
ENDS_WITHIN_S = 60.0


class PodCluster:
    """Pods named pod-1, pod-2, …: ``pods``, oldest first. ``environ_of``: what one pod, by its name, has of its own.
    ``launcher``: what each is started through.

    ``http`` goes through ``balancer``, a connection for every call. ``urls()`` is what that chooses from: pods that
    were ready when they were asked last, the newest first; all of them where none is. ``stalls``: what the machine
    took.
    """

    def __init__(
        self,
        directory: Path,
        database: Database,
        workloads: Workloads,
        environ: Mapping[str, str],
        *,
        environ_of: Callable[[str], Mapping[str, str]] = lambda _name: {},
        launcher: Sequence[str] = (),
    ) -> None:
        self.pods: list[PodProcess] = []
        self.database = database
        self.workloads = workloads
        self.balancer = Balancer(self.urls)
        self.http: aiohttp.ClientSession
        self.stalls = Stalls()
        self._directory = directory
        self._environ = {**database.environ(), **workloads.environ, **environ}
        self._environ_of = environ_of
        self._launcher = launcher
        self._numbers = itertools.count(1)
        self._exits = AsyncExitStack()
        self._ready: list[str] = []
        self._in_rotation: set[str] = set()
        self._unanswered: Counter[str] = Counter()

    async def __aenter__(self) -> PodCluster:
        async with AsyncExitStack() as exits:
            exits.enter_context(self.stalls)
            self.http = await exits.enter_async_context(
                aiohttp.ClientSession(
                    BALANCED_URL,
                    connector=aiohttp.TCPConnector(
                        limit=0, force_close=True, resolver=self.balancer, use_dns_cache=False
                    ),
                )
            )
            self._exits = exits
            await asyncio.gather(*(self.add() for _ in range(PODS)))
            self.pods.sort(key=lambda pod: pod.name)
            probing = asyncio.create_task(self._probe())
            exits.push_async_callback(_cancelled, probing)
            await self._probe_once()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._exits.aclose()

    def __getitem__(self, number: int) -> PodProcess:
        """The pod of this number, from 1, as its name has it."""
        return next(pod for pod in self.pods if pod.name == f"pod-{number}")

    @property
    def running(self) -> list[PodProcess]:
        return [pod for pod in self.pods if pod.runs]

    def urls(self) -> list[str]:
        return self._ready or [pod.url for pod in self.running]

    def api(self, user_id: str, pod: PodProcess | None = None) -> ApiClient:
        """This user's calls, to this pod or through the balancer."""
        return ApiClient(self.http if pod is None else pod.http, user_id)

    async def add(self) -> PodProcess:
        """One pod more; it is ready."""
        name = f"pod-{next(self._numbers)}"
        environ = {**self._environ, **self._environ_of(name)}
        pod = PodProcess(self._directory / name, environ, name=name, launcher=self._launcher)
        await self._exits.enter_async_context(pod)
        self.pods.append(pod)  # started: whoever looks at it finds a process
        await pod.is_ready(within_s=STARTED_WITHIN_S)
        return pod

    async def replace(self, pod: PodProcess) -> None:
        """As a Deployment with surge does: a successor is ready before this one is told to go."""
        await self.add()
        await self._probe_once()
        pod.terminate()

    async def has_ended(self, pod: PodProcess) -> float:
        """Wait for the orderly end of a pod that was told to terminate; how long it took since, in seconds."""
        assert pod.terminated_at is not None
        code = await pod.ended(within_s=ENDS_WITHIN_S)
        took_s = self.stalls.took_s(pod.terminated_at)
        assert code == 0, pod.output[-3000:]
        return took_s

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            await self._probe_once()

    async def _probe_once(self) -> None:
        pods = sorted(self.running, key=lambda pod: pod.started_at, reverse=True)
        answers = await asyncio.gather(*(self._is_ready(pod) for pod in pods))
        for pod, is_ready in zip(pods, answers, strict=True):
            # A slow answer says little; several are as good as a no.
            self._unanswered[pod.url] = self._unanswered[pod.url] + 1 if is_ready is None else 0
            if is_ready is False or self._unanswered[pod.url] >= PROBES_UNTIL_OUT:
                self._in_rotation.discard(pod.url)
            elif is_ready:
                self._in_rotation.add(pod.url)
        self._ready = [pod.url for pod in pods if pod.url in self._in_rotation]

    async def _is_ready(self, pod: PodProcess) -> bool | None:
        """None: no answer in time."""
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                return await pod.status("/readiness") == 200
        except TimeoutError:
            return None


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
