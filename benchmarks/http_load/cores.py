"""Which core is whose: the load has one, the program under measurement another. For Linux."""

from __future__ import annotations

import contextlib
import os

import psutil


def load_core() -> int:
    return min(os.sched_getaffinity(0))


def program_core() -> int:
    """The same as the load's where there is only one: figures are then of no use, but they are there."""
    return max(os.sched_getaffinity(0))


def pin(pid: int, core: int) -> None:
    """Every thread of the process; those that it starts later follow the thread that starts them."""
    for thread in psutil.Process(pid).threads():
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.sched_setaffinity(thread.id, {core})


def cpu_s(pid: int) -> float:
    """User and system time of the process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
