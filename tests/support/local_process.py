"""`session-service local` as a child process, for tests that look at processes and at what is left of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from session_service.local.data_directory import RunDescription, read_description
from session_service.local.ports import is_free

BELOW_CONNECTIONS = (22000, 32000)  # net.ipv4.ip_local_port_range begins at 32768
NOTHING_LEFT_LIMIT_S = 30.0
STOP_LIMIT_S = 60.0


class Run:
    """One `session-service local` in a directory."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        pods: int = 1,
        user: str | None = None,
        python: str = sys.executable,
        **environ: str,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(
            [
                *(python, "-m", "session_service", "local"),
                *("--port", str(port), "--pods", str(pods), "--data-dir", str(data_dir)),
            ],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "DRAIN_WINDOW_SECONDS": "1", **environ},
            cwd="/",
            text=True,
            user=user,
            extra_groups=[] if user else None,
        )
        self._family: set[psutil.Process] = set()

    def ready(self) -> RunDescription:
        """Wait for the ready line; it is all that stands on stdout so far."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"ready http://127.0.0.1:{self.port}\n", self.errors()
        self._family = {psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)}
        return self.description()

    def description(self) -> RunDescription:
        return read_description(self.data_dir)

    def family(self) -> set[psutil.Process]:
        """Every process it had when it became ready, and every one it has now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._family |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._family

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.family()
        self.process.send_signal(number)
        return self.process.wait(timeout=STOP_LIMIT_S)

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()
        left = living(self._family)
        deadline = time.monotonic() + NOTHING_LEFT_LIMIT_S
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = living(self._family)
        for process in left:
            process.kill()
        assert not left


def living(processes: set[psutil.Process]) -> set[psutil.Process]:
    """Those that run; a zombie that nobody has reaped does not."""
    found = set()
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.NoSuchProcess:
            continue
    return found


def named(name: str, processes: set[psutil.Process]) -> list[psutil.Process]:
    """Those of this name that are there."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith(name):
                found.append(process)
    return found


def nothing_left(processes: set[psutil.Process]) -> None:
    assert processes
    deadline = time.monotonic() + NOTHING_LEFT_LIMIT_S
    while left := living(processes):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def free_ports(count: int) -> int:
    """The first of ``count`` free neighbours, below those that the kernel gives to connections: nobody takes one
    between this look and a pod's start.
    """
    while True:
        first = random.randrange(*BELOW_CONNECTIONS)
        if all(is_free(port) for port in range(first, first + count)):
            return first
