"""Stop calling a dependency that fails, and find out with one call at a time whether it is back.

``BreakerMachine`` is the rule, without a clock or a loop of its own; ``CircuitBreaker`` puts it around awaitables.
"""

from __future__ import annotations

import math
import random as random_module
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TypeVar

from session_service.aiokit.backoff import Backoff
from session_service.errors import CircuitOpenError

T = TypeVar("T")


class BreakerState(IntEnum):
    """The numbers are those of the metric ``session_circuit_breaker_state``."""

    CLOSED = 0  # calls pass; failures in a row are counted → OPEN by `failed`
    OPEN = 1  # no call passes until its time is over → HALF_OPEN by `admit`, CLOSED by `reset`
    HALF_OPEN = 2  # one probe is under way → CLOSED by `succeeded` or `reset`, OPEN by `failed` or `released`


class BreakerMachine:
    """The state machine: every method takes ``now_s``, monotonic seconds.

    A call is admitted with a permit and ends in exactly one of ``succeeded``, ``failed`` or ``released``. A permit of
    an earlier state says nothing about the present one: a slow success from before must not close an open breaker.
    """

    def __init__(self, *, failure_threshold: int, open_time: Backoff, random: Callable[[], float]) -> None:
        if failure_threshold < 1:
            raise ValueError("failure_threshold must be at least 1")
        self.state = BreakerState.CLOSED
        self._failure_threshold = failure_threshold
        self._open_time = open_time
        self._random = random
        self._failures = 0  # in a row, while closed
        self._openings = 0  # in a row, without a success between
        self._open_until_s = 0.0
        self._generation = 0  # grows with every change of state

    def admit(self, now_s: float) -> int | None:
        """A permit, or None: the call must not be made. Takes the half-open state's only place."""
        if self.state is BreakerState.OPEN and now_s >= self._open_until_s:
            self._change(BreakerState.HALF_OPEN)
            return self._generation
        return self._generation if self.state is BreakerState.CLOSED else None

    def succeeded(self, permit: int) -> None:
        """The dependency answered."""
        if permit != self._generation:
            return
        self._failures = 0
        if self.state is BreakerState.HALF_OPEN:
            self._openings = 0
            self._change(BreakerState.CLOSED)

    def failed(self, permit: int, now_s: float) -> None:
        """The dependency failed. Opens at the threshold, and at once where the call was the probe."""
        if permit != self._generation:
            return
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._failure_threshold:
            self._openings += 1
            self._open_until_s = now_s + self._open_time.delay_s(self._openings, self._random)
            self._change(BreakerState.OPEN)

    def released(self, permit: int) -> None:
        """The call ended without telling anything (it was cancelled): the next caller may probe at once."""
        if permit == self._generation and self.state is BreakerState.HALF_OPEN:
            # `_open_until_s` has passed already, so the next `admit` gives out a new probe.
            self._change(BreakerState.OPEN)

    def reset(self) -> None:
        """The dependency answered a call that was made without a permit: it is well."""
        if self.state is not BreakerState.CLOSED:
            self._openings = 0
            self._change(BreakerState.CLOSED)

    def retry_after_s(self, now_s: float) -> int:
        """Whole seconds, at least 1, until asking again makes sense."""
        return max(1, math.ceil(self._open_until_s - now_s))

    def _change(self, state: BreakerState) -> None:
        self.state = state
        self._failures = 0
        self._generation += 1


def _every_error(_error: Exception) -> bool:
    return True


def _ignore_change(_service: str, _state: int) -> None:
    pass


class CircuitBreaker:
    """A breaker around calls to one ``service``.

    It opens after ``failure_threshold`` failures in a row, for ``open_s``, twice as long each time its probe fails,
    at most ``max_open_s``, ± ``jitter``. ``on_change(service, state)`` is called once at the start and on every
    change (``Metrics.breaker_state``); it must not raise. ``is_failure(error)`` tells a fault of the dependency from
    an answer that happens to be an exception.

    Calls need a deadline of their own inside ``fn``: a cancellation from outside counts neither way.
    """

    def __init__(
        self,
        service: str,
        *,
        clock: Callable[[], float],
        failure_threshold: int = 5,
        open_s: float = 1.0,
        max_open_s: float = 30.0,
        jitter: float = 0.1,
        random: Callable[[], float] = random_module.random,
        is_failure: Callable[[Exception], bool] = _every_error,
        on_change: Callable[[str, int], None] = _ignore_change,
    ) -> None:
        self.service = service
        self._clock = clock
        self._is_failure = is_failure
        self._on_change = on_change
        self._machine = BreakerMachine(
            failure_threshold=failure_threshold,
            open_time=Backoff(first_s=open_s, max_s=max_open_s, jitter=jitter),
            random=random,
        )
        self._told = self._machine.state
        on_change(service, self._told)

    @property
    def state(self) -> BreakerState:
        """OPEN stays until a call probes, also when the open time is over."""
        return self._machine.state

    def reset(self) -> None:
        """Close: the dependency was found to be well by a call that did not pass here."""
        self._machine.reset()
        self._tell()

    async def call(self, fn: Callable[[], Awaitable[T]]) -> T:
        """Await ``fn()`` and return its result, or raise its error.

        Raises CircuitOpenError, without calling ``fn``, while the breaker is open or its probe is under way.
        """
        permit = self._machine.admit(self._clock())
        if permit is None:
            raise CircuitOpenError(self.service, retry_after_s=self._machine.retry_after_s(self._clock()))
        self._tell()
        try:
            result = await fn()
        except Exception as error:  # every error is told to the machine, and goes on to the caller
            if self._is_failure(error):
                self._machine.failed(permit, self._clock())
            else:
                self._machine.succeeded(permit)
            raise
        except BaseException:  # cancelled: the probe's place must not stay taken
            self._machine.released(permit)
            raise
        else:
            self._machine.succeeded(permit)
            return result
        finally:
            self._tell()

    def _tell(self) -> None:
        if self._machine.state is not self._told:
            self._told = self._machine.state
            self._on_change(self.service, self._told)
