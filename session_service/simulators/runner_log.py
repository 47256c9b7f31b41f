"""Logs of simulators: bounded in size and in number."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path

LIMIT_BYTES = 1024 * 1024  # of one file; a simulator has two at most, NAME.log and NAME.log.1
KEPT_FILES = 100
TAIL_LINES = 5
TAIL_LINE_CHARACTERS = 300


class SimulatorLog:
    """Takes one simulator's output. Without a directory it goes to our own standard error.

    ``secret`` never reaches the tail that is told to others.
    """

    def __init__(self, directory: Path | None, simulator_id: str, *, secret: str) -> None:
        self._path = directory / f"{simulator_id}.log" if directory is not None else None
        self._file = self._path.open("ab", buffering=0) if self._path is not None else None
        self._secret = secret
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def write(self, line: bytes, *, telling: bool) -> None:
        """Append a line. ``telling``: it may explain an end (standard error does)."""
        if telling and line.strip():
            self._tail.append(line.decode(errors="replace").strip()[:TAIL_LINE_CHARACTERS])
        if self._file is None or self._path is None:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            return
        try:
            if self._file.closed:  # an earlier change of files failed half-way
                self._file = self._path.open("ab", buffering=0)
            if self._file.tell() + len(line) > LIMIT_BYTES:
                self._file.close()
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line)
        except OSError:
            return  # a full disk stops no simulator

    def tail(self) -> str:
        """The last lines that explain, in one line, without the secret."""
        text = " | ".join(self._tail)
        return text.replace(self._secret, "***") if self._secret else text

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def prune(directory: Path) -> None:
    """Keep the newest 100 files of former simulators."""
    found = sorted(directory.glob("*.log*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[KEPT_FILES:]:
        path.unlink(missing_ok=True)
