"""DATA_DIR: everything that a local run keeps, and the lock that keeps a second run out.

```
DATA_DIR/lock           held (flock) by the run; a lock of a dead run falls by itself
DATA_DIR/secrets.json   passwords and the token key, kept so that data and tokens survive a restart
DATA_DIR/local.json     where everything is, while it runs
DATA_DIR/postgres/      the database cluster
DATA_DIR/logs/          one file a process
```
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from session_service.errors import ConfigurationError
from session_service.local.files import PRIVATE_DIRECTORY, PRIVATE_FILE, replace_atomically


class Secrets(msgspec.Struct, frozen=True):
    """What stays the same from run to run in one DATA_DIR."""

    postgres_password: str
    service_password: str
    secret_key: str
    sandbox_password: str = ""  # not in a file of a release before there were sandboxes

    @classmethod
    def generate(cls) -> Secrets:
        return cls(
            postgres_password=secrets.token_urlsafe(24),
            service_password=secrets.token_urlsafe(24),
            secret_key=secrets.token_hex(32),
            sandbox_password=secrets.token_urlsafe(24),
        )


class PodAddress(msgspec.Struct, frozen=True):
    name: str
    pid: int
    url: str


class RunDescription(msgspec.Struct, frozen=True):
    """The content of local.json. Pods stand in port order."""

    url: str
    pods: list[PodAddress]
    postgres: str
    redis: str
    secret_key: str
    supervisor_pid: int
    sandbox_postgres: str


class DataDirectory:
    """A DATA_DIR that this process holds. Use as a context manager: the lock is released at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    def __enter__(self) -> DataDirectory:
        """Make the directory (mode 0700; an existing one keeps its mode) and lock it.

        Raises ConfigurationError where another run holds it, or where it cannot be used.
        """
        try:
            self.path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise ConfigurationError(
                "DATA_DIR", "a directory that can be written", f"{self.path}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
            os.close(lock)
            by = f" by process {holder}" if holder else ""
            raise ConfigurationError(
                "DATA_DIR", "a directory that no other run is using", f"{self.path}, which is in use{by}"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        self.remove_description()  # a dead run's
        return self

    def __exit__(self, *_: object) -> None:
        self.remove_description()
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def description_path(self) -> Path:
        return self.path / "local.json"

    def secrets(self) -> Secrets:
        """This directory's secrets, made at the first use. Raises ConfigurationError where the file is damaged."""
        path = self.path / "secrets.json"
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=Secrets)
        except FileNotFoundError:
            kept = Secrets.generate()
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                "DATA_DIR", "a directory with a readable secrets.json", type(error).__name__
            ) from None
        else:
            if kept.sandbox_password:
                return kept
            kept = msgspec.structs.replace(kept, sandbox_password=Secrets.generate().sandbox_password)
        replace_atomically(path, msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
        return kept

    def write_description(self, description: RunDescription) -> None:
        replace_atomically(self.description_path, msgspec.json.format(msgspec.json.encode(description)) + b"\n")

    def remove_description(self) -> None:
        self.description_path.unlink(missing_ok=True)


def read_description(data_dir: Path) -> RunDescription:
    """The running run's local.json. Raises ConfigurationError where none runs in ``data_dir``."""
    try:
        return msgspec.json.decode((data_dir / "local.json").read_bytes(), type=RunDescription)
    except (OSError, msgspec.MsgspecError):
        raise ConfigurationError("DATA_DIR", "the directory of a local run that is running", str(data_dir)) from None
