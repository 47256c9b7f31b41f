"""A platform outside of any pod, on which simulators run as long as nobody removes them, whatever becomes of pods.

Each workload is a real exchange of its own, behind one gRPC server that finds it by the simulator's id: what calls a
workload that is not there is refused, as by a host on which nothing listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, NoReturn, cast

import grpc
import msgspec

from exchange_simulator.fence import OwnerFence
from exchange_simulator.service import ExchangeSimulatorService
from exchange_simulator.sessions import Sessions
from exchange_simulator.settings import Settings
from session_service.errors import BackendUnavailableError
from session_service.simulators.backend import SimulatorBackend, Workload, WorkloadPhase, WorkloadSpec
from tests.support.mishaps import OutgoingCalls, Watched

FAILS_ON_THIS_PLATFORM = "CANNOT-START"  # a workload with this symbol ends as soon as it is created


class _Placed:
    """One workload. ``restart`` is its container's: the same workload, and none of its state."""

    def __init__(self, label: str, spec: WorkloadSpec, workload: Workload) -> None:
        self.label = label
        self.spec = spec
        self.workload = workload
        self.restart()

    def restart(self) -> None:
        spec = self.spec
        loop = asyncio.get_running_loop()
        settings = Settings(
            session_id=spec.session_id,
            single_session=not spec.session_id,
            simulator_id=spec.simulator_id,
            token=spec.token,
            symbols=spec.initial_symbols,
            cash=spec.initial_cash,
        )
        self.sessions = Sessions(settings, loop.time)
        self.service = ExchangeSimulatorService(settings, self.sessions, loop, fence=OwnerFence())


class WorkloadHost(grpc.GenericRpcHandler):
    """Keeps the workloads of every installation, apart by their labels. Use ``hosting``.

    ``overlaps``: simulators that were placed while another one of the same session stood, and which that was.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.overlaps: list[tuple[str, str]] = []
        self._placed: dict[str, _Placed] = {}
        self._uids = itertools.count(1)

    def backend(self, label: str) -> LabelledBackend:
        """The platform as one installation sees it: its own workloads."""
        return LabelledBackend(self, label)

    def calls(self) -> OutgoingCalls:
        return OutgoingCalls()

    def platform(self, label: str, calls: OutgoingCalls) -> SimulatorBackend:
        """``backend`` as one pod calls it."""
        unanswered = partial(BackendUnavailableError, "no answer")
        return cast("SimulatorBackend", Watched(self.backend(label), calls, unanswered))

    def workloads(self, label: str) -> dict[str, str]:
        """What stands there at this moment: simulator id → uid."""
        return {
            simulator_id: placed.workload.uid
            for simulator_id, placed in self._placed.items()
            if placed.label == label
        }

    def states(self, label: str) -> dict[str, int]:
        """Which of them have a state at their exchange: simulator id → its epoch."""
        return {
            simulator_id: session.window.epoch
            for simulator_id, placed in self._placed.items()
            if placed.label == label
            for session in placed.sessions._sessions.values()  # one at most
        }

    def restart_container(self, simulator_id: str) -> None:
        self._placed[simulator_id].restart()

    def lose(self, simulator_id: str) -> None:
        del self._placed[simulator_id]

    def fail(self, simulator_id: str) -> None:
        """Its process has ended; the workload stands there until somebody removes it."""
        placed = self._placed[simulator_id]
        placed.workload = msgspec.structs.replace(
            placed.workload, phase=WorkloadPhase.FAILED, endpoint=None, reason="exit code 1"
        )

    def place(self, label: str, spec: WorkloadSpec) -> Workload:
        placed = self._placed.get(spec.simulator_id)
        if placed is None:
            self._note_overlaps(label, spec.simulator_id, spec.session_id)
            fails = FAILS_ON_THIS_PLATFORM in spec.initial_symbols
            workload = Workload(
                spec.simulator_id,
                uid=f"uid-{next(self._uids)}",
                phase=WorkloadPhase.FAILED if fails else WorkloadPhase.READY,
                endpoint=None if fails else self.endpoint,
                reason="image_not_found" if fails else None,
                session_id=spec.session_id,
            )
            placed = self._placed[spec.simulator_id] = _Placed(label, spec, workload)
        return placed.workload

    def labelled(self, database_id: str) -> list[Workload]:
        return [placed.workload for placed in self._placed.values() if placed.spec.database_id == database_id]

    def find(self, label: str, simulator_id: str) -> Workload | None:
        placed = self._placed.get(simulator_id)
        return placed.workload if placed is not None and placed.label == label else None

    def assign(self, label: str, simulator_id: str, uid: str, session_id: str) -> None:
        placed = self._placed.get(simulator_id)
        if placed is not None and (placed.label, placed.workload.uid) == (label, uid):
            self._note_overlaps(label, simulator_id, session_id)
            placed.workload = msgspec.structs.replace(placed.workload, session_id=session_id)

    def _note_overlaps(self, label: str, simulator_id: str, session_id: str) -> None:
        self.overlaps += [
            (simulator_id, other)
            for other, there in self._placed.items()
            if session_id
            and other != simulator_id
            and (there.label, there.workload.session_id) == (label, session_id)
        ]

    def remove(self, label: str, simulator_id: str, uid: str | None) -> bool:
        workload = self.find(label, simulator_id)
        if workload is not None and uid in {None, workload.uid}:
            del self._placed[simulator_id]
        return True

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        metadata = dict(handler_call_details.invocation_metadata or ())
        placed = self._placed.get(str(metadata.get("x-simulator-id")))
        if placed is None:
            return grpc.unary_unary_rpc_method_handler(_nobody_listens)
        return placed.service.handler().service(handler_call_details)


class LabelledBackend:
    """A SimulatorBackend over the host. Creates and deletes idempotently; what it makes outlives whoever called."""

    create_limit_s = 600.0  # longer than any test: it passes when a test says so
    recipe = "exchanges of a test"

    def __init__(self, host: WorkloadHost, label: str) -> None:
        self._host = host
        self._label = label

    async def start(self) -> None:
        """Nothing to make usable."""

    async def close(self) -> None:
        """Nothing was taken."""

    async def create(self, spec: WorkloadSpec) -> Workload:
        return self._host.place(self._label, spec)

    async def assign(self, simulator_id: str, uid: str, session_id: str, user_id: str) -> None:
        self._host.assign(self._label, simulator_id, uid, session_id)

    async def get(self, simulator_id: str) -> Workload | None:
        return self._host.find(self._label, simulator_id)

    def observed(self, simulator_id: str) -> Workload | None:
        """``changes`` tells nothing."""
        return None

    async def list(self, database_id: str) -> list[Workload]:
        return self._host.labelled(database_id)

    async def delete(self, simulator_id: str, uid: str | None) -> bool:
        return self._host.remove(self._label, simulator_id, uid)

    async def changes(self) -> AsyncIterator[Workload]:
        """Tells nothing: what changes is found by rounds."""
        await asyncio.get_running_loop().create_future()
        yield Workload("", "", WorkloadPhase.FAILED)  # pragma: no cover - makes this an asynchronous generator


@contextlib.asynccontextmanager
async def hosting() -> AsyncIterator[WorkloadHost]:
    """A host that listens for as long as the block lasts."""
    host = WorkloadHost()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((host,))
    host.endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield host
    finally:
        await server.stop(None)


async def _nobody_listens(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "connection refused")
