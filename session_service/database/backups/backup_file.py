"""The file of a backup: it comes to be whole or not at all, and is known to be whole before it is used."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from session_service.database.backups import manifest as manifests
from session_service.database.backups.manifest import Manifest
from session_service.errors import BackupError

_CHUNK_BYTES = 1024 * 1024


class NewBackupFile:
    """A file of mode 0600 beside ``path`` that takes its name with ``keep``, once it is written to the disk.

    Use as a context manager: what was not kept is removed, whatever happened; only SIGKILL leaves ``path.….partial``.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        self._path = path
        self._replace = replace

    def __enter__(self) -> NewBackupFile:
        """Raises BackupError where ``path`` is there and not to be replaced, OSError where nothing can be written."""
        self._refuse_existing()
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f"{self._path.name}.", suffix=".partial")
        self._temporary = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "w+b")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.file.close()
        self._temporary.unlink(missing_ok=True)

    def append(self, content: bytes) -> None:
        self.file.seek(0, os.SEEK_END)
        self.file.write(content)

    def keep(self) -> None:
        """Raises as the start does: ``path`` may have come to be meanwhile."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self._refuse_existing()
        self._temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _refuse_existing(self) -> None:
        if self._path.exists() and not self._replace:
            raise BackupError(f"{self._path} is there already: name another file, or say --force to replace it")


async def sha256_of(file: BinaryIO, length_bytes: int) -> str:
    """Of so many bytes from the file's start, or of all there are. It can be cancelled between two chunks."""
    digest = hashlib.sha256()
    file.seek(0)
    left = length_bytes
    while chunk := file.read(min(_CHUNK_BYTES, left)):
        digest.update(chunk)
        left -= len(chunk)
        await asyncio.sleep(0)
    return digest.hexdigest()


async def read_manifest(path: Path) -> Manifest:
    """What a whole backup says of itself. Raises BackupError for a file that is none, or not as it was written.

    Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        length_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, length_bytes - manifests.LIMIT_BYTES))
        manifest = manifests.decode(file.read())
        if manifest is None:
            raise BackupError(
                f"{path} has no manifest at its end: it is cut off, or is no file of `session-service backup` of this"
                " or an earlier release (what pg_dump alone has written is for pg_restore)"
            )
        if await sha256_of(file, manifest.archive_bytes) != manifest.archive_sha256:
            raise BackupError(f"{path} is not as it was written: its archive has not the SHA-256 that it states")
    return manifest
