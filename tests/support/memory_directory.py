"""A directory for what tests write and nobody will miss: in memory, where the machine has room there.

A database is some three hundred files. Where each test makes and drops one, a file system on a disk is busier with
them than PostgreSQL is with the tests: ext4 without a journal looks long for inodes that were not in use just before.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # Linux: a tmpfs (shm_overview(7)); in a container often of 64 MiB only
ROOM_BYTES = 1 << 30  # a cluster takes 0.1 to 0.5 GiB
PREFIX = "session-service-tests-"


class MemoryDirectory:
    """``path``: new and empty, until ``remove``. Where memory has no room it is ``fallback``, made and left there.

    One whose process was killed is removed when the next is made: whoever lives holds a lock on his (flock(2)).
    """

    def __init__(self, fallback: Path, *, memory: Path = MEMORY) -> None:
        self._lock: int | None = None
        if not _has_room(memory):
            self.path = fallback
            fallback.mkdir(parents=True, exist_ok=True)
            return
        for other in memory.glob(f"{PREFIX}*"):
            _remove_unless_held(other)
        # It gets the name under which others look for it only when it is held.
        fresh = Path(tempfile.mkdtemp(prefix=f"new-{PREFIX}", dir=memory))
        self._lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = fresh.rename(memory / fresh.name.removeprefix("new-"))

    def remove(self) -> None:
        """What is in memory goes; what is not is left to whoever gave the fallback."""
        if self._lock is not None:
            shutil.rmtree(self.path)
            os.close(self._lock)
            self._lock = None


def _has_room(memory: Path) -> bool:
    try:
        return os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= ROOM_BYTES
    except FileNotFoundError:
        return False


def _remove_unless_held(directory: Path) -> None:
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # gone since, none of ours, or another user's
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)  # another one may be at it too
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
