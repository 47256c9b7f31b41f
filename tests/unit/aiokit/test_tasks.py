import asyncio

import pytest
import structlog

from session_service.aiokit.tasks import LoopEnded, TaskGuard

pytestmark = pytest.mark.looptime


def middle() -> float:
    """A random number that makes every jitter nothing."""
    return 0.5


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_loop_runs_at_once_and_then_at_its_interval() -> None:
    guard, passes = TaskGuard(random=middle), []

    async def body() -> None:
        passes.append(now())
        await asyncio.sleep(1)  # the interval counts from the end of a pass

    guard.every("sweep", 10, body)
    await asyncio.sleep(25)
    assert await guard.close() == ()
    assert passes == pytest.approx([0, 11, 22])


async def test_jitter_moves_each_pass() -> None:
    numbers = iter([0.0, 1.0, 0.5])
    guard, passes = TaskGuard(random=lambda: next(numbers)), []

    async def body() -> None:
        passes.append(now())

    guard.every("sweep", 10, body, jitter=0.2)
    await asyncio.sleep(29)
    await guard.close()
    assert passes == pytest.approx([0, 8, 20])


async def test_a_pass_that_raises_is_told_and_tried_again_with_growing_waits() -> None:
    errors: list[tuple[str, str]] = []
    durations: list[tuple[str, float]] = []
    guard = TaskGuard(
        on_error=lambda name, error: errors.append((name, str(error))),
        on_pass=lambda name, duration_s: durations.append((name, duration_s)),
        random=middle,
    )
    passes: list[float] = []

    async def body() -> None:
        passes.append(now())
        if len(passes) <= 4:
            raise ValueError(f"pass {len(passes)}")
        await asyncio.sleep(0.25)

    with structlog.testing.capture_logs() as logs:
        guard.every("lease", 1, body)
        await asyncio.sleep(13.5)
        await guard.close()
    # 1, 2, 4 and then the cap of 5 s; the interval again after the pass that went well
    assert passes == pytest.approx([0, 1, 3, 7, 12, 13.25])
    assert errors == [("lease", f"pass {number}") for number in range(1, 5)]
    ((name, duration_s),) = durations
    assert name == "lease"
    assert duration_s == pytest.approx(0.25)
    assert [(line["event"], line["failures"]) for line in logs] == [
        ("background_pass_failed", n) for n in range(1, 5)
    ]
    assert guard.failed.cancelled()


@pytest.mark.parametrize(
    ("error", "level", "traceback"),
    [(KeyError, "error", True), (OSError, "error", False), (ConnectionError, "debug", False)],
)
async def test_an_error_is_logged_as_what_is_known_of_it(
    error: type[Exception], level: str, *, traceback: bool
) -> None:
    guard = TaskGuard(random=middle, expected=(OSError,), logged_at_source=(ConnectionError,))

    async def body() -> None:
        raise error

    with structlog.testing.capture_logs() as logs:
        guard.every("lease", 1, body)
        await asyncio.sleep(0.5)
        await guard.close()
    assert [(line["log_level"], line["event"], "exc_info" in line) for line in logs] == [
        (level, "background_pass_failed", traceback)
    ]


async def test_a_slow_loop_that_fails_keeps_its_interval() -> None:
    guard, passes = TaskGuard(random=middle), []

    async def body() -> None:
        passes.append(now())
        raise OSError

    with structlog.testing.capture_logs():
        guard.every("cleanup", 60, body)
        await asyncio.sleep(130)
        await guard.close()
    assert passes == pytest.approx([0, 60, 120])


async def test_a_loop_that_may_not_be_late_keeps_its_interval_too() -> None:
    guard, passes = TaskGuard(random=middle), []

    async def body() -> None:
        passes.append(now())
        raise OSError

    with structlog.testing.capture_logs():
        guard.every("beat", 0.5, body, longest_retry_s=0.0)
        await asyncio.sleep(2.2)
        await guard.close()
    assert passes == pytest.approx([0, 0.5, 1, 1.5, 2])


