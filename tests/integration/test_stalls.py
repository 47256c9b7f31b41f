"""The measure that limits of other tests are held against: it sees what the machine does, and nothing else."""

from __future__ import annotations

import os
import subprocess
import time

from tests.support.stalls import Stalls

STOPPED_S = 0.6
WORKED_S = 0.5
FREEZE = f"kill -STOP {{pid}}; sleep {STOPPED_S}; kill -CONT {{pid}}"


def test_time_in_which_the_process_stood_still_is_not_its_own() -> None:
    with Stalls() as stalls:
        began_s = time.monotonic()
        subprocess.run(["sh", "-c", FREEZE.format(pid=os.getpid())], check=True)
        thawed_s = time.monotonic()
        assert thawed_s - began_s >= STOPPED_S
        assert stalls.took_s(began_s, thawed_s) <= thawed_s - began_s - STOPPED_S * 0.9
        assert stalls.took_s(thawed_s) >= 0


def test_work_of_the_process_is_its_own() -> None:
    with Stalls() as stalls:
        began_s, worked_s = time.monotonic(), time.thread_time() + WORKED_S
        while time.thread_time() < worked_s:
            pass
        assert stalls.took_s(began_s) >= WORKED_S / 2  # on a busy machine some of it looks like waiting
