"""The all-in-one run: starts everything, keeps it running, ends it in order.

Every process is a direct child of this one, started from its main thread, and dies with it. Nothing heavy is imported
before the servers are on their way.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from typing import TYPE_CHECKING, Protocol

from session_service.aiokit import process_table
from session_service.aiokit.child_process import with_libraries
from session_service.config import BrowserPage, Settings
from session_service.errors import SessionServiceError
from session_service.local.backoff import Backoff
from session_service.local.binaries import find_postgres, find_valkey
from session_service.local.console import Console
from session_service.local.data_directory import DataDirectory, PodAddress, RunDescription, Secrets
from session_service.local.files import bound_log, open_log
from session_service.local.options import (
    ControlAddress,
    LocalOptions,
    PodConnections,
    has_control,
    pod_environ,
    pod_name,
)
from session_service.local.pod import EXIT_CONFIGURATION, START_ATTEMPTS, Pod, PodStartError
from session_service.local.ports import LOOPBACK, listening_socket
from session_service.local.postgres import EmbeddedPostgres
from session_service.local.valkey import EmbeddedValkey
from session_service.simulators.runner_process import RunnerProcess
from session_service.simulators.runner_simulators import PASSED_VARIABLES

if TYPE_CHECKING:
    from session_service.local.control import LocalControl

DATABASE = "sessiondb"
SERVICE_ROLE = "session_service"
SHARED_ROLE = "sessionuser"  # not imported from the database layer: nothing heavy before the servers are on their way
POD_STOP_MARGIN_S = 20.0  # beyond delay and window of the drain
GUARDIAN_LIMIT_S = 5.0
CONNECTIONS_BESIDE_PODS = 50
FEWEST_CONNECTIONS = 200
LOG_LOOK_S = 10.0
SAME_SIGNAL_S = 0.1  # a terminal, `timeout` and make each pass a signal on: that is one, not a second


class Part(Protocol):
    """Something that the supervisor ends."""

    @property
    def name(self) -> str: ...

    async def stop(self) -> None: ...


class Server(Part, Protocol):
    """Something that the supervisor keeps running."""

    @property
    def pid(self) -> int: ...

    async def start(self) -> None: ...

    async def wait(self) -> str: ...


class Supervisor:
    """One run over one DATA_DIR that is held already."""

    def __init__(self, options: LocalOptions, settings: Settings, data: DataDirectory, console: Console) -> None:
        self._options = options
        self._settings = settings
        self._data = data
        self._console = console
        self._secrets: Secrets = data.secrets()
        self._secret_key = settings.auth.secret_key or self._secrets.secret_key
        self._sandbox_password = settings.sandbox.password or self._secrets.sandbox_password
        self._guardian: asyncio.subprocess.Process | None = None
        pool_connections = settings.database.max_connections * options.pods
        self._postgres = EmbeddedPostgres(
            find_postgres(),
            data.postgres,
            password=self._secrets.postgres_password,
            log=data.logs / "postgres.log",
            max_connections=max(FEWEST_CONNECTIONS, pool_connections + CONNECTIONS_BESIDE_PODS),
            on_copy=lambda path: self._tell_guardian(f"remove {path}"),
        )
        self._redis_password = secrets.token_urlsafe(24)
        self._valkey = EmbeddedValkey(find_valkey(), password=self._redis_password, log=data.logs / "valkey.log")
        self._runner = RunnerProcess(
            environ={name: options.environ[name] for name in PASSED_VARIABLES if name in options.environ},
            log_directory=data.logs / "simulators",
            stderr=open_log(data.logs / "runner.log"),
        )
        self._pods: list[Pod] = []
        self._control: LocalControl | None = None
        self._told_at_s = 0.0

    async def run(self) -> int:
        """Run until a signal. Returns the exit code; raises what kept the run from starting."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, stop)
        await self._start_guardian()
        try:
            work = asyncio.create_task(self._work(), name="work")
            told = asyncio.create_task(stop.wait(), name="signal")
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            work.cancel()
            await asyncio.wait({work})
        finally:
            await self._end()
        if not work.cancelled():
            work.result()  # it ends by itself only with an error
        return 0

    def _on_signal(self, stop: asyncio.Event) -> None:
        now_s = asyncio.get_running_loop().time()
        if not stop.is_set():
            self._told_at_s = now_s
            stop.set()
        elif now_s - self._told_at_s > SAME_SIGNAL_S:
            self._end_at_once()

    def _end_at_once(self) -> None:
        """A second signal: no order any more.

        PostgreSQL is left to its death signal, an immediate shutdown: killed, it would leave shared memory behind.
        The guardian is left to remove what is on the disk, and whatever does not follow.
        """
        spared = set() if self._guardian is None else {self._guardian.pid}
        if self._postgres.is_running:
            spared |= {self._postgres.pid, *process_table.descendants(self._postgres.pid)}
        for pid in process_table.descendants(os.getpid()):
            if pid not in spared:
                process_table.kill(pid)
        self._data.remove_description()
        os._exit(1)

    # --- start -------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Start everything, then keep it running; returns never."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._start_valkey())
            group.create_task(self._start_runner())
            await self._start_postgres()
        await self._start_pods()
        self._console.welcome(
            url=self._pods[0].url,
            page=self._settings.server.browser_page is BrowserPage.ON,
            data_dir=self._data.path,
            description=self._data.description_path,
            logs=self._data.logs,
        )
        sys.stdout.write(f"ready {self._pods[0].url}\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as group:
            servers: list[Server] = [self._postgres, self._valkey, self._runner, *self._pods]
            for server in servers:
                group.create_task(self._keep(server), name=f"keep {server.name}")
            group.create_task(self._bound_logs(), name="bound logs")

    async def _bound_logs(self) -> None:
        """A run that lasts for weeks must not fill the disk."""
        while True:
            await asyncio.sleep(LOG_LOOK_S)
            for path in self._data.logs.glob("*.log"):
                bound_log(path)

    async def _start_postgres(self) -> None:
        if not (self._data.postgres / "data").exists():
            self._console.attention("making a new database")
        prepared = asyncio.create_task(self._postgres.prepare())
        try:
            # Imported while initdb works: asyncpg is the heaviest thing here.
            from session_service.local.database import ensure_database

            await prepared
        except BaseException:
            prepared.cancel()
            await asyncio.wait({prepared})
            raise
        await self._postgres.start()
        self._watch(self._postgres)
        self._console.step(f"PostgreSQL on 127.0.0.1:{self._postgres.port}")
        applied = await ensure_database(
            self._postgres.dsn("postgres"),
            self._postgres.dsn(DATABASE),
            database=DATABASE,
            service_role=SERVICE_ROLE,
            service_password=self._secrets.service_password,
            sandbox_password=self._sandbox_password,
        )
        self._console.step(f"schema: {applied}")

    async def _start_valkey(self) -> None:
        await self._valkey.start()
        self._watch(self._valkey)
        self._console.step(f"Valkey on 127.0.0.1:{self._valkey.port}")

    async def _start_runner(self) -> None:
        await self._runner.start()
        self._watch(self._runner)

    async def _start_pods(self) -> None:
        # It listens before the pods start, which are told where, and is served while they do: its imports take time.
        listening = listening_socket() if has_control(self._settings) else None
        control = None if listening is None else ControlAddress(_url_of(listening), secrets.token_urlsafe(24))
        connections = PodConnections(
            postgres_port=self._postgres.port,
            database=DATABASE,
            service_role=SERVICE_ROLE,
            service_password=self._secrets.service_password,
            redis_port=self._valkey.port,
            redis_password=self._redis_password,
            secret_key=self._secret_key,
            runner_url=self._runner.url,
            runner_token=self._runner.token,
            control=control,
        )
        drain = self._settings.pod
        pods = [
            Pod(
                pod_name(self._options.environ, index, self._options.pods),
                port,
                environ=pod_environ(self._options, index, connections),
                log=self._data.logs / f"pod-{index + 1}.log",
                stop_limit_s=drain.drain_delay_s + drain.drain_window_s + POD_STOP_MARGIN_S,
            )
            for index, port in enumerate(self._options.ports())
        ]
        for pod in pods:
            await pod.start()
            self._pods.append(pod)
            self._watch(pod)
        self._describe()
        async with asyncio.TaskGroup() as group:
            for pod in pods:
                group.create_task(self._bring_up(pod))
            if listening is not None and control is not None:
                group.create_task(self._start_control(listening, control.key))

    async def _start_control(self, listening: socket.socket, key: str) -> None:
        from session_service.local.control import LocalControl
        from session_service.local.pod_loads import PodLoads

        clock = asyncio.get_running_loop().time
        self._control = LocalControl(
            listening,
            key=key,
            pods=self._pods,
            loads=PodLoads(self._postgres.dsn(DATABASE), clock),
            auth=self._settings.auth,
            secret_key=self._secret_key,
            clock=clock,
        )
        await self._control.start()

    async def _bring_up(self, pod: Pod) -> None:
        """Until the pod is ready. A wrong configuration does not get better by trying again; anything else may.

        A pod that was ended over the local control has not failed.
        """
        failures = 0
        while True:
            try:
                await pod.until_ready()
            except PodStartError as error:
                if not pod.was_told_to_end:
                    failures += 1
                    if error.exit_code == EXIT_CONFIGURATION or failures == START_ATTEMPTS:
                        raise
                self._console.attention(str(error))
            else:
                self._console.step(f"{pod.name} on {pod.url}")
                return
            await pod.stop()
            await pod.start()
            self._watch(pod)
            self._describe()

    # --- keep --------------------------------------------------------------------------------------------------

    async def _keep(self, server: Server) -> None:
        """Start it again whenever it ended, whatever the reason."""
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        started_s = loop.time()
        while True:
            how = await server.wait()
            self._console.attention(f"{server.name} ended ({how}); it is started again")
            while True:
                await asyncio.sleep(backoff.delay_s(loop.time() - started_s))
                started_s = loop.time()
                try:
                    await server.start()
                except (SessionServiceError, OSError) as error:
                    self._console.attention(str(error))
                else:
                    break
            self._watch(server)
            self._describe()

    def _describe(self) -> None:
        self._data.write_description(
            RunDescription(
                url=self._pods[0].url,
                pods=[PodAddress(pod.name, pod.pid, pod.url) for pod in self._pods],
                postgres=self._postgres.dsn(DATABASE),
                redis=self._valkey.url(),
                secret_key=self._secret_key,
                supervisor_pid=os.getpid(),
                sandbox_postgres=self._postgres.dsn(DATABASE, SHARED_ROLE, self._sandbox_password),
            )
        )

    # --- end ---------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Pods first, orderly and together; then what they stand on. Every step is bounded by its own limit."""
        if self._pods:
            self._console.attention("stopping (a second Ctrl-C ends everything at once)")
        control: list[Part] = [] if self._control is None else [self._control]
        stages: list[list[Part]] = [control, [*self._pods], [self._runner, self._valkey], [self._postgres]]
        try:
            for stage in stages:
                ends = await asyncio.gather(*(server.stop() for server in stage), return_exceptions=True)
                for server, end in zip(stage, ends, strict=True):
                    if isinstance(end, BaseException):  # the guardian ends it
                        self._console.attention(f"{server.name}: {end}")
        finally:
            self._postgres.close()
            self._data.remove_description()
            await self._release_guardian()

    # --- guardian ----------------------------------------------------------------------------------------------

    async def _start_guardian(self) -> None:
        self._guardian = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "session_service.local.guardian",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env=with_libraries({}),
        )

    def _watch(self, server: Server) -> None:
        started = process_table.start_time(server.pid)
        if started is not None:
            self._tell_guardian(f"watch {server.pid} {started}")

    def _tell_guardian(self, line: str) -> None:
        if self._guardian is not None and self._guardian.stdin is not None and not self._guardian.stdin.is_closing():
            self._guardian.stdin.write(f"{line}\n".encode())

    async def _release_guardian(self) -> None:
        if self._guardian is None or self._guardian.stdin is None:
            return
        self._guardian.stdin.close()
        try:
            await asyncio.wait_for(self._guardian.wait(), GUARDIAN_LIMIT_S)
        except TimeoutError:
            self._guardian.kill()


def _url_of(listening: socket.socket) -> str:
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}"
