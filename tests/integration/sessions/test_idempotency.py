"""Calls repeated, doubled and late: every answer is one that docs/rest.md gives, and one thing is made once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from tests.support.api_client import ApiClient
from tests.support.invariants import check_invariants
from tests.support.servers import Database
from tests.support.service import Service

STEPS = 30
LIVE = {"CREATING", "STARTING", "RUNNING"}


@dataclass
class Device:
    """What the model knows of one device of the user. ``over``: ids of its sessions that ended or ran out."""

    name: str
    session_id: str | None = None
    ran_out: bool = False
    over: set[str] = field(default_factory=set)

    @property
    def is_live(self) -> bool:
        return self.session_id is not None and not self.ran_out

    def end(self) -> None:
        assert self.session_id is not None
        self.over.add(self.session_id)
        self.session_id = None
        self.ran_out = False


class Caller:
    """One user whose calls come several at a time, as from tabs that doubled them or lost a reply."""

    def __init__(self, api: ApiClient, sql: asyncpg.Pool, random_: random.Random) -> None:
        self.api = api
        self.sql = sql
        self.random = random_

    async def call(self, method: str, path: str, **options: Any) -> list[tuple[int, dict[str, Any]]]:
        times = self.random.choice((1, 1, 2, 4))
        return await asyncio.gather(*(self.api.call(method, path, **options) for _ in range(times)))

    async def open(self, device: Device) -> None:
        answers = await self.call("POST", "/api/sessions", json={"deviceId": device.name})
        ids = {body["sessionId"] for _status, body in answers}
        assert len(ids) == 1, answers
        made = Counter(status for status, _body in answers)
        if device.is_live:
            assert made == {200: len(answers)}
            assert ids == {device.session_id}
            return
        if device.session_id is not None:
            device.end()
        assert made == Counter({201: 1, 200: len(answers) - 1})
        assert [body["isNew"] for status, body in answers if status == 201] == [True]
        (device.session_id,) = ids
        assert device.session_id not in device.over, "nothing revives a session"

    async def end(self, device: Device) -> None:
        answers = await self.call("DELETE", f"/api/sessions/{device.session_id}")
        statuses = Counter(status for status, _body in answers)
        assert statuses == Counter({200: 1, 404: len(answers) - 1}) or (
            device.ran_out and set(statuses) <= {200, 404} and statuses[200] <= 1
        ), statuses
        device.end()

    async def end_by_device(self, device: Device) -> None:
        answers = await self.call("DELETE", f"/api/sessions?deviceId={device.name}")
        assert {status for status, _body in answers} == {200}
        if device.session_id is not None:
            device.end()

    async def keep_alive(self, device: Device) -> None:
        answers = await self.call("POST", f"/api/sessions/{device.session_id}/keepalive")
        statuses = {status for status, _body in answers}
        assert statuses <= {410, 404} if device.ran_out else statuses == {200}, (device, answers)

    async def use_what_is_over(self, device: Device) -> None:
        """A tab that missed the end."""
        for session_id in device.over:
            for method, path, json in (
                ("POST", f"/api/sessions/{session_id}/keepalive", None),
                ("GET", f"/api/sessions/{session_id}", None),
                ("POST", f"/api/sessions/{session_id}/reconnect", {"deviceId": device.name, "attempt": 1}),
                ("POST", "/api/simulators", {"sessionId": session_id}),
            ):
                status, body = await self.api.call(method, path, json=json)
                assert (status, body["code"]) in {(410, "SESSION_EXPIRED"), (404, "SESSION_NOT_FOUND")}, (path, body)

    async def run_out(self, device: Device) -> None:
        await self.sql.execute(
            "UPDATE session.active_sessions SET expires_at = now() - interval '1 hour' WHERE session_id = $1",
            device.session_id,
        )
        device.ran_out = True

    async def start(self, device: Device) -> None:
        before = await self._live(device)
        answers = await self.call("POST", "/api/simulators", json={"sessionId": device.session_id})
        statuses = Counter(status for status, _body in answers)
        if device.ran_out:
            assert set(statuses) <= {410, 404}, answers
            return
        assert set(statuses) <= {200, 202}, answers
        assert statuses[202] == (0 if before else 1), (before, answers)
        ids = {body["simulatorId"] for _status, body in answers}
        assert len(ids) == 1, answers
        assert not before or ids == before

    async def stop(self, device: Device) -> None:
        answers = await self.call("DELETE", f"/api/simulators?sessionId={device.session_id}")
        statuses = {status for status, _body in answers}
        assert statuses <= {410, 404} if device.ran_out else statuses == {200}, answers
        assert device.ran_out or not await self._live(device)

    async def fail_or_hang(self, device: Device) -> None:
        """Its simulator is found in ERROR, or on its way out."""
        await self.sql.execute(
            "UPDATE simulator.instances SET status = $2, target = 'STOPPED', reason = 'by hand' "
            "WHERE session_id = $1 AND target = 'RUNNING'",
            device.session_id,
            self.random.choice(("ERROR", "STOPPING")),
        )

    async def _live(self, device: Device) -> set[str]:
        rows = await self.sql.fetch(
            "SELECT simulator_id FROM simulator.instances WHERE session_id = $1 AND status = ANY ($2)",
            device.session_id,
            list(LIVE),
        )
        return {row["simulator_id"] for row in rows}


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_repeated_is_answered_as_the_first_or_as_what_it_came_to(
    make_service: Callable[..., Any], database: Database, seed: int
) -> None:
    service: Service = await make_service(MAX_SESSIONS_PER_USER="100", MAX_SIMULATORS_PER_USER="100")
    random_ = random.Random(seed)
    devices = [Device(f"device-{number}") for number in range(3)]

    async def life(caller: Caller, device: Device) -> None:
        for _ in range(STEPS):
            anytime = [caller.open, caller.open, caller.end_by_device, caller.use_what_is_over]
            with_a_session = [
                caller.end,
                caller.keep_alive,
                caller.run_out,
                caller.start,
                caller.start,
                caller.stop,
                caller.fail_or_hang,
            ]
            await random_.choice(anytime + (with_a_session * 2 if device.session_id else []))(device)

    async with asyncpg.create_pool(database.owner_dsn, min_size=1, max_size=len(devices)) as sql:
        caller = Caller(ApiClient(service.http), sql, random_)
        for _ in range(2):
            await asyncio.gather(*(life(caller, device) for device in devices))
            await check_invariants(database.owner_dsn)
