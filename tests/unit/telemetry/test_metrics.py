import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from session_service.telemetry.metrics import Metrics

# the metrics of docs/operations.md#metrics: the name without its prefix, and the labels
CONTRACT: dict[str, tuple[str, ...]] = {
    "rest_requests_total": ("method", "route", "status"),
    "rest_request_duration_seconds": (),
    "active_sessions": (),
    "operations_total": ("operation",),
    "websocket_connections": (),
    "sse_connections": (),
    "websocket_messages_total": ("direction", "type"),
    "websocket_errors_total": ("type",),
    "active_simulators": (),
    "simulator_operations_total": ("operation", "status"),
    "simulator_creation_duration_seconds": (),
    "db_operation_duration_seconds": ("operation",),
    "db_errors_total": ("operation",),
    "external_service_requests_total": ("service", "operation", "status"),
    "circuit_breaker_state": ("service",),
    "client_reconnections_total": ("resumed",),
    "resume_gap_total": (),
    "stale_writes_refused_total": (),
    "takeovers_total": ("cause",),
    "drain_seconds": (),
    "orphans_removed_total": ("kind",),
}


def samples(metrics: Metrics) -> list[Sample]:
    text = metrics.render()[0].decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


@pytest.mark.parametrize(("name", "labels"), CONTRACT.items(), ids=CONTRACT)
def test_is_exposed_by_its_exact_name_and_labels(name: str, labels: tuple[str, ...]) -> None:
    metrics = Metrics()
    metric = getattr(metrics, name)
    child = metric.labels(**dict.fromkeys(labels, "x")) if labels else metric
    timed = name.endswith("_duration_seconds")
    child.observe(0.5) if timed else child.inc()
    exposed = f"session_{name}_count" if timed else f"session_{name}"
    found = [sample for sample in samples(metrics) if sample.name == exposed and sample.value == 1.0]
    assert [set(sample.labels) for sample in found] == [set(labels)]


def test_two_pods_of_a_process_count_for_themselves() -> None:
    one, two = Metrics(), Metrics()
    one.active_sessions.inc()
    assert one.registry.get_sample_value("session_active_sessions") == 1
    assert two.registry.get_sample_value("session_active_sessions") == 0


def test_the_process_is_measured_too() -> None:
    names = {sample.name for sample in samples(Metrics())}
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= names


def test_is_the_text_format_that_every_scraper_reads() -> None:
    assert Metrics().render()[1].startswith("text/plain; version=0.0.4")


def test_odd_methods_are_one_label() -> None:
    metrics = Metrics()
    for method in ("GET", "BREW", "X" * 1000):
        metrics.rest_request(method, "/api/sessions", 200, 0.01)
    seen = {sample.labels["method"] for sample in samples(metrics) if sample.name == "session_rest_requests_total"}
    assert seen == {"GET", "OTHER"}


def test_a_database_operation_is_timed_and_counted_where_it_fails() -> None:
    metrics = Metrics()
    with metrics.db_operation("get_session"):
        pass
    with pytest.raises(OSError, match="gone"), metrics.db_operation("get_session"):
        raise OSError("gone")
    label = {"operation": "get_session"}
    assert metrics.registry.get_sample_value("session_db_operation_duration_seconds_count", label) == 2
    assert metrics.registry.get_sample_value("session_db_errors_total", label) == 1


def test_background_loops_are_measured() -> None:
    metrics = Metrics()
    metrics.background_pass("cleanup", 0.2)
    metrics.background_error("cleanup", OSError())
    label = {"loop": "cleanup"}
    assert metrics.registry.get_sample_value("session_background_pass_duration_seconds_count", label) == 1
    assert metrics.registry.get_sample_value("session_background_errors_total", label) == 1
