"""A server under measurement, as a process on the program's core."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec

from benchmarks.http_load.cores import pin, program_core
from session_service.local.ports import free_port

START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0


class Target(msgspec.Struct, frozen=True):
    """Where the load goes, and whose CPU is counted."""

    name: str
    port: int
    pid: int


@contextlib.contextmanager
def server_process(name: str, module: str, **environ: str) -> Iterator[Target]:
    """``python -m MODULE PORT`` until the block ends."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(port)],
        env={**os.environ, **environ},
    )
    try:
        _await_port(port, process)
        pin(process.pid, program_core())
        yield Target(name, port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return
