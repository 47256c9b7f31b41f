"""The embedded PostgreSQL server of a local run.

PostgreSQL refuses to run as root. Under root it runs as an unprivileged user, and that user need not be able to reach
DATA_DIR by its path: the process is put into its data directory while it is still root, and knows that directory as
``/proc/self/cwd`` only. So no mode of any parent directory is ever changed. Programs that lie where that user cannot
enter are copied to a place where it can, for the time of the run.

Layout: ``directory/data`` is the cluster, ``directory/server`` says which process serves it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from session_service.aiokit import process_table
from session_service.aiokit.child_process import Account, ChildProcess, can_execute, ended_because
from session_service.database.postgres_programs import PostgresPrograms
from session_service.errors import ConfigurationError
from session_service.local.binaries import copy_postgres
from session_service.local.files import (
    PRIVATE_DIRECTORY,
    last_lines,
    open_log,
    replace_atomically,
    size_bytes,
)
from session_service.local.port_choice import start_on_port
from session_service.local.ports import LOOPBACK
from session_service.local.server_error import ServerStartError

SUPERUSER = "postgres"
INITDB_LIMIT_S = 60.0
START_LIMIT_S = 60.0  # crash recovery included
POLL_INTERVAL_S = 0.01
FAST_SHUTDOWN_LIMIT_S = 10.0
IMMEDIATE_SHUTDOWN_LIMIT_S = 3.0
WORKING_DIRECTORY = "/proc/self/cwd"  # proc(5): a link that needs no right on the parents of where it leads
READY_LINE = 7  # of postmaster.pid: the server's status


def unprivileged_account(directory: Path) -> Account | None:
    """Whom the server runs as: nobody else than ourselves unless we are root; then the owner of an existing cluster,
    else ``postgres`` or ``nobody``. Raises ConfigurationError where the machine has no such user.
    """
    if os.geteuid() != 0:
        return None
    data = directory / "data"
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError("USER", "an ordinary user where the machine has neither 'postgres' nor 'nobody'", "root")


class EmbeddedPostgres:
    """One server on 127.0.0.1 over one cluster; acknowledged commits survive any end of it.

    ``directory`` is made at need and holds nothing else. ``start`` may be called again after the server ended: it
    listens on the same port.
    """

    name = "PostgreSQL"

    def __init__(
        self,
        programs: PostgresPrograms,
        directory: Path,
        *,
        password: str,
        log: Path,
        max_connections: int = 200,
        on_copy: Callable[[Path], None] | None = None,
    ) -> None:
        self._programs = programs
        self._directory = directory
        self._data = directory / "data"
        self._password = password
        self._log = log
        self._max_connections = max_connections
        self._on_copy = on_copy  # told the path of a temporary copy, so that somebody can remove it if we cannot
        self._copy: Path | None = None
        self._account: Account | None = None
        self._port: int | None = None
        self._process: ChildProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._running().pid

    def dsn(self, database: str = "sessiondb", user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection string over TCP, the superuser's unless another's name and password are given. Only after
        ``start``.
        """
        secret = quote(self._password if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@{LOOPBACK}:{self.port}/{database}"

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("the server was never started")
        return self._port

    async def prepare(self) -> None:
        """Settle user and programs, end what a dead run left, make the cluster if there is none.

        Raises ConfigurationError or ServerStartError. Cancelled, it leaves no half-made cluster that counts as one.
        """
        self._account = unprivileged_account(self._directory)
        self._make_directory(self._directory)
        await self._make_programs_reachable()
        await self._end_leftovers()
        if not (self._data / "PG_VERSION").exists():
            await self._initialise()
        major = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        if major != str(self._programs.major):
            raise ConfigurationError(
                "DATA_DIR",
                f"one made with PostgreSQL {self._programs.major}",
                f"{self._directory.parent}, made with {major}",
            )

    async def start(self) -> None:
        """Start the server and wait until it takes connections. Raises ServerStartError."""
        self._port = await start_on_port(self._start_on, self.stop, self._port)

    async def wait(self) -> str:
        """Wait until the server has ended; says how."""
        return ended_because(await self._running().wait())

    async def stop(self) -> None:
        """Fast shutdown: sessions are ended, everything is written. A server that does not answer is killed."""
        if self._process is None:
            return
        pid = self._process.pid
        family = process_table.descendants(pid)
        try:
            await self._process.stop(
                (signal.SIGINT, FAST_SHUTDOWN_LIMIT_S), (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_LIMIT_S)
            )
        finally:
            if self._process.returncode == -signal.SIGKILL:
                for member in family:
                    process_table.kill(member)

    def close(self) -> None:
        """Remove the temporary copy of the programs, if one was made. After ``stop``."""
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    def _make_directory(self, path: Path) -> None:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        if self._account is not None and path.stat().st_uid != self._account.uid:
            os.chown(path, self._account.uid, self._account.gid)

    async def _make_programs_reachable(self) -> None:
        account = self._account
        if account is None or await can_execute(self._programs.postgres, account):
            return
        tried = dict.fromkeys(Path(place) for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - mkdtemp makes an own directory there
        for place in tried:
            if not os.access(place, os.W_OK | os.X_OK):
                continue
            copied = copy_postgres(self._programs, place)  # 0.1 s; in a thread it could not be cancelled
            if copied.tree is not None and await can_execute(copied.postgres, account):
                self._programs, self._copy = copied, copied.tree
                if self._on_copy is not None:
                    self._on_copy(copied.tree)
                return
            if copied.tree is not None:
                shutil.rmtree(copied.tree, ignore_errors=True)
        places = ", ".join(str(place) for place in tried)
        raise ConfigurationError("TMPDIR", "a directory that every user can enter and run programs in", places)

    async def _end_leftovers(self) -> None:
        """End the server of a run that died, which can be ending just now. Its own processes are known by the
        record, single ones that lost their parent by their working directory. DATA_DIR is ours alone already.
        """
        if not self._data.exists():
            return
        leftovers: set[int] = set(process_table.working_in(self._data))
        try:
            recorded, _, started = (self._directory / "server").read_text(encoding="ascii").strip().partition(" ")
        except FileNotFoundError:
            recorded = started = ""
        if recorded and process_table.start_time(int(recorded)) == started:
            leftovers |= {int(recorded), *process_table.descendants(int(recorded))}
        for pid in leftovers:
            process_table.kill(pid)
        async with asyncio.timeout(START_LIMIT_S):
            # Not our children: there is nothing to await but their disappearance.
            while any(process_table.start_time(pid) is not None for pid in leftovers):  # noqa: ASYNC110
                await asyncio.sleep(POLL_INTERVAL_S)
        # PostgreSQL refuses to start while the process id in its lock file belongs to anybody who lives, which
        # after a restart of the machine or the container can be a stranger.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    async def _initialise(self) -> None:
        """Make the cluster beside its place and move it there when it is whole."""
        fresh = self._directory / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)  # no PG_VERSION: nothing that could be used
        self._make_directory(fresh)
        password_file = self._directory / "password"
        replace_atomically(password_file, self._password.encode() + b"\n")
        if self._account is not None:
            os.chown(password_file, self._account.uid, self._account.gid)
        log = open_log(self._log)
        said_before_bytes = size_bytes(self._log)
        try:
            process = await ChildProcess.start(
                [
                    str(self._programs.initdb),
                    f"--pgdata={self._data_argument(fresh)}",
                    f"--username={SUPERUSER}",
                    "--pwfile=../password",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-instructions",
                ],
                environ=self._environ(),
                cwd=fresh,
                stdout=log,
                stderr=log,
                account=self._account,
            )
            try:
                async with asyncio.timeout(INITDB_LIMIT_S):
                    returncode = await process.wait()
            except BaseException:
                await process.stop()
                raise
        finally:
            os.close(log)
            password_file.unlink(missing_ok=True)
        if returncode != 0:
            raise ServerStartError(
                "initdb", ended_because(returncode), last_lines(self._log, since_bytes=said_before_bytes)
            )
        fresh.rename(self._data)

    async def _start_on(self, port: int) -> None:
        # Ended backends of a killed server hold its shared memory for a moment more.
        await self._end_leftovers()
        log = open_log(self._log)
        said_before_bytes = size_bytes(self._log)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": str(self._max_connections),
            "password_encryption": "scram-sha-256",
            # A backend that is busy computing notices that its client is gone, so that nothing outlives the run.
            "client_connection_check_interval": "2s",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "jit": "off",  # compiling costs more than it saves in short statements
        }
        command = [str(self._programs.postgres), "-D", self._data_argument(self._data)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        try:
            self._process = await ChildProcess.start(
                command,
                environ=self._environ(),
                cwd=self._data,
                stdout=log,
                stderr=log,
                # Immediate shutdown: the server ends its own processes, busy ones included. SIGKILL would not.
                death_signal=signal.SIGQUIT,
                account=self._account,
            )
        finally:
            os.close(log)
        started = process_table.start_time(self._process.pid) or ""
        replace_atomically(self._directory / "server", f"{self._process.pid} {started}\n".encode())
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await self._until_ready(self._process)
        except TimeoutError:
            await self.stop()
            problem = f"it was not ready after {START_LIMIT_S:g} s"
            raise ServerStartError(self.name, problem, last_lines(self._log, since_bytes=said_before_bytes)) from None
        if self._process.returncode is not None:
            problem = ended_because(self._process.returncode)
            raise ServerStartError(self.name, problem, last_lines(self._log, since_bytes=said_before_bytes))

    async def _until_ready(self, process: ChildProcess) -> None:
        """Return when the server is ready or has ended: it says so in postmaster.pid (miscinit.c, "ready")."""
        status = self._data / "postmaster.pid"
        while process.returncode is None:
            try:
                lines = status.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) > READY_LINE and lines[0] == str(process.pid) and lines[READY_LINE].strip() == "ready":
                return
            await asyncio.sleep(POLL_INTERVAL_S)

    def _data_argument(self, path: Path) -> str:
        return WORKING_DIRECTORY if self._account is not None and sys.platform == "linux" else str(path)

    @staticmethod
    def _environ() -> dict[str, str]:
        """Nothing of ours: PG* variables would change what the programs do, and secrets are none of theirs."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
