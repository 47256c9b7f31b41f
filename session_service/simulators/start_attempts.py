"""What this pod has tried for each start: for how long, and when it may try again. No I/O."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable

import msgspec

from session_service.aiokit.backoff import Backoff

# Where simulators run cannot be asked, or did not do it. Once it is there again all come back within a few seconds.
BACKEND_BACKOFF = Backoff(first_s=1.0, max_s=8.0, jitter=0.5)
# StartSimulator went unanswered: the simulator was there just now, and most often is again in a moment.
EXCHANGE_BACKOFF = Backoff(first_s=0.25, max_s=4.0, jitter=0.5)
# A watch may be silent, and not known to be, for most of a start's time: something between holds its connection open.
LOOK_EVERY_S = 15.0

LONGEST_PATIENCE_S = 30.0  # whatever a refusal asks for: a start's own limit has to be looked at


class _Attempt(msgspec.Struct):
    spent_s: float = 0.0
    since: float | None = None  # None: it is not being tried
    failures: int = 0
    not_before: float = 0.0
    looked_s: float = 0.0  # how long it had been tried when its platform was asked last


class StartAttempts:
    """By simulator id; ``clock`` in seconds. Memory is bounded by what is on its way here: ``forget`` ends each.

    Another pod that takes a start over begins at 0 again: of the time before it knows nothing, and the limit on a
    start only has to end one that nobody gets on with.
    """

    def __init__(self, clock: Callable[[], float], random: Callable[[], float] = random_module.random) -> None:
        self._clock = clock
        self._random = random
        self._attempts: dict[str, _Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def __contains__(self, simulator_id: str) -> bool:
        return simulator_id in self._attempts

    def spent_s(self, simulator_id: str) -> float:
        """For how long it has been tried, pauses left out; from the first call on, and after a pause again."""
        attempt = self._attempts.setdefault(simulator_id, _Attempt())
        now = self._clock()
        if attempt.since is None:
            attempt.since = now
        return attempt.spent_s + now - attempt.since

    def is_look_due(self, simulator_id: str) -> bool:
        """Whether its platform is to be asked itself, whatever the watch has told: after each ``LOOK_EVERY_S``."""
        spent_s = self.spent_s(simulator_id)
        return spent_s - self._attempts[simulator_id].looked_s >= LOOK_EVERY_S

    def looked(self, simulator_id: str) -> None:
        """Its platform has been asked just now."""
        spent_s = self.spent_s(simulator_id)
        self._attempts[simulator_id].looked_s = spent_s

    def pause(self, simulator_id: str) -> None:
        """It waits for its slot: however long that takes, it is no failure of its own."""
        attempt = self._attempts.get(simulator_id)
        if attempt is not None and attempt.since is not None:
            attempt.spent_s += self._clock() - attempt.since
            attempt.since = None

    def failed(self, simulator_id: str, backoff: Backoff, at_least_s: float = 0.0) -> float:
        """In how many seconds to try again: the longer, the more often it failed in a row, and never before
        ``at_least_s``, which whoever refused has asked for, up to ``LONGEST_PATIENCE_S``.
        """
        attempt = self._attempts.setdefault(simulator_id, _Attempt())
        attempt.failures += 1
        delay_s = max(backoff.delay_s(attempt.failures, self._random), min(at_least_s, LONGEST_PATIENCE_S))
        attempt.not_before = self._clock() + delay_s
        return delay_s

    def answered(self, simulator_id: str) -> None:
        """What failed before has been done: the next failure is a first one."""
        attempt = self._attempts.get(simulator_id)
        if attempt is not None:
            attempt.failures, attempt.not_before = 0, 0.0

    def due_in_s(self, simulator_id: str) -> float:
        """For how long yet it is not to be tried; 0 where it may be."""
        attempt = self._attempts.get(simulator_id)
        return 0.0 if attempt is None else max(0.0, attempt.not_before - self._clock())

    def forget(self, simulator_id: str) -> None:
        """It runs, is at its end, or is another pod's."""
        self._attempts.pop(simulator_id, None)
