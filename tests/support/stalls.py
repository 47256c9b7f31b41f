"""What a busy machine takes from those who run on it: a limit is to hold for the product, not for the machine."""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType
from typing import NamedTuple

TICK_S = 0.01
LATE_S = 0.03  # a thread that wakes up by so much too late was kept from running


class _Stall(NamedTuple):
    begin_s: float  # time.monotonic()
    end_s: float


class Stalls:
    """When the machine kept this process from running; ``with``.

    A thread does nothing but sleep, and notes when it was not woken in time. Work of this process itself is no stall:
    the interpreter gives each of its threads its turn within milliseconds.
    """

    def __init__(self) -> None:
        self._stalls: list[_Stall] = []
        self._due_s = time.monotonic() + TICK_S
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Stalls:
        self._due_s = time.monotonic() + TICK_S
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def took_s(self, begin_s: float, end_s: float | None = None) -> float:
        """How much of the time between two moments of ``time.monotonic()``, or until now, the process could run."""
        until_s = time.monotonic() if end_s is None else end_s
        # The last one may not be over for the thread yet, which has not had its turn since.
        last = _Stall(self._due_s, time.monotonic())
        known = itertools.takewhile(lambda stall: stall.end_s > begin_s, reversed(self._stalls))
        stalled_s = sum(
            max(0.0, min(until_s, stall.end_s) - max(begin_s, stall.begin_s))
            for stall in (last, *known)
            if stall.end_s - stall.begin_s >= LATE_S
        )
        return until_s - begin_s - stalled_s

    def _watch(self) -> None:
        while not self._ending.is_set():
            self._due_s = time.monotonic() + TICK_S
            time.sleep(TICK_S)
            stall = _Stall(self._due_s, time.monotonic())
            if stall.end_s - stall.begin_s >= LATE_S:
                self._stalls.append(stall)
