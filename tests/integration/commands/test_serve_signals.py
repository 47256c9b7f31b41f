"""A signal that comes while `serve` is still starting is not lost."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from session_service.local.ports import free_port

ENDS_WITHIN_S = 30.0
# A program that is told to end in the middle of the imports: by itself, so that the moment is certain.
INTERRUPTED = """
import os, signal, sys
class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == "session_service.server":
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Signal())
from session_service.main import run
sys.exit(run(["serve"]))
"""


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
async def test_a_signal_during_the_imports_ends_the_process_in_order(signal: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INTERRUPTED.format(signal=signal)),
        env={"PATH": os.environ["PATH"], "PORT": str(free_port()), "SIMULATOR_BACKEND": "process"},
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_S)
    assert process.returncode == 0, said.decode()
    assert b"Traceback" not in said
