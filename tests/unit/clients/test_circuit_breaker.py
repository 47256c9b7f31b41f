import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from session_service.aiokit.backoff import Backoff
from session_service.clients.circuit_breaker import BreakerMachine, BreakerState, CircuitBreaker
from session_service.errors import AuthenticationError, CircuitOpenError

THRESHOLD = 3
FIRST_OPEN_S = 1.0
LONGEST_OPEN_S = 8.0


class AnyHistory(RuleBasedStateMachine):
    """Calls that start, succeed, fail and are cancelled in any order, at any time."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.machine = BreakerMachine(
            failure_threshold=THRESHOLD,
            open_time=Backoff(first_s=FIRST_OPEN_S, max_s=LONGEST_OPEN_S, jitter=0.0),
            random=lambda: 0.5,
        )
        self.failures_in_a_row = 0
        self.probe: int | None = None
        self.opened_at_s: float | None = None
        self.openings = 0

    @rule(target=permits)
    def a_call(self) -> object:
        before = self.machine.state
        permit = self.machine.admit(self.now_s)
        if before is BreakerState.CLOSED:
            assert permit is not None, "a closed breaker lets every call through"
        elif before is BreakerState.HALF_OPEN:
            assert permit is None, "one probe at a time"
        elif permit is not None:
            assert self.opened_at_s is not None
            open_s = min(FIRST_OPEN_S * 2 ** (self.openings - 1), LONGEST_OPEN_S)
            assert self.now_s >= self.opened_at_s + open_s, "a probe before its time"
            self.probe = permit
        else:
            assert self.machine.retry_after_s(self.now_s) >= 1
        return multiple() if permit is None else permit

    @rule(permit=consumes(permits))
    def it_succeeds(self, permit: int) -> None:
        before = self.machine.state
        self.machine.succeeded(permit)
        if self.probe == permit:
            assert self.machine.state is BreakerState.CLOSED
            self.probe, self.openings, self.failures_in_a_row = None, 0, 0
        elif before is not BreakerState.CLOSED:
            assert self.machine.state is before, "a call from before the opening says nothing"

    @rule(permit=consumes(permits))
    def it_fails(self, permit: int) -> None:
        before = self.machine.state
        self.machine.failed(permit, self.now_s)
        if before is BreakerState.CLOSED and self.machine.state is BreakerState.OPEN:
            self._opened()
        elif self.probe == permit:
            assert self.machine.state is BreakerState.OPEN
            self._opened()
        elif before is not BreakerState.CLOSED:
            assert self.machine.state is before

    @rule(permit=consumes(permits))
    def it_is_cancelled(self, permit: int) -> None:
        before = self.machine.state
        self.machine.released(permit)
        if self.probe == permit:
            self.probe = None
            assert self.machine.state is BreakerState.OPEN
        else:
            assert self.machine.state is before

    @rule(passed_s=st.sampled_from([0.1, 0.5, 1.0, 2.0, 9.0]))
    def time_passes(self, passed_s: float) -> None:
        self.now_s += passed_s

    @invariant()
    def the_probe_is_the_only_way_out_of_half_open(self) -> None:
        assert (self.machine.state is BreakerState.HALF_OPEN) == (self.probe is not None)

    def _opened(self) -> None:
        self.opened_at_s, self.probe = self.now_s, None
        self.openings += 1


TestAnyHistory = AnyHistory.TestCase


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def fails() -> None:
    raise OSError("down")


async def answers() -> str:
    return "answer"


def breaker(clock: Clock, changes: list[tuple[str, int]], *, jitter: float = 0.0) -> CircuitBreaker:
    return CircuitBreaker(
        "auth",
        clock=clock,
        failure_threshold=2,
        open_s=1.0,
        max_open_s=4.0,
        jitter=jitter,
        random=lambda: 1.0,
        is_failure=lambda error: not isinstance(error, AuthenticationError),
        on_change=lambda service, state: changes.append((service, state)),
    )


async def open_it(it: CircuitBreaker) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            await it.call(fails)


async def test_opens_at_the_threshold_and_closes_with_a_probe() -> None:
    clock = Clock()
    changes: list[tuple[str, int]] = []
    it = breaker(clock, changes)
    assert await it.call(answers) == "answer"
    await open_it(it)
    called: list[None] = []

    async def must_not_be_called() -> None:
        called.append(None)

    with pytest.raises(CircuitOpenError) as refused:
        await it.call(must_not_be_called)
    assert called == []
    assert (refused.value.service, refused.value.retry_after_s) == ("auth", 1)
    clock.now_s += 1.0
    assert await it.call(answers) == "answer"
    assert it.state is BreakerState.CLOSED
    assert changes == [("auth", 0), ("auth", 1), ("auth", 2), ("auth", 0)]


async def test_a_success_between_starts_the_count_again() -> None:
    it = breaker(Clock(), [])
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            await it.call(fails)
        await it.call(answers)
    assert it.state is BreakerState.CLOSED


async def test_the_open_time_doubles_to_its_cap_with_jitter() -> None:
    clock = Clock()
    it = breaker(clock, [], jitter=0.5)
    await open_it(it)
    waited = []
    for _ in range(4):
        start = clock.now_s
        while it.state is BreakerState.OPEN:
            clock.now_s += 0.25
            try:
                await it.call(fails)
            except OSError:
                break
            except CircuitOpenError:
                continue
        waited.append(clock.now_s - start)
    assert waited == [1.5, 3.0, 6.0, 6.0]  # 1, 2, 4, 4 s and half as much again


async def test_only_one_of_many_callers_probes() -> None:
    clock = Clock()
    it = breaker(clock, [])
    await open_it(it)
    clock.now_s += 1.0
    gate = asyncio.Event()
    calls: list[None] = []

    async def slow() -> None:
        calls.append(None)
        await gate.wait()

    callers = [asyncio.create_task(it.call(slow)) for _ in range(50)]
    await asyncio.sleep(0)
    assert len(calls) == 1
    assert it.state is BreakerState.HALF_OPEN
    gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 49


async def test_a_cancelled_probe_leaves_its_place_to_the_next() -> None:
    clock = Clock()
    it = breaker(clock, [])
    await open_it(it)
    clock.now_s += 1.0
    probe = asyncio.create_task(it.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await it.call(answers) == "answer"
    assert it.state is BreakerState.CLOSED


async def test_a_slow_success_from_before_does_not_close_it() -> None:
    clock = Clock()
    it = breaker(clock, [])
    gate = asyncio.Event()
    slow = asyncio.create_task(it.call(gate.wait))
    await asyncio.sleep(0)
    await open_it(it)
    gate.set()
    await slow
    assert it.state is BreakerState.OPEN


async def test_an_answer_that_is_an_exception_is_no_fault() -> None:
    it = breaker(Clock(), [])

    async def refuses() -> None:
        raise AuthenticationError("no")

    for _ in range(5):
        with pytest.raises(AuthenticationError):
            await it.call(refuses)
    assert it.state is BreakerState.CLOSED


async def test_a_reset_closes_it_and_forgets_how_often_it_opened() -> None:
    clock = Clock()
    it = breaker(clock, [])
    await open_it(it)
    it.reset()
    assert it.state is BreakerState.CLOSED
    assert await it.call(answers) == "answer"
    await open_it(it)
    clock.now_s += FIRST_OPEN_S
    assert await it.call(answers) == "answer"


async def test_a_probe_that_fails_after_a_reset_does_not_open_it() -> None:
    clock = Clock()
    it = breaker(clock, [])
    await open_it(it)
    clock.now_s += FIRST_OPEN_S
    gate = asyncio.Event()

    async def fails_late() -> None:
        await gate.wait()
        raise OSError

    probe = asyncio.create_task(it.call(fails_late))
    await asyncio.sleep(0)
    it.reset()
    gate.set()
    with pytest.raises(OSError):  # noqa: PT011 - the very one
        await probe
    assert it.state is BreakerState.CLOSED