async def test_a_cancellation_from_within_a_pass_does_not_end_its_loop() -> None:
    guard, passes = TaskGuard(random=middle), []

    async def body() -> None:
        passes.append(now())
        inner = asyncio.ensure_future(asyncio.sleep(100))
        inner.cancel()
        await inner

    with structlog.testing.capture_logs():
        guard.every("stream", 1, body)
        await asyncio.sleep(3.5)
        await guard.close()
    assert passes == pytest.approx([0, 1, 3])


async def test_a_loop_that_returns_resolves_failed() -> None:
    guard = TaskGuard()

    async def returns() -> None:
        await asyncio.sleep(3)

    with structlog.testing.capture_logs() as logs:
        guard.spawn("listener", returns())
        assert await guard.failed == LoopEnded("listener", None)
        assert now() == pytest.approx(3)
        await guard.close()
    assert [line["event"] for line in logs] == ["background_loop_ended"]


async def test_the_first_loop_that_breaks_is_the_one_that_counts() -> None:
    errors: list[str] = []
    guard = TaskGuard(on_error=lambda name, _error: errors.append(name))
    fault = RuntimeError("broken")

    async def breaks(after_s: float) -> None:
        await asyncio.sleep(after_s)
        raise fault

    with structlog.testing.capture_logs():
        guard.spawn("second", breaks(2))
        guard.spawn("first", breaks(1))
        assert await guard.failed == LoopEnded("first", fault)
        await asyncio.sleep(2)
        await guard.close()
    assert errors == ["first", "second"]


async def test_a_loop_that_is_cancelled_on_purpose_is_no_failure() -> None:
    guard = TaskGuard()
    task = guard.spawn("listener", asyncio.sleep(100))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait({task})
    assert not guard.failed.done()
    await guard.close()


async def test_close_waits_for_a_loop_that_cleans_up() -> None:
    guard, ended = TaskGuard(), []

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            ended.append(now())

    guard.spawn("writer", cleans_up())
    await asyncio.sleep(0)
    assert await guard.close(timeout_s=5) == ()
    assert ended == pytest.approx([2])
    assert await guard.close() == ()


async def test_close_leaves_a_loop_that_refuses_to_end() -> None:
    guard, release = TaskGuard(), asyncio.Event()

    async def refuses() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with structlog.testing.capture_logs() as logs:
        task = guard.spawn("stubborn", refuses())
        await asyncio.sleep(0)
        assert await guard.close(timeout_s=5) == ("stubborn",)
    assert now() == pytest.approx(5)
    assert logs[-1]["event"] == "background_loops_stuck"
    release.set()
    await task


async def test_an_error_while_closing_is_logged_and_no_failure() -> None:
    guard = TaskGuard()

    async def breaks_at_the_end() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise RuntimeError("at the end")

    with structlog.testing.capture_logs() as logs:
        guard.spawn("writer", breaks_at_the_end())
        await asyncio.sleep(0)
        assert await guard.close() == ()
    assert [line["event"] for line in logs] == ["background_loop_failed_at_close"]
    assert guard.failed.cancelled()


async def test_a_closed_guard_takes_no_loop() -> None:
    guard = TaskGuard()
    await guard.close()
    with pytest.raises(RuntimeError, match="closed"):
        guard.spawn("late", asyncio.sleep(0))


async def test_an_expected_error_is_logged_without_a_traceback() -> None:
    guard = TaskGuard(random=middle, expected=(ConnectionError,))
    errors = iter([ConnectionRefusedError(), ValueError()])

    async def body() -> None:
        raise next(errors)

    with structlog.testing.capture_logs() as lines:
        guard.every("sweep", 1, body)
        await asyncio.sleep(1.5)
        await guard.close()
    assert [("exc_info" in line, line.get("error")) for line in lines] == [
        (False, "ConnectionRefusedError"),
        (True, None),
    ]
