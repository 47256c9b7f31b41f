"""Simulator rows and teardowns. Every method is one statement; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from session_service.database.postgres import Postgres
from session_service.database.records import simulator_of
from session_service.database.sql_files import Queries
from session_service.domain.placement import Ownership
from session_service.domain.simulator import Simulator
from session_service.errors import SessionExpiredError, SessionNotFoundError, SimulatorLimitReachedError


class Teardown(msgspec.Struct, frozen=True):
    """A workload to remove, leased to this pod. ``attempts`` counts this one. ``create_is_open``: a create that was
    sent may still take effect, so that not to find it does not mean that it is gone.
    """

    simulator_id: str
    session_id: str
    endpoint: str | None
    workload_uid: str | None
    attempts: int
    create_is_open: bool


class OwnedSimulator(msgspec.Struct, frozen=True):
    """A simulator's row, and who looks after its session, as read by one statement. ``create_open_s``: for how long
    yet a create that was sent may take effect; 0 where none can. ``waits_for_slot``: it is in the start queue.
    """

    simulator: Simulator
    ownership: Ownership
    create_open_s: float = 0.0
    waits_for_slot: bool = False


class RequestedSimulator(msgspec.Struct, frozen=True):
    """A user's request as recorded. ``changed``: by this call. ``owner_pod_id``: whose reconciler acts on it."""

    simulator: Simulator
    changed: bool
    owner_pod_id: str | None


class SimulatorRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def request_start(
        self,
        simulator_id: str,
        session_id: str,
        user_id: str,
        symbols: Sequence[str],
        cash: float,
        limit: int,
        pod_id: str,
        recipe: str | None = None,
    ) -> RequestedSimulator:
        """The session's live simulator, or a new row: a spare of this recipe where one is ready, else under this id.
        Where nobody looks after the session, ``pod_id`` takes it.

        Raises SessionNotFoundError, SessionExpiredError, SimulatorLimitReachedError.
        """
        record = await self._postgres.fetch_row(
            self._queries["simulators.request_start"],
            simulator_id,
            session_id,
            user_id,
            list(symbols),
            cash,
            limit,
            pod_id,
            recipe,
            operation="create_simulator",
            repeatable=True,
        )
        assert record is not None  # noqa: S101 - the function returns one row, always
        match record["outcome"]:
            case "session_not_found":
                raise SessionNotFoundError
            case "session_expired":
                raise SessionExpiredError
            case "limit":
                raise SimulatorLimitReachedError(limit)
        simulator = simulator_of(record)
        changed = record["outcome"] == "created" or simulator_id in {simulator.simulator_id, record["requested_as"]}
        return RequestedSimulator(simulator, changed, record["owner_pod_id"])

    async def get(self, simulator_id: str, user_id: str | None = None) -> Simulator | None:
        record = await self._postgres.fetch_row(
            self._queries["simulators.get"], simulator_id, user_id, operation="get_simulator", repeatable=True
        )
        return simulator_of(record) if record else None

    async def of_session(self, session_id: str, user_id: str | None = None) -> Simulator | None:
        """The live simulator of the session, else its newest."""
        record = await self._postgres.fetch_row(
            self._queries["simulators.of_session"], session_id, user_id, operation="get_simulator", repeatable=True
        )
        return simulator_of(record) if record else None

    async def request_stop(self, simulator_id: str, reason: str | None) -> RequestedSimulator | None:
        """The row afterwards; None when there is no such row."""
        record = await self._postgres.fetch_row(
            self._queries["simulators.request_stop"],
            simulator_id,
            reason,
            operation="stop_simulator",
            repeatable=True,
        )
        if record is None:
            return None
        return RequestedSimulator(simulator_of(record), record["changed"], record["owner_pod_id"])

    async def owned(self, simulator_id: str) -> OwnedSimulator | None:
        """The row, with who looks after its session."""
        record = await self._postgres.fetch_row(
            self._queries["simulators.owned"], simulator_id, operation="get_simulator", repeatable=True
        )
        return _owned(record, record["create_open_s"], record["waits_for_slot"]) if record else None

    async def predecessor_remains(self, session_id: str, simulator_id: str) -> bool:
        remains: bool = await self._postgres.fetch_value(
            self._queries["simulators.predecessor_remains"],
            session_id,
            simulator_id,
            operation="check_predecessor",
            repeatable=True,
        )
        return remains

    async def create_answered(self, simulator_id: str, until: datetime) -> None:
        """The one create that was under way has been answered: its simulator's end need not wait for ``until``."""
        await self._postgres.execute(
            self._queries["simulators.create_answered"],
            simulator_id,
            until,
            operation="create_answered",
            repeatable=True,
        )

    async def workload_created(
        self, owned: OwnedSimulator, uid: str, endpoint: str | None, answered: datetime | None = None
    ) -> Simulator | None:
        """``answered``: the ``until`` of the create that made it, where no other one is under way."""
        return await self._step("simulators.workload_created", owned, uid, endpoint, answered)

    async def waiting(self, owned: OwnedSimulator, reason: str | None) -> Simulator | None:
        """What keeps it in STARTING; None: nothing but time."""
        return await self._step("simulators.waiting", owned, reason)

    async def spare_is_lost(self, owned: OwnedSimulator) -> Simulator | None:
        """The spare that it took is known to be gone: back to CREATING, where it gets a workload of its own."""
        return await self._step("simulators.spare_is_lost", owned)

    async def running(self, owned: OwnedSimulator, endpoint: str) -> Simulator | None:
        return await self._step("simulators.running", owned, endpoint)

    async def stopped(self, owned: OwnedSimulator) -> Simulator | None:
        return await self._step("simulators.stopped", owned)

    async def _step(self, query: str, owned: OwnedSimulator, *args: object) -> Simulator | None:
        """One conditional transition by the session's owner; None when the row was not where the transition starts,
        or the session has another owner.
        """
        owner = owned.ownership
        record = await self._postgres.fetch_row(
            self._queries[query],
            owned.simulator.simulator_id,
            owner.session_id,
            owner.pod_id,
            owner.epoch,
            *args,
            operation="update_simulator_status",
            repeatable=True,
        )
        return simulator_of(record) if record else None

    async def fail(self, owned: OwnedSimulator, reason: str) -> bool:
        """To ERROR, and the workload to the teardowns. True: this call did it; False also for a former owner."""
        owner = owned.ownership
        done: bool = await self._postgres.fetch_value(
            self._queries["simulators.fail"],
            owned.simulator.simulator_id,
            reason,
            owner.session_id,
            owner.pod_id,
            owner.epoch,
            operation="update_simulator_status",
        )
        return done

    async def unsettled(self, pod_id: str) -> list[str]:
        """Simulators on their way, of the sessions that this pod owns."""
        records = await self._postgres.fetch(
            self._queries["simulators.unsettled_of_pod"],
            pod_id,
            operation="list_unsettled_simulators",
            repeatable=True,
        )
        return [record["simulator_id"] for record in records]

    async def live_of_sessions(self, session_ids: Sequence[str]) -> list[str]:
        records = await self._postgres.fetch(
            self._queries["simulators.live_of_sessions"],
            session_ids,
            operation="list_simulators_of_sessions",
            repeatable=True,
        )
        return [record["simulator_id"] for record in records]

    async def running_of_pod(self, pod_id: str) -> list[OwnedSimulator]:
        """Running simulators of sessions that this pod owns or has sockets of."""
        records = await self._postgres.fetch(
            self._queries["simulators.running_of_pod"],
            pod_id,
            operation="list_running_simulators",
            repeatable=True,
        )
        return [_owned(record) for record in records]

    async def stop_inactive(self, timeout_s: float) -> list[Simulator]:
        records = await self._postgres.fetch(
            self._queries["simulators.stop_inactive"], timeout_s, operation="stop_inactive_simulators"
        )
        return [simulator_of(record) for record in records]

    async def stop_of_pod(self, pod_id: str, reason: str) -> list[Simulator]:
        """Ask every simulator of the sessions that this pod owns to stop; those that this call asked."""
        records = await self._postgres.fetch(
            self._queries["simulators.stop_of_pod"],
            pod_id,
            reason,
            operation="stop_all_simulators",
            repeatable=True,
        )
        return [simulator_of(record) for record in records]

    async def stop_as_last(self, pod_id: str, reason: str) -> list[RequestedSimulator]:
        """Ask every simulator to stop, and take their sessions; nothing where a live pod is beside this one.

        Returns all that are not yet stopped, also those that were asked before. Repeated, it takes what pods that
        have left meanwhile let go of.
        """
        records = await self._postgres.fetch(
            self._queries["simulators.stop_as_last"],
            pod_id,
            reason,
            operation="stop_all_simulators",
            repeatable=True,
        )
        return [RequestedSimulator(simulator_of(record), record["changed"], pod_id) for record in records]

    async def prune(self, keep_s: float) -> None:
        await self._postgres.execute(
            self._queries["simulators.prune"], keep_s, operation="prune_simulators", repeatable=True
        )

    async def count_running(self, pod_id: str) -> int:
        """How many run in the sessions that this pod owns."""
        count: int = await self._postgres.fetch_value(
            self._queries["simulators.count_running_of_pod"], pod_id, operation="count_simulators", repeatable=True
        )
        return count

    async def lease_teardowns(self, limit: int, lease_s: float) -> list[Teardown]:
        records = await self._postgres.fetch(
            self._queries["teardowns.lease"], limit, lease_s, operation="lease_teardowns"
        )
        return [
            Teardown(
                simulator_id=record["simulator_id"],
                session_id=record["session_id"],
                endpoint=record["endpoint"],
                workload_uid=record["workload_uid"],
                attempts=record["attempts"],
                create_is_open=record["create_is_open"],
            )
            for record in records
        ]

    async def teardown_done(self, teardown: Teardown) -> bool:
        """The workload is gone; whether the simulator's row is gone too, so that this call alone knows of the end.

        Nothing happens, and the answer is False, where it was leased or asked for again meanwhile.
        """
        rowless: bool | None = await self._postgres.fetch_value(
            self._queries["teardowns.done"],
            teardown.simulator_id,
            teardown.attempts,
            operation="finish_teardown",
            repeatable=True,
        )
        return rowless is True

    async def await_create(self, teardown: Teardown) -> None:
        """Lease it again only when no create of it can take effect any more."""
        await self._postgres.execute(
            self._queries["teardowns.await_create"],
            teardown.simulator_id,
            teardown.attempts,
            operation="await_create",
            repeatable=True,
        )

    async def request_teardown(
        self, simulator_id: str, session_id: str, endpoint: str | None, workload_uid: str
    ) -> bool:
        """Have a workload removed that nobody wants any more. False: its row says that it is to run."""
        requested: bool | None = await self._postgres.fetch_value(
            self._queries["teardowns.request"],
            simulator_id,
            session_id,
            endpoint,
            workload_uid,
            operation="request_teardown",
            repeatable=True,
        )
        return requested is not None

    async def teardown_count(self) -> int:
        count: int = await self._postgres.fetch_value(
            self._queries["teardowns.count"], operation="count_teardowns", repeatable=True
        )
        return count


def _owned(record: asyncpg.Record, create_open_s: float = 0.0, waits_for_slot: bool = False) -> OwnedSimulator:
    simulator = simulator_of(record)
    ownership = Ownership(simulator.session_id, record["owner_pod_id"], record["owner_epoch"])
    return OwnedSimulator(simulator, ownership, create_open_s, waits_for_slot)
