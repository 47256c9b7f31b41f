"""Ends what is left of a local run whose supervisor died without a word (kill -9, out of memory).

Runs as a process of its own and reads lines from its standard input, the other end of which only the supervisor
holds: when that input ends, the supervisor has ended. The kernel's parent-death signals do nearly all of the work on
Linux; the guardian is for what they cannot reach (a server that is stopped, and its children) and for platforms that
have none. It also removes temporary directories.

Lines: ``watch PID START_TIME`` · ``remove DIRECTORY``.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from session_service.aiokit import process_table

GRACE_S = 3.0 if sys.platform == "linux" else 0.0  # for the servers to end by their parent-death signals
POLL_INTERVAL_S = 0.05


class Charge(msgspec.Struct, frozen=True):
    """What to end and to remove."""

    processes: frozenset[tuple[int, str]]
    directories: tuple[Path, ...]


def read_charge(lines: Iterable[str]) -> Charge:
    """Read to the end of the input. A line that is none of ours (cut off by the death) is ignored."""
    processes: set[tuple[int, str]] = set()
    directories: list[Path] = []
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "watch":
            pid, _, started = rest.partition(" ")
            if pid.isdigit() and started:
                processes.add((int(pid), started))
        elif word == "remove" and line.endswith("\n"):
            directories.append(Path(rest))
    return Charge(frozenset(processes), tuple(directories))


def _alive(processes: Iterable[tuple[int, str]]) -> list[int]:
    return [pid for pid, started in processes if process_table.start_time(pid) == started]


def discharge(charge: Charge, *, grace_s: float = GRACE_S) -> None:
    """Wait for the processes to end by themselves, then kill them with everything below them."""
    deadline = time.monotonic() + grace_s
    while (alive := _alive(charge.processes)) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
    family = [member for pid in alive for member in process_table.descendants(pid)]
    for pid in (*alive, *family):
        process_table.kill(pid)
    for directory in charge.directories:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    discharge(read_charge(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
