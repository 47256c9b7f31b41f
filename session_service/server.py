"""SessionServer: the one composition root of a pod. Nothing else builds components or decides their order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog
from aiohttp import web

from session_service import __version__
from session_service.aiokit.tasks import LoopEnded, TaskGuard
from session_service.api.health import HealthState
from session_service.api.http_server import HttpServer
from session_service.api.metrics_endpoint import build_metrics_app
from session_service.api.routes import build_app
from session_service.clients.auth import AuthClient
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.clients.exchange import ExchangeClient
from session_service.clients.kubernetes import KubernetesClient
from session_service.clients.kubernetes_access import load_access
from session_service.config import Settings, ShutdownPolicy, SimulatorBackendName
from session_service.database.manager import DatabaseManager
from session_service.database.notifications import NotificationListener
from session_service.domain.events import EventType
from session_service.errors import DatabaseUnavailableError, UnavailableError
from session_service.named_sessions.cache import ActiveSessionCache
from session_service.named_sessions.cache_trust import CacheTrust
from session_service.named_sessions.service import NamedSessionService
from session_service.named_sessions.upkeep import LOOK_EVERY_S, REPAIR_EVERY_S, CacheUpkeep
from session_service.sandboxes.changes import GATHER_S, ChangeFollower
from session_service.sandboxes.inbox_listener import INBOX_CHANNEL, InboxListener
from session_service.sandboxes.service import SandboxSessionService
from session_service.sandboxes.upkeep import GUARD_EVERY_S, RETAIN_EVERY_S, SandboxUpkeep
from session_service.sandboxes.upkeep import MEASURE_EVERY_S as MEASURE_SANDBOXES_EVERY_S
from session_service.sessions.activity import ActivityLog
from session_service.sessions.connection_quality import ConnectionQuality
from session_service.sessions.manager import SessionManager
from session_service.sessions.metadata_log import MetadataLog
from session_service.sessions.ownership import SessionOwnership
from session_service.sessions.pod_membership import PodMembership
from session_service.sessions.reconnection import Reconnection
from session_service.sessions.session_ops import SessionOps
from session_service.sessions.simulator_changes import SimulatorChanges
from session_service.sessions.simulator_ops import SimulatorOps
from session_service.sessions.sweeper import RENEW_EVERY_S, Sweeper
from session_service.simulators.backend import SimulatorBackend
from session_service.simulators.kubernetes_backend import KubernetesBackend
from session_service.simulators.manager import SimulatorManager
from session_service.simulators.orphan_sweep import OrphanSweep
from session_service.simulators.own_teardowns import OwnTeardowns
from session_service.simulators.process_backend import ProcessBackend
from session_service.simulators.reconciler import Reconciler
from session_service.simulators.running import RunningSimulators
from session_service.simulators.service_backend import ServiceBackend
from session_service.simulators.start_queue import StartQueue
from session_service.simulators.teardowns import Teardowns
from session_service.simulators.tokens import SimulatorTokens
from session_service.simulators.warm_pool import WarmPool
from session_service.telemetry.metrics import Metrics
from session_service.telemetry.tracing import Tracing
from session_service.websocket.admission import TICK_INTERVAL_S, AdmissionLimits
from session_service.websocket.manager import WebSocketManager
from session_service.websocket.streams import StreamManager

log = structlog.get_logger(__name__)

BACKLOG = 2048  # connections that wait for accept: a pod's clients may all come back at once
STOP_SIMULATORS_LIMIT_S = 10.0
CLOSE_SOCKETS_LIMIT_S = 5.0
STEP_LIMIT_S = 5.0
LAST_POD_LOOK_S = 0.5  # while clients move: whether there is still a pod for them

# How often each round is made, seconds.
# An open socket hears of its session's end within a second: activity is known to be written after two flushes.
ACTIVITY_FLUSH_EVERY_S = 0.2
EXPIRE_EVERY_S = 0.3
CLEANUP_EVERY_S = 30.0
PURGE_EVERY_S = 600.0
FLUSH_EVERY_S = 1.0
WEBSOCKET_SWEEP_EVERY_S = 1.0
RESYNC_EVERY_S = 2.0
START_QUEUE_EVERY_S = 1.0
TEARDOWN_EVERY_S = 1.0
INACTIVE_EVERY_S = 10.0
ORPHANS_EVERY_S = 20.0
WARM_POOL_EVERY_S = 1.0
SPARES_INSPECTED_EVERY_S = 20.0
PRESENCE_FLUSH_EVERY_S = 0.2
MEASURE_EVERY_S = 5.0
SIMULATOR_ROWS_KEPT_S = 86_400.0


class SessionServer:
    """One pod: ``initialize``, ``start``, then ``wait_for_shutdown``; ``shutdown`` ends it, from a signal or by call.

    ``exit_code`` is 0 after an orderly end, 1 where a background loop ended by itself. ``admission``: how many
    connections it takes, where that is not the default.
    """

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], *, admission: AdmissionLimits | None = None
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._admission = admission
        self._exits = AsyncExitStack()
        self._serving = False
        self._shutdown_started = False
        self._starting: asyncio.Task[None] | None = None
        self.shutdown_event = asyncio.Event()
        self.exit_code = 0
        self.metrics = Metrics()

    async def initialize(self) -> None:
        """Build every component, opening nothing that could fail for want of another server.

        Raises ConfigurationError.
        """
        settings, metrics = self._settings, self.metrics
        loop = asyncio.get_running_loop()
        server = settings.server
        self._tracing = Tracing.start(self._environ, server.pod_name)
        self._database = DatabaseManager(
            settings, metrics, CircuitBreaker("redis", clock=loop.time, on_change=metrics.breaker_state)
        )
        self._auth = AuthClient(settings.auth, metrics=metrics)
        self._exchange = ExchangeClient(server.pod_name, metrics, loop.time)
        self._guard = TaskGuard(
            on_error=metrics.background_error,
            on_pass=metrics.background_pass,
            expected=(UnavailableError,),
            logged_at_source=(DatabaseUnavailableError,),
        )
        self._membership = PodMembership(
            self._database.pods,
            self._database.presence,
            pod_name=server.pod_name,
            address=f"{server.host}:{server.port}",
            version=__version__,
            lease_s=settings.pod.lease_s,
            clock=loop.time,
        )
        self._backend = _backend(settings, self._environ, self._database, metrics)
        self._build_sessions(loop.time)
        self._build_named_sessions(loop.time)
        self._build_sandboxes()
        self._build_websockets(loop.time)
        self._health = HealthState(
            server.pod_name,
            required={"database": self._check_database},
            informative={"redis": self._database.redis.ping},
        )
        self._app = build_app(
            sessions=self._sessions,
            named_sessions=self._named_sessions,
            auth=self._auth,
            websockets=self._websockets,
            sandboxes=self._sandboxes,
            sandbox_changes=self._sandbox_changes,
            metrics=metrics,
            settings=settings,
            health=self._health,
            tracing_middleware=self._tracing.middleware(),
        )

    def _build_sessions(self, clock: Callable[[], float]) -> None:
        settings, database, metrics = self._settings, self._database, self.metrics
        pod_name = settings.server.pod_name
        self._ownership = SessionOwnership(
            database.ownership, database.events, metrics, pod_id=self._pod_id, on_taken=self._sessions_taken
        )
        self._activity = ActivityLog(
            database.sessions, timeout_s=settings.session.timeout_s, clock=clock, pod_id=self._pod_id
        )
        self._sweeper = Sweeper(database.sweeper, metrics, pod_id=self._pod_id, clock=clock)
        self._metadata = MetadataLog(database.sessions)
        running = RunningSimulators(clock)
        self._tokens = SimulatorTokens(database.simulator_key)
        self._teardowns = Teardowns(
            database.simulators, self._backend, self._exchange, self._tokens, database.events, metrics
        )
        self._start_queue = StartQueue(database.start_queue, database.events, metrics, pod_id=self._pod_id)
        self._reconciler = Reconciler(
            database.simulators,
            self._backend,
            self._exchange,
            self._tokens,
            self._teardowns,
            self._start_queue,
            database.events,
            running,
            metrics,
            pod_id=self._pod_id,
            owner=self._ownership,
        )
        self._own_teardowns = OwnTeardowns(database.events, self._teardowns.work_off)
        self._orphans = OrphanSweep(
            database.orphans, database.simulators, self._backend, metrics, tear_down=self._teardowns.work_off
        )
        self._warm_pool = WarmPool(
            database.warm_pool,
            database.simulators,
            self._backend,
            self._tokens,
            database.events,
            metrics,
            size=settings.simulator.warm_pool_size,
            start_limit=settings.simulator.max_concurrent_starts,
            database_id=database.orphans.database_id,
            pod_id=self._pod_id,
            clock=clock,
        )
        self._simulators = SimulatorManager(
            database.simulators,
            self._reconciler,
            self._teardowns,
            self._start_queue,
            self._tokens,
            database.events,
            running,
            metrics,
            pod_id=self._pod_id,
            max_per_user=settings.simulator.max_per_user,
            spare_recipe=self._backend.recipe if settings.simulator.warm_pool_size else None,
        )
        session_ops = SessionOps(
            database.sessions,
            database.presence,
            database.events,
            self._activity,
            self._metadata,
            metrics,
            pod_name=pod_name,
            pod_id=self._pod_id,
            max_per_user=settings.session.max_per_user,
        )
        self._simulator_changes = SimulatorChanges(database.sockets, database.events, pod_id=self._pod_id)
        self._sessions = SessionManager(
            session_ops,
            SimulatorOps(session_ops, self._simulators, self._exchange, metrics),
            Reconnection(
                database.sessions,
                database.sockets,
                session_ops,
                database.events,
                pod_name=pod_name,
                pod_id=self._pod_id,
            ),
            ConnectionQuality(self._metadata),
        )

    def _build_named_sessions(self, clock: Callable[[], float]) -> None:
        repository, trust = self._database.named_sessions, CacheTrust()
        cache = ActiveSessionCache(self._database.redis, ttl_s=self._settings.session.active_cache_ttl_s)
        self._active_sessions = CacheUpkeep(repository, cache, trust, self.metrics, clock=clock)
        self._named_sessions = NamedSessionService(
            repository, cache, trust, self._active_sessions, self.metrics, clock=clock
        )

    def _build_sandboxes(self) -> None:
        self._inbox_notifications = NotificationListener(self._settings.database, INBOX_CHANNEL)
        self._inbox = InboxListener(self._inbox_notifications)
        self._sandboxes = SandboxSessionService(
            self._database.sandbox_sessions,
            self._inbox,
            self.metrics,
            clock=asyncio.get_running_loop().time,
        )
        self.metrics.sandbox_waiters.set_function(lambda: float(len(self._inbox)))
        self._sandbox_upkeep = SandboxUpkeep(
            self._database.sandbox_upkeep, self.metrics, retention_days=self._settings.sandbox.retention_days
        )
        self._sandbox_changes = ChangeFollower(self._database.sandbox_changes)
        self._inbox_notifications.subscribe(lambda _payload: self._sandbox_changes.poke(), self._sandbox_changes.poke)

    def _build_websockets(self, clock: Callable[[], float]) -> None:
        self._streams = StreamManager(
            self._exchange,
            self._sessions.simulator_ops.address,
            self.metrics,
            clock,
            pod_name=self._settings.server.pod_name,
        )
        self._streams.on_stream_lost = self._simulators.suspect
        self._websockets = WebSocketManager(
            sessions=self._sessions,
            auth=self._auth,
            streams=self._streams,
            metrics=self.metrics,
            settings=self._settings,
            admission=self._admission,
        )
        self._database.events.subscribe(self._websockets.on_event)

    async def start(self) -> None:
        """Open connections, start the background loops, listen.

        Raises OSError where the port is taken, BackendUnavailableError. Returns early when ``shutdown`` is called
        meanwhile.
        """
        self._starting = asyncio.create_task(self._start(), name="start")
        await asyncio.wait([self._starting])
        if not self._starting.cancelled():
            self._starting.result()

    async def _start(self) -> None:
        exits = self._exits
        # What is opened first is closed last.
        exits.push_async_callback(self._tracing.close)
        exits.push_async_callback(self._database.close)
        await self._database.open()
        exits.push_async_callback(self._sandboxes.close)
        exits.push_async_callback(self._exchange.close)
        await self._auth.start()
        exits.push_async_callback(self._auth.close)
        exits.push_async_callback(self._backend.close)
        await self._backend.start()
        exits.push_async_callback(self._health.close)
        # A socket needs the pod's row. PostgreSQL may also come later: readiness says so until then.
        with contextlib.suppress(DatabaseUnavailableError):
            await self._database.postgres.warm_up()
            await self._membership.ensure_registered()
        await self._listen()
        with contextlib.suppress(DatabaseUnavailableError):
            await self._membership.succeed()
            await self._sweeper.renew()  # before the first pass of the rounds that need it
        self._serving = True
        self._start_background_tasks()
        self._health.started()
        self._guard.failed.add_done_callback(self._loop_ended)
        self._database.events.emit(EventType.POD_ONLINE)
        log.info("pod_started", host=self._settings.server.host, port=self._settings.server.port)

    async def _listen(self) -> None:
        server = self._settings.server
        sites = [(self._app, server.port)]
        if server.metrics_port is not None:
            sites.append((build_metrics_app(self.metrics), server.metrics_port))
        for app, port in sites:
            runner = HttpServer(app)
            await runner.setup()
            self._exits.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, server.host, port, backlog=BACKLOG).start()

    def _start_background_tasks(self) -> None:
        guard, settings, database = self._guard, self._settings, self._database
        # Never later, also after failures: a pod that comes back from an outage last must not be taken for dead.
        guard.every("pod_beat", settings.pod.lease_s / 3, self._membership.round, longest_retry_s=0.0)
        guard.every("session_adoption", settings.pod.lease_s / 3, self._ownership.adopt)
        self._start_sweeps()
        guard.every("activity_flush", ACTIVITY_FLUSH_EVERY_S, self._activity.flush)
        guard.every("metadata_flush", FLUSH_EVERY_S, self._metadata.flush)
        guard.every("presence_flush", PRESENCE_FLUSH_EVERY_S, database.presence.flush)
        guard.every("socket_round", settings.pod.lease_s / 3, self._socket_round)
        guard.every("websocket_cleanup", WEBSOCKET_SWEEP_EVERY_S, self._websockets.sweep)
        guard.every("admission", TICK_INTERVAL_S, self._websockets.measure_lag, jitter=0.0)
        guard.every("simulator_heartbeat", settings.simulator.heartbeat_interval_s, self._reconciler.beat)
        guard.every("simulator_heartbeat_log", FLUSH_EVERY_S, self._reconciler.record_heartbeats)
        guard.every("simulator_resync", RESYNC_EVERY_S, self._reconciler.resync)
        guard.every("active_session_cache_look", LOOK_EVERY_S, self._look_at_active_sessions)
        guard.every("sandbox_changes", GATHER_S, self._sandbox_changes.round)
        guard.every("start_queue", START_QUEUE_EVERY_S, self._start_queue.round)
        guard.every("session_gauge", MEASURE_EVERY_S, self._sessions.session_ops.measure)
        guard.every("simulator_gauge", MEASURE_EVERY_S, self._simulators.measure)
        guard.every("orphan_gauge", MEASURE_EVERY_S, self._orphans.measure)
        guard.every("warm_pool_gauge", MEASURE_EVERY_S, self._warm_pool.measure)
        guard.every("sandbox_gauge", MEASURE_SANDBOXES_EVERY_S, self._measure_sandboxes)
        guard.spawn("session_claims", self._ownership.run_claims())
        guard.spawn("freed_start_slots", self._start_queue.run())
        guard.spawn("own_teardowns", self._own_teardowns.run())
        guard.spawn("taken_spares", self._warm_pool.refill_when_taken(self._sweeper.only(self._warm_pool.refill)))
        guard.spawn("simulator_watch", self._reconciler.watch())
        guard.spawn("event_outbox", database.events.run_outbox())
        guard.spawn("event_inbox", database.events.run_inbox())
        guard.spawn("sandbox_inbox", self._inbox_notifications.run())

    def _start_sweeps(self) -> None:
        """The rounds that one pod makes for all."""
        guard, only = self._guard, self._sweeper.only
        session_ops = self._sessions.session_ops
        guard.every("sweeper_lease", RENEW_EVERY_S, self._sweeper.renew)
        guard.every("session_expiry", EXPIRE_EVERY_S, only(session_ops.expire))
        guard.every("session_cleanup", CLEANUP_EVERY_S, only(session_ops.cleanup))
        guard.every("simulator_teardown", TEARDOWN_EVERY_S, only(self._teardowns.work_off))
        guard.every("warm_pool", WARM_POOL_EVERY_S, only(self._warm_pool.refill))
        guard.every("warm_pool_inspection", SPARES_INSPECTED_EVERY_S, only(self._warm_pool.inspect))
        guard.every("simulator_inactivity", INACTIVE_EVERY_S, only(self._simulator_inactivity))
        guard.every("simulator_orphans", ORPHANS_EVERY_S, only(self._orphans.sweep))
        guard.every("active_session_cache_repair", REPAIR_EVERY_S, only(self._active_sessions.repair))
        guard.every("sandbox_guard", GUARD_EVERY_S, only(self._sandbox_upkeep.guard))
        guard.every("sandbox_retention", RETAIN_EVERY_S, only(self._sandbox_upkeep.retain))
        guard.every("pod_purge", PURGE_EVERY_S, only(self._database.pods.purge))

    async def wait_for_shutdown(self) -> None:
        """Return when ``shutdown`` has finished."""
        await self.shutdown_event.wait()

    async def shutdown(self, reason: str = "shutdown") -> None:
        """End the pod in order; every step has its limit. A second call waits for the first."""
        if self._shutdown_started:
            await self.shutdown_event.wait()
            return
        self._shutdown_started = True
        started = time.monotonic()
        log.info("pod_terminating", reason=reason)
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()  # so that it opens nothing any more that nobody would close
            await asyncio.wait([self._starting])
        self._health.drain()
        is_last: bool | None = None
        try:
            if self._serving:
                is_last = await self._drain(reason)
        except Exception:  # whatever it is, the pod ends; its row and its simulators are the next one's
            log.exception("drain_failed")
        self._release_waiting()
        await self._step("sockets", self._websockets.close, limit_s=2 * STEP_LIMIT_S)
        self.metrics.drain_seconds.set(time.monotonic() - started)
        await self._step("background loops", self._guard.close)
        if is_last is not None:  # else PostgreSQL is away: each of these would wait for it in vain
            await self._step("activity", self._activity.flush)
            await self._step("metadata", self._metadata.flush)
        await self._step("reconciler", self._reconciler.close)
        await self._step("streams", self._streams.close)
        await self._step("events", self._database.events.flush)
        if is_last is not None or not self._serving:  # a question for readiness may have written it
            await self._step("pod row", self._membership.leave)
        await self._step("components", self._exits.aclose, limit_s=2 * STEP_LIMIT_S)
        log.info("pod_terminated", seconds=round(time.monotonic() - started, 3))
        self.shutdown_event.set()

    async def _drain(self, reason: str) -> bool | None:
        """Take leave of pods and clients; what a pod that never served has no part in. As ``start_draining``."""
        is_last = await self._membership.start_draining()
        self._database.events.emit(EventType.POD_OFFLINE)
        log.info("pod_draining", pod_id=self._pod_id(), last_pod=is_last)
        # Endpoints take time to leave the load balancers: until then connections are served as ever.
        await asyncio.sleep(self._settings.pod.drain_delay_s)
        self._release_waiting()
        return await self._cleanup_pod_sessions(is_last, reason)

    async def _cleanup_pod_sessions(self, is_last: bool | None, reason: str) -> bool | None:
        """Mark what this pod looks after, tell its clients, and let go of each session as its clients leave; or stop
        its simulators, by policy. Where no live pod is left in the end, all are stopped. As ``start_draining``.

        ``is_last``: no live pod is left (None: PostgreSQL cannot be asked; then simulators are left running, for
        the next pod that starts).
        """
        pod = self._settings.pod
        deadline_s = asyncio.get_running_loop().time() + max(
            pod.drain_window_s + CLOSE_SOCKETS_LIMIT_S, 2 * pod.lease_s - pod.drain_delay_s
        )
        handoff = self._settings.simulator.shutdown_policy is ShutdownPolicy.HANDOFF
        if is_last is not None:
            await self._step("metadata", self._mark_terminating)
            if not handoff:
                await self._stop_simulators(self._simulators.stop_own)
        await self._step(
            "sockets",
            lambda: self._drain_sockets(reason, is_last, release=handoff),
            limit_s=self._settings.pod.drain_window_s + CLOSE_SOCKETS_LIMIT_S,
        )
        # Asked again: pods may have come, or gone, meanwhile, and PostgreSQL too.
        is_last = await self._membership.confirm_last(deadline_s)
        if is_last:
            await self._stop_simulators(self._simulators.stop_as_last)
        return is_last

    async def _mark_terminating(self) -> None:
        await self._database.ownership.mark_terminating(
            self._pod_id(),
            {
                "pod_terminating": True,
                "termination_time": int(time.time()),
                "previous_pod": self._settings.server.pod_name,
            },
        )

    async def _stop_simulators(self, stop: Callable[[str, float], Awaitable[int]]) -> None:
        await self._step(
            "simulators",
            lambda: stop("pod_terminated", STOP_SIMULATORS_LIMIT_S),
            limit_s=STOP_SIMULATORS_LIMIT_S + 1,
        )

    async def _drain_sockets(self, reason: str, is_last: bool | None, *, release: bool) -> None:
        """Ask every client to move, in its slot; at once where there is no pod to go to, or none any more."""
        window_s = 0.0 if is_last else self._settings.pod.drain_window_s
        draining = asyncio.ensure_future(self._websockets.drain(reason, window_s=window_s))
        try:
            while not (await asyncio.wait([draining], timeout=LAST_POD_LOOK_S))[0]:
                if await self._membership.start_draining():
                    break
                if release:
                    with contextlib.suppress(DatabaseUnavailableError):
                        await self._ownership.release()
        finally:
            draining.cancel()
            await asyncio.wait([draining])
        if draining.cancelled():
            await self._websockets.drain(reason, window_s=0.0)

    async def _step(self, name: str, step: Callable[[], Awaitable[Any]], limit_s: float = STEP_LIMIT_S) -> None:
        """One step of the shutdown: whatever it does, the next one comes."""
        try:
            async with asyncio.timeout(limit_s):
                await step()
        except TimeoutError:
            log.warning("shutdown_step_timed_out", step=name, limit_s=limit_s)
        except Exception:  # a step that fails must not keep the pod from ending
            log.exception("shutdown_step_failed", step=name)

    def _pod_id(self) -> str:
        return self._membership.pod_id

    def _release_waiting(self) -> None:
        """Requests that wait for work are answered, and streams of changes end: their clients go on elsewhere."""
        self._sandboxes.end_waits()
        self._sandbox_changes.close()

    async def _sessions_taken(self, session_ids: Sequence[str]) -> None:
        await self._reconciler.look_at(session_ids)

    async def _look_at_active_sessions(self) -> None:
        await self._active_sessions.look()

    async def _check_database(self) -> None:
        await self._database.ping()
        await self._tokens.load()  # reads the schema: a database that was never migrated is not ready
        await self._membership.ensure_registered()

    async def _socket_round(self) -> None:
        await self._websockets.socket_round()
        await self._simulator_changes.round(self._websockets.is_news)

    async def _measure_sandboxes(self) -> None:
        if self._sweeper.holds:
            await self._sandbox_upkeep.measure()
        else:
            self._sandbox_upkeep.forget()

    async def _simulator_inactivity(self) -> None:
        await self._simulators.stop_inactive(self._settings.simulator.inactivity_timeout_s)
        await self._database.simulators.prune(SIMULATOR_ROWS_KEPT_S)

    def _loop_ended(self, ended: asyncio.Future[LoopEnded]) -> None:
        if not ended.cancelled() and not self._shutdown_started:
            self.exit_code = 1
            self._ending = asyncio.ensure_future(self.shutdown(f"background loop {ended.result().name} ended"))


def _backend(
    settings: Settings, environ: Mapping[str, str], database: DatabaseManager, metrics: Metrics
) -> SimulatorBackend:
    simulator = settings.simulator
    match simulator.backend:
        case SimulatorBackendName.PROCESS:
            return ProcessBackend(runner_url=simulator.runner_url, runner_token=simulator.runner_token)
        case SimulatorBackendName.SERVICE:
            assert simulator.exchange_service is not None  # noqa: S101 - check_for_serving has seen to it
            return ServiceBackend(simulator.exchange_service)
        case SimulatorBackendName.KUBERNETES:
            assert simulator.image is not None  # noqa: S101 - as above
            assert simulator.namespace is not None  # noqa: S101
            client = KubernetesClient(
                simulator.namespace,
                load_access=lambda: load_access(environ),
                metrics=metrics,
                clock=asyncio.get_running_loop().time,
            )
            return KubernetesBackend(
                client, image=simulator.image, database_id=database.orphans.database_id, metrics=metrics
            )
