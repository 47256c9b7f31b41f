"""The pod's Prometheus metrics: names and labels as in docs/operations.md#metrics.

A ``Metrics`` has a registry of its own, so that several pods, or tests, live in one process. Labels are bounded: a
route is its template, an operation and a type come from the code, never from a client.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

_REST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DB_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)
_CREATION_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_QUEUE_BUCKETS_S = (0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_PASS_BUCKETS_S = (0.001, 0.01, 0.1, 1.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Every metric of one pod; each attribute is named as its metric is without the prefix ``session_``."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        self.rest_requests_total = self._counter(
            "rest_requests_total", "HTTP requests answered", "method", "route", "status"
        )
        self.rest_request_duration_seconds = self._histogram(
            "rest_request_duration_seconds", "Time from a request's head to its answer", _REST_BUCKETS_S
        )
        self.active_sessions = self._gauge("active_sessions", "Unexpired sessions that this pod owns")
        self.operations_total = self._counter("operations_total", "Session operations done", "operation")

        self.websocket_connections = self._gauge("websocket_connections", "Open WebSocket connections")
        self.sse_connections = self._gauge("sse_connections", "Open server-sent event streams")
        self.websocket_messages_total = self._counter(
            "websocket_messages_total", "WebSocket messages; direction is received or sent", "direction", "type"
        )
        self.websocket_errors_total = self._counter("websocket_errors_total", "WebSocket errors", "type")

        self.active_simulators = self._gauge(
            "active_simulators", "Running simulators of the sessions that this pod owns"
        )
        self.simulator_operations_total = self._counter(
            "simulator_operations_total", "Simulator operations and how they ended", "operation", "status"
        )
        self.simulator_starts_total = self._counter(
            "simulator_starts_total", "Simulators asked for; source is pool or created", "source"
        )
        self.warm_pool_spares = self._gauge(
            "warm_pool_spares", "Spares of all pods; status is creating or ready", "status"
        )
        self.simulator_creation_duration_seconds = self._histogram(
            "simulator_creation_duration_seconds",
            "Time from the first step for a simulator until it runs",
            _CREATION_BUCKETS_S,
        )
        self.waiting_starts = self._gauge(
            "waiting_starts", "Simulators of the sessions that this pod owns that wait for a start slot"
        )
        self.simulator_queue_seconds = self._histogram(
            "simulator_queue_seconds", "Time for which a simulator waited for its start slot", _QUEUE_BUCKETS_S
        )

        self.db_operation_duration_seconds = self._histogram(
            "db_operation_duration_seconds",
            "Time of a database operation",
            _DB_BUCKETS_S,
            "operation",
        )
        self.db_errors_total = self._counter("db_errors_total", "Database operations that failed", "operation")
        self.external_service_requests_total = self._counter(
            "external_service_requests_total", "Calls to other services", "service", "operation", "status"
        )
        self.active_session_lookups_total = self._counter(
            "active_session_lookups_total",
            "Lookups of an active named session; result is hit, miss, or bypass where the cache is not believed",
            "result",
        )
        self.active_session_cache_in_doubt = self._gauge(
            "active_session_cache_in_doubt", "1 while this pod does not believe the cache of active named sessions"
        )
        self.circuit_breaker_state = self._gauge("circuit_breaker_state", "0 closed, 1 open, 2 half-open", "service")

        self.client_reconnections_total = self._counter(
            "client_reconnections_total", "Clients that came back; resumed is true or false", "resumed"
        )
        self.resume_gap_total = self._counter("resume_gap_total", "Resumes that had to be answered by a snapshot")
        self.stale_writes_refused_total = self._counter(
            "stale_writes_refused_total", "Writes refused because another pod owns the session"
        )
        self.takeovers_total = self._counter("takeovers_total", "Sessions taken over from another pod", "cause")
        self.drain_seconds = self._gauge(
            "drain_seconds", "How long this pod drained, set when its last socket is gone; 0 while it is not"
        )
        self.orphans_removed_total = self._counter("orphans_removed_total", "Leftovers removed", "kind")
        self.orphans_held = self._gauge(
            "orphans_held", "Workloads that nobody knows of, too many to be removed before somebody confirms it"
        )
        self.sweeper = self._gauge("sweeper", "1 on the pod that makes the rounds that are made once for all pods")

        self.sandbox_sessions = self._gauge(
            "sandbox_sessions",
            "Sandbox sessions by status, or none; estimated from 10,000 on",
            "status",
        )
        self.sandbox_oldest_pending_seconds = self._gauge(
            "sandbox_oldest_pending_seconds", "Age of the oldest sandbox session that waits, 0 where none does"
        )
        self.sandbox_database_bytes = self._gauge("sandbox_database_bytes", "Size of the database")
        self.sandbox_table_bytes = self._gauge("sandbox_table_bytes", "Size of public.session with its indexes")
        self.sandbox_connections = self._gauge(
            "sandbox_connections",
            "Connections to the database; role is service, sessionuser, sandbox or other",
            "role",
        )
        self.sandbox_slow_queries = self._gauge("sandbox_slow_queries", "Statements that run for more than 5 s")
        self.sandbox_guard_total = self._counter(
            "sandbox_guard_total", "Transactions of sandboxes ended, roles put back, by action", "action"
        )
        self.sandbox_sessions_deleted_total = self._counter(
            "sandbox_sessions_deleted_total", "Completed sandbox sessions deleted by retention"
        )
        self.sandbox_waiters = self._gauge("sandbox_waiters", "Requests that wait for work of the inbox on this pod")

        self.kubernetes_watch_heard_timestamp_seconds = self._gauge(
            "kubernetes_watch_heard_timestamp_seconds",
            "Unix time of a watch's last sign of life, a bookmark included",
            "resource",
        )
        self.kubernetes_watches_total = self._counter(
            "kubernetes_watches_total",
            "Watches that came to their end; outcome is ended, expired or failed",
            "resource",
            "outcome",
        )

        self.admission_refused_total = self._counter(
            "admission_refused_total", "New connections that were told to come back later", "reason"
        )
        self.admission_rate = self._gauge("admission_rate", "New connections a second that this pod admits at most")
        self.event_loop_lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late the event loop runs what is due", _LAG_BUCKETS_S
        )

        self.background_pass_duration_seconds = self._histogram(
            "background_pass_duration_seconds", "Time of one pass of a background loop", _PASS_BUCKETS_S, "loop"
        )
        self.background_errors_total = self._counter(
            "background_errors_total", "Passes of a background loop that raised", "loop"
        )

        for resumed in ("true", "false"):
            self.client_reconnections_total.labels(resumed)

    def rest_request(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one answered HTTP request. ``route`` is the template, or ``unmatched``; odd methods are ``OTHER``."""
        bounded = method if method in _METHODS else "OTHER"
        self.rest_requests_total.labels(bounded, route, str(status)).inc()
        self.rest_request_duration_seconds.observe(duration_s)

    @contextmanager
    def db_operation(self, operation: str) -> Iterator[None]:
        """Time the enclosed database operation and count it as failed where it raises (a cancellation is neither)."""
        started = time.perf_counter()
        try:
            yield
        except Exception:
            self.db_errors_total.labels(operation).inc()
            raise
        finally:
            self.db_operation_duration_seconds.labels(operation).observe(time.perf_counter() - started)

    def breaker_state(self, service: str, state: int) -> None:
        """Record a circuit breaker's state; ``service`` names a kind of dependency, never one simulator."""
        self.circuit_breaker_state.labels(service).set(state)

    def watch_heard(self, resource: str) -> None:
        self.kubernetes_watch_heard_timestamp_seconds.labels(resource).set_to_current_time()

    def watch_over(self, resource: str, outcome: str) -> None:
        self.kubernetes_watches_total.labels(resource, outcome).inc()

    def background_pass(self, loop: str, duration_s: float) -> None:
        self.background_pass_duration_seconds.labels(loop).observe(duration_s)

    def background_error(self, loop: str, _error: BaseException) -> None:
        self.background_errors_total.labels(loop).inc()

    def render(self) -> tuple[bytes, str]:
        """The body and content type of ``GET /metrics``: Prometheus text format 0.0.4."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"session_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"session_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets_s: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"session_{name}", documentation, labels, registry=self.registry, buckets=buckets_s)
