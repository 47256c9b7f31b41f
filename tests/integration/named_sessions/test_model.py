"""The service against a plain model: whatever is called in whatever order, on whichever of two pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import redis.asyncio as redis_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from session_service.domain.named_session import title_fault
from tests.integration.named_sessions.conftest import MakePod
from tests.support.active_sessions import ActiveSessions
from tests.support.named_client import NamedClient
from tests.support.service import Service

USERS = st.integers(1, 3)
PODS = st.integers(0, 1)
# Few, so that they meet; and odd ones.
TITLES = st.sampled_from(["a", "b", "active", "a/b", "a%2Fb", "..", "é 😀", "+", "'", "\n"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)


class UserModel:
    """What document 004 says of one user, in a dictionary from titles to ids."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.active: str | None = None

    def create(self, title: str) -> int:
        if title_fault(title):
            return 422
        if title in self.ids:
            return 409
        self.active = title
        return 200

    def switch(self, title: str) -> int:
        if title not in self.ids:
            return 422 if title_fault(title) else 404
        self.active = title
        return 200

    def delete(self, title: str) -> int:
        if title not in self.ids:
            return 422 if title_fault(title) else 404
        if title == self.active:
            return 400
        del self.ids[title]
        return 200


def machine(
    pods: list[Service], truth: ActiveSessions, redis: redis_asyncio.Redis, loop: asyncio.AbstractEventLoop
) -> type[RuleBasedStateMachine]:
    """Runs in a thread of its own, beside the pods' loop. Each example has users of its own."""
    examples = 0

    async def made(call: Awaitable[Any]) -> Any:
        return await call

    def run(call: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(made(call), loop).result(30)

    class NamedSessions(RuleBasedStateMachine):
        def __init__(self) -> None:
            nonlocal examples
            super().__init__()
            examples += 1
            self.first_user = 10 * examples
            self.models = {user: UserModel() for user in range(1, 4)}

        def client(self, pod: int, user: int) -> NamedClient:
            return NamedClient(pods[pod], self.first_user + user)

        @rule(pod=PODS, user=USERS, title=TITLES)
        def create(self, pod: int, user: int, title: str) -> None:
            status, body = run(self.client(pod, user).try_create(title))
            model = self.models[user]
            assert status == model.create(title)
            if status == 200:
                assert {**body, "id": None} == {
                    "id": None,
                    "user_id": self.first_user + user,
                    "title": title,
                    "active": True,
                }
                model.ids[title] = body["id"]

        @rule(pod=PODS, user=USERS, title=TITLES.filter(bool))
        def switch(self, pod: int, user: int, title: str) -> None:
            status, body = run(self.client(pod, user).try_switch(title))
            assert status == self.models[user].switch(title)
            if status == 200:
                said = f"'{title}' set as active session for user_id={self.first_user + user}"
                assert body == {"detail": said}

        @rule(pod=PODS, user=USERS, title=TITLES.filter(bool))
        def delete(self, pod: int, user: int, title: str) -> None:
            status, body = run(self.client(pod, user).try_delete(title))
            assert status == self.models[user].delete(title)
            if status == 200:
                assert body == {"detail": "Session deleted successfully"}

        @rule()
        def empty_redis(self) -> None:
            run(redis.flushall())

        @rule(user=USERS)
        def lose_the_entry(self, user: int) -> None:
            run(redis.delete(f"session:active:user:{self.first_user + user}"))

        @invariant()
        def every_pod_knows_the_active_one(self) -> None:
            for user, model in self.models.items():
                for pod in (0, 1):
                    status, body = run(self.client(pod, user).try_active())
                    if model.active is None:
                        assert status == 404
                    else:
                        assert (status, body) == (200, model.ids[model.active])

        @invariant()
        def the_list_is_right(self) -> None:
            for user, model in self.models.items():
                listed = run(self.client(0, user).sessions())
                assert {one["title"]: one["id"] for one in listed} == model.ids
                assert [one["title"] for one in listed] == list(model.ids)
                assert [one["title"] for one in listed if one["active"]] == ([model.active] if model.ids else [])

        def teardown(self) -> None:
            run(truth.come_to_rest())

    return NamedSessions


async def test_two_pods_are_as_the_model(
    make_pod: MakePod, truth: ActiveSessions, redis: redis_asyncio.Redis
) -> None:
    pods = [await make_pod("pod-1"), await make_pod("pod-2")]
    for pod in pods:
        await truth.is_believed(pod)
    made = machine(pods, truth, redis, asyncio.get_running_loop())
    limits = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, made, settings=limits)
