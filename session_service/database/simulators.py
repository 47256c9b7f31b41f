"""Simulator rows and teardowns. Every method is one statement; DatabaseUnavailableError may come from each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from session_service.database.postgres import Postgres
from session_service.database.records import simulator_of
from session_service.database.sql_files import Queries
from session_service.domain.simulator import Simulator
from session_service.errors import SessionExpiredError, SessionNotFoundError, SimulatorLimitReachedError


class Teardown(msgspec.Struct, frozen=True):
    """A workload to remove, leased to this pod. ``attempts`` counts this one."""

    simulator_id: str
    session_id: str
    endpoint: str | None
    workload_uid: str | None
    attempts: int


class SimulatorRepository:
    def __init__(self, postgres: Postgres, queries: Queries) -> None:
        self._postgres = postgres
        self._queries = queries

    async def request_start(
        self, simulator_id: str, session_id: str, user_id: str, symbols: Sequence[str], cash: float, limit: int
    ) -> tuple[Simulator, bool]:
        """The session's live simulator, or a new row under this id; and whether it is new.

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
        return simulator, record["outcome"] == "created" or simulator.simulator_id == simulator_id

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

    async def request_stop(self, simulator_id: str, reason: str | None) -> tuple[Simulator, bool] | None:
        """The row afterwards, and whether this call changed it; None when there is no such row."""
        record = await self._postgres.fetch_row(
            self._queries["simulators.request_stop"],
            simulator_id,
            reason,
            operation="stop_simulator",
            repeatable=True,
        )
        return (simulator_of(record), record["changed"]) if record else None

    async def predecessor_remains(self, session_id: str, simulator_id: str) -> bool:
        remains: bool = await self._postgres.fetch_value(
            self._queries["simulators.predecessor_remains"],
            session_id,
            simulator_id,
            operation="check_predecessor",
            repeatable=True,
        )
        return remains

    async def workload_created(self, simulator_id: str, uid: str, endpoint: str | None) -> Simulator | None:
        return await self._step("simulators.workload_created", simulator_id, uid, endpoint)

    async def running(self, simulator_id: str, endpoint: str) -> Simulator | None:
        return await self._step("simulators.running", simulator_id, endpoint)

    async def stopped(self, simulator_id: str) -> Simulator | None:
        return await self._step("simulators.stopped", simulator_id)

    async def _step(self, query: str, *args: object) -> Simulator | None:
        """One conditional transition; None when the row was not where the transition starts."""
        record = await self._postgres.fetch_row(
            self._queries[query], *args, operation="update_simulator_status", repeatable=True
        )
        return simulator_of(record) if record else None

    async def fail(self, simulator_id: str, reason: str) -> bool:
        """To ERROR, and the workload to the teardowns. True: this call did it."""
        done: bool = await self._postgres.fetch_value(
            self._queries["simulators.fail"], simulator_id, reason, operation="update_simulator_status"
        )
        return done

    async def unsettled(self) -> list[str]:
        records = await self._postgres.fetch(
            self._queries["simulators.unsettled"], operation="list_unsettled_simulators", repeatable=True
        )
        return [record["simulator_id"] for record in records]

    async def running_all(self) -> list[Simulator]:
        records = await self._postgres.fetch(
            self._queries["simulators.running_all"], operation="list_running_simulators", repeatable=True
        )
        return [simulator_of(record) for record in records]

    async def stop_inactive(self, timeout_s: float) -> list[Simulator]:
        records = await self._postgres.fetch(
            self._queries["simulators.stop_inactive"], timeout_s, operation="stop_inactive_simulators"
        )
        return [simulator_of(record) for record in records]

    async def stop_all(self, reason: str, session_ids: Sequence[str] | None) -> list[Simulator]:
        """Ask every simulator (of these sessions, when given) to stop; those that this call asked."""
        records = await self._postgres.fetch(
            self._queries["simulators.stop_all"],
            reason,
            session_ids,
            operation="stop_all_simulators",
            repeatable=True,
        )
        return [simulator_of(record) for record in records]

    async def prune(self, keep_s: float) -> None:
        await self._postgres.execute(
            self._queries["simulators.prune"], keep_s, operation="prune_simulators", repeatable=True
        )

    async def counts(self) -> dict[str, int]:
        records = await self._postgres.fetch(
            self._queries["simulators.counts"], operation="count_simulators", repeatable=True
        )
        return {record["status"]: record["count"] for record in records}

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

    async def request_teardown(
        self, simulator_id: str, session_id: str, endpoint: str | None, workload_uid: str
    ) -> bool:
        """Have a workload removed that has no row any more, or one at its end. False: its row still stands."""
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
