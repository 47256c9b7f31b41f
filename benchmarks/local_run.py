"""A local run of the product as a process, for benchmarks that measure it from outside."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from session_service.clients.token_signer import sign_token
from session_service.local.ports import is_free

READY_LIMIT_S = 60.0
PORTS = (22_000, 32_000)


class LocalRun:
    """``with LocalRun() as run``: embedded servers and pods, in a data directory of their own.

    ``environ`` goes to the pods. ``ready_s`` is how long it took from the start of the process to the ready line.
    """

    def __init__(self, environ: dict[str, str] | None = None, data_dir: Path | None = None, *, pods: int = 1) -> None:
        self._pods = pods
        self.port = _first_of_free_ports(pods)
        self.url = f"http://127.0.0.1:{self.port}"
        self.ready_s = 0.0
        self._environ = {**os.environ, **(environ or {})}
        self._temporary = TemporaryDirectory() if data_dir is None else None
        self.data_dir = data_dir or Path(self._temporary.name if self._temporary else "") / "data"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> LocalRun:
        began_s = time.monotonic()
        command = [sys.executable, "-m", "session_service", "local"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), "--pods", str(self._pods), "--data-dir", str(self.data_dir)],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("ready "):
            raise RuntimeError("the local run did not become ready")
        self.ready_s = time.monotonic() - began_s
        self._description = json.loads((self.data_dir / "local.json").read_text(encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def pod_pid(self) -> int:
        pid: int = self._description["pods"][0]["pid"]
        return pid

    @property
    def pod_pids(self) -> list[int]:
        """In the order of the ports, of which the first is ``port``."""
        return [pod["pid"] for pod in self._description["pods"]]

    @property
    def postgres_dsn(self) -> str:
        dsn: str = self._description["postgres"]
        return dsn

    @property
    def redis_url(self) -> str:
        url: str = self._description["redis"]
        return url

    @property
    def secret_key(self) -> str:
        key: str = self._description["secret_key"]
        return key

    def token(self, user_id: str, ttl_s: float = 7200) -> str:
        return sign_token(self.secret_key, "HS256", user_id, now_s=time.time(), ttl_s=ttl_s)

    def bearer(self, user_id: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user_id)}"}


def _first_of_free_ports(count: int) -> int:
    """As many in a row as there are pods, below the ports that outgoing connections take (32,768 and up on Linux)."""
    while True:
        first = random.randrange(*PORTS)
        if all(is_free(port) for port in range(first, first + count)):
            return first
