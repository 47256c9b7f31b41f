"""Faults done to processes: frozen, thawed, killed; always one that the test started, by its id."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import psutil


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """SIGSTOP for the process and its descendants; SIGCONT at the end, whatever happened."""
    members = family(pid)
    for member in members:
        member.suspend()
    try:
        yield
    finally:
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def simulator_process(simulator_id: str) -> psutil.Process:
    """The local process of this simulator, by its environment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SIMULATOR_ID") == simulator_id:
                return process
    raise AssertionError(f"no process of simulator {simulator_id}")
