"""Where simulators run: what every backend (``process``, ``service``, later ``kubernetes``) can do.

A backend knows workloads, not sessions: the reconciler decides, a backend carries out. Calls are idempotent, so that
a step whose reply was lost is simply made again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

import msgspec

from session_service.domain.simulator import DEFAULT_CASH, DEFAULT_SYMBOLS


class WorkloadPhase(StrEnum):
    """How far a workload is, as its platform sees it."""

    PENDING = "PENDING"  # being placed or started; has no endpoint that answers yet
    READY = "READY"  # its endpoint accepts gRPC calls
    FAILED = "FAILED"  # ended, or cannot start; ``reason`` says why. It will not come back by itself
    PARTIAL = "PARTIAL"  # a create was cut short: it makes the rest when it is made again
    ENDING = "ENDING"  # being removed, whoever asked for it: nothing is to be built on it any more


class WorkloadSpec(msgspec.Struct, frozen=True):
    """What a simulator's process is started with (docs/simulator.md). ``token`` goes into its environment only.

    ``database_id`` labels the workload: those of another database on the same platform are somebody else's. Without
    ``session_id`` and ``user_id`` it is a spare, made for nobody yet.
    """

    simulator_id: str
    session_id: str
    user_id: str
    initial_symbols: tuple[str, ...]
    initial_cash: float
    token: str
    database_id: str

    @classmethod
    def spare(cls, simulator_id: str, token: str, database_id: str) -> WorkloadSpec:
        """What it is to trade is said by StartSimulator, once somebody has taken it."""
        return cls(simulator_id, "", "", DEFAULT_SYMBOLS, DEFAULT_CASH, token, database_id)

    def environ(self) -> dict[str, str]:
        """The process's variables but for its address. A spare serves the first session that comes, and no other."""
        whose = {"SESSION_ID": self.session_id, "USER_ID": self.user_id}
        return {
            "SIMULATOR_ID": self.simulator_id,
            **(whose if self.session_id else {"SINGLE_SESSION": "true"}),
            "INITIAL_SYMBOLS": ",".join(self.initial_symbols),
            "INITIAL_CASH": format(self.initial_cash, ".15g"),
            "SIMULATOR_TOKEN": self.token,
        }


class Workload(msgspec.Struct, frozen=True):
    """One running (or failed) simulator. ``uid`` tells two workloads of one simulator id apart.

    ``session_id``: as its spec said, or ``assign``; empty where the platform does not keep it, and of a spare.
    """

    simulator_id: str
    uid: str
    phase: WorkloadPhase
    endpoint: str | None = None  # host:port for gRPC
    reason: str | None = None
    session_id: str = ""


class SimulatorBackend(Protocol):
    """The platform adapter. Every call may raise ``BackendUnavailableError``; every call has a time limit inside.

    Cancelling a call leaves its effect unknown: the next ``get`` tells.
    """

    create_limit_s: float
    """A create has taken effect within this time of its call, or never will, whatever became of the caller."""

    recipe: str
    """What workloads are made of, as a short text that is another one for whatever is made of something else."""

    async def start(self) -> None:
        """Make the backend usable; called once, before any other call."""

    async def close(self) -> None:
        """Release what ``start`` took. Workloads keep running."""

    async def create(self, spec: WorkloadSpec) -> Workload:
        """Create the workload, or return the one that stands under this simulator id already."""

    async def assign(self, simulator_id: str, uid: str, session_id: str, user_id: str) -> None:
        """Write down on a spare whose it is now; it runs on undisturbed. Nothing, where it has gone."""

    async def get(self, simulator_id: str) -> Workload | None:
        """Ask the platform itself, not a cache; None when there is no such workload."""

    def observed(self, simulator_id: str) -> Workload | None:
        """What ``changes`` was told last, at no cost: good for going on to wait, for nothing else. None where it does
        not know, or may be behind."""

    async def list(self, database_id: str) -> list[Workload]:
        """Every workload that was created with this label."""

    async def delete(self, simulator_id: str, uid: str | None) -> bool:
        """Remove the workload if its uid matches (any, when None). True: it is known to be gone."""

    def changes(self) -> AsyncIterator[Workload]:
        """Every observed change, without end; a workload that vanished is FAILED with the reason ``gone``.

        Reconnects by itself; what changed while it was away is reported afterwards, from a comparison.
        """
