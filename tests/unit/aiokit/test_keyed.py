import asyncio
from collections import Counter

import looptime
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from session_service.aiokit.backoff import Backoff
from session_service.aiokit.keyed import KeyedQueue

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


class Runs:
    """Records when each key ran; a run lasts ``lasts_s``."""

    def __init__(self, lasts_s: float = 1.0) -> None:
        self.lasts_s = lasts_s
        self.started: list[tuple[str, float]] = []
        self.running: Counter[str] = Counter()
        self.most_at_once = 0

    async def __call__(self, key: str) -> None:
        self.started.append((key, now()))
        self.running[key] += 1
        self.most_at_once = max(self.most_at_once, self.running.total())
        assert self.running[key] == 1, "two runners for one key"
        try:
            await asyncio.sleep(self.lasts_s)
        finally:
            self.running[key] -= 1


async def test_pokes_of_a_waiting_key_are_one() -> None:
    runs = Runs()
    queue = KeyedQueue("q", runs)
    for _ in range(5):
        queue.poke("a")
    await queue.join()
    assert runs.started == [("a", 0)]
    await queue.close()


async def test_pokes_of_a_running_key_make_it_run_once_more() -> None:
    runs = Runs()
    queue = KeyedQueue("q", runs)
    queue.poke("a")
    await asyncio.sleep(0.5)
    for _ in range(5):
        queue.poke("a")
    await queue.join()
    assert runs.started == [("a", 0), ("a", 1)]
    await queue.close()


async def test_no_more_than_its_concurrency_run_and_the_first_poked_is_first() -> None:
    runs = Runs()
    queue = KeyedQueue("q", runs, concurrency=2)
    for key in "abcde":
        queue.poke(key)
    assert len(queue) == 5
    await queue.join()
    assert runs.most_at_once == 2
    assert runs.started == [("a", 0), ("b", 0), ("c", 1), ("d", 1), ("e", 2)]
    await queue.close()


@pytest.mark.parametrize("delays_s", [(5, 30), (30, 5)])
async def test_of_several_plans_the_earliest_counts(delays_s: tuple[float, ...]) -> None:
    runs = Runs()
    queue = KeyedQueue("q", runs)
    for delay_s in delays_s:
        queue.poke_later("a", delay_s)
    await asyncio.sleep(100)
    assert runs.started == [("a", 5)]
    await queue.close()


async def test_a_poke_replaces_a_plan() -> None:
    runs = Runs()
    queue = KeyedQueue("q", runs)
    queue.poke_later("a", 5)
    queue.poke("a")
    await asyncio.sleep(100)
    assert runs.started == [("a", 0)]
    await queue.close()


async def test_a_plan_that_comes_due_while_its_key_runs_makes_it_run_again() -> None:
    runs = Runs(lasts_s=10)
    queue = KeyedQueue("q", runs)
    queue.poke("a")
    queue.poke_later("a", 5)
    await asyncio.sleep(100)
    assert runs.started == [("a", 0), ("a", 10)]
    await queue.close()


async def test_a_runner_that_raises_is_tried_again_and_disturbs_no_other() -> None:
    started: list[tuple[str, float]] = []
    errors: list[tuple[str, str]] = []

    async def run(key: str) -> None:
        started.append((key, now()))
        if key == "bad" and len(started) < 6:
            raise ValueError(key)

    queue = KeyedQueue(
        "reconciler",
        run,
        backoff=Backoff(first_s=1, max_s=3, jitter=0),
        on_error=lambda name, error: errors.append((name, str(error))),
    )
    with structlog.testing.capture_logs() as logs:
        queue.poke("bad")
        queue.poke("good")
        await asyncio.sleep(100)
    assert [at for key, at in started if key == "bad"] == [0, 1, 3, 6, 9]
    assert [at for key, at in started if key == "good"] == [0]
    assert errors == [("reconciler", "bad")] * 4
    assert [line["failures"] for line in logs] == [1, 2, 3, 4]
    assert {(line["log_level"], line["exc_info"]) for line in logs} == {("error", True)}
    await queue.close()


async def test_what_was_logged_where_it_comes_from_is_for_debugging_only() -> None:
    async def run(_key: str) -> None:
        raise ConnectionError

    queue = KeyedQueue("reconciler", run, logged_at_source=(ConnectionError,))
    with structlog.testing.capture_logs() as logs:
        queue.poke("key")
        await asyncio.sleep(0.1)
    assert [(line["log_level"], line["error"]) for line in logs] == [("debug", "ConnectionError")]
    await queue.close()


async def test_a_discarded_key_is_not_run_again() -> None:
    runs = Runs()
    queue = KeyedQueue("q", runs, concurrency=1)
    queue.poke("running")
    queue.poke("running")
    queue.poke("waiting")
    queue.poke_later("planned", 1)
    for key in ("running", "waiting", "planned"):
        queue.discard(key)
    await asyncio.sleep(10)
    assert runs.started == [("running", 0)]
    await queue.close()


async def test_close_cancels_what_runs_and_drops_the_rest() -> None:
    runs = Runs(lasts_s=100)
    queue = KeyedQueue("q", runs, concurrency=1)
    queue.poke("a")
    queue.poke("b")
    queue.poke_later("c", 1)
    await asyncio.sleep(0.5)
    assert await queue.close() == ()
    queue.poke("late")
    queue.poke_later("later", 1)
    await asyncio.sleep(10)
    assert runs.started == [("a", 0)]
    assert len(queue) == 0


async def test_close_names_the_keys_that_refuse_to_end() -> None:
    release = asyncio.Event()

    async def refuses(_key: str) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    queue = KeyedQueue("q", refuses)
    queue.poke("stubborn")
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        assert await queue.close(timeout_s=3) == ("stubborn",)
    assert now() == 3
    assert logs[-1]["event"] == "keyed_runners_stuck"
    release.set()
    await queue.join()


actions = st.lists(
    st.tuples(
        st.sampled_from(["poke", "later", "wait"]), st.sampled_from("abcd"), st.sampled_from([0.0, 0.4, 1.0, 2.5])
    )
)


@given(actions, st.integers(1, 3))
@settings(deadline=None)
def test_after_any_pokes_each_key_has_run_since_its_last_one(
    script: list[tuple[str, str, float]], concurrency: int
) -> None:
    async def play() -> None:
        runs = Runs()
        queue = KeyedQueue("q", runs, concurrency=concurrency)
        last_due: dict[str, float] = {}
        for action, key, delay_s in script:
            if action == "poke":
                queue.poke(key)
                last_due[key] = now()
            elif action == "later":
                queue.poke_later(key, delay_s)
                last_due[key] = max(last_due.get(key, 0.0), now())
            else:
                await asyncio.sleep(delay_s)
        await asyncio.sleep(100)
        last_started = dict(runs.started)
        for key, due in last_due.items():
            assert last_started[key] >= due
        assert runs.most_at_once <= concurrency
        await queue.close()

    with asyncio.Runner(loop_factory=lambda: looptime.new_event_loop(start=0.0)) as runner:
        runner.run(play())
