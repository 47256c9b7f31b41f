import socket
from collections.abc import Iterator

import msgspec
import pytest

from session_service import config
from session_service.errors import ConfigurationError
from session_service.local.options import (
    ControlAddress,
    LocalOptions,
    PodConnections,
    check,
    has_control,
    pod_environ,
    with_local_defaults,
)

CONNECTIONS = PodConnections(
    postgres_port=5001,
    database="sessiondb",
    service_role="service",
    service_password="service-password",
    redis_port=6001,
    redis_password="redis-password",
    secret_key="key",
    runner_url="http://127.0.0.1:7001",
    runner_token="runner-token",
)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_named(taken_port: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^PORT must be a free port .*{taken_port}, which is taken$"):
        check(LocalOptions(port=taken_port))


def test_every_pods_port_is_looked_at(taken_port: int) -> None:
    # The one below is most likely free, and named when it is not.
    with pytest.raises(ConfigurationError, match=f"({taken_port - 1}|{taken_port}), which is taken"):
        check(LocalOptions(port=taken_port - 1, pods=2))


@pytest.mark.parametrize(("port", "pods"), [(0, 1), (-1, 1), (65536, 1), (65535, 2)])
def test_ports_out_of_range_are_refused(port: int, pods: int) -> None:
    with pytest.raises(ConfigurationError, match=r"^PORT "):
        check(LocalOptions(port=port, pods=pods))


@pytest.mark.parametrize("pods", [0, -1, 33])
def test_a_number_of_pods_that_makes_no_sense_is_refused(pods: int) -> None:
    with pytest.raises(ConfigurationError, match=r"^PODS "):
        check(LocalOptions(pods=pods))


def test_a_wrong_setting_is_found_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match=r"^SESSION_TIMEOUT_SECONDS "):
        check(LocalOptions(port=1024, environ={"SESSION_TIMEOUT_SECONDS": "soon"}))


def test_a_secret_that_production_refuses_is_refused_here_too() -> None:
    with pytest.raises(ConfigurationError, match=r"^SECRET_KEY ") as refusal:
        check(LocalOptions(port=1024, environ={"ENVIRONMENT": "production", "SECRET_KEY": "hunter2"}))
    assert "hunter2" not in str(refusal.value)
    check(LocalOptions(port=1024, environ={"ENVIRONMENT": "production"}))  # the run makes a good one


def test_settings_pass_through_but_not_those_of_the_servers() -> None:
    environ = {
        "SESSION_TIMEOUT_SECONDS": "77",
        "HOST": "0.0.0.0",  # noqa: S104 - the value that must not get through
        "DB_HOST": "elsewhere",
        "DB_PASS": "another",
        "DB_SSLMODE": "require",
        "REDIS_PASSWORD": "another",
        "REDIS_DB": "3",
        "MIGRATE_DB_PASSWORD": "owner",
        "SANDBOX_DB_PASSWORD": "sandboxes",
    }
    made = pod_environ(LocalOptions(port=9000, pods=2, environ=environ), 1, CONNECTIONS)
    assert made["SESSION_TIMEOUT_SECONDS"] == "77"
    assert made["HOST"] == made["DB_HOST"] == made["REDIS_HOST"] == "127.0.0.1"
    assert (made["PORT"], made["POD_NAME"]) == ("9001", "pod-2")
    assert made["DB_PASSWORD"] == made["DB_PASS"] == "service-password"
    assert (made["DB_SSLMODE"], made["REDIS_PASSWORD"], made["REDIS_DB"]) == ("disable", "redis-password", "0")
    assert not made.keys() & {"MIGRATE_DB_PASSWORD", "SANDBOX_DB_PASSWORD"}


def test_defaults_of_a_local_run_give_way_to_the_environment() -> None:
    made = pod_environ(LocalOptions(environ={"DRAIN_DELAY_SECONDS": ""}), 0, CONNECTIONS)
    assert (made["DRAIN_DELAY_SECONDS"], made["SIMULATOR_BACKEND"]) == ("0", "process")
    assert made["SIMULATOR_RUNNER_URL"] == "http://127.0.0.1:7001"
    environ = {"DRAIN_DELAY_SECONDS": "4", "SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "a:1"}
    made = pod_environ(LocalOptions(environ=environ), 0, CONNECTIONS)
    assert (made["DRAIN_DELAY_SECONDS"], made["SIMULATOR_BACKEND"]) == ("4", "service")
    assert "SIMULATOR_RUNNER_TOKEN" not in made


def test_pods_on_one_machine_do_not_share_a_name_or_a_metrics_port() -> None:
    options = LocalOptions(pods=2, environ={"POD_NAME": "mine", "METRICS_PORT": "9100"})
    pods = [pod_environ(options, index, CONNECTIONS) for index in range(2)]
    assert [pod["POD_NAME"] for pod in pods] == ["mine-1", "mine-2"]
    assert [pod["METRICS_PORT"] for pod in pods] == ["9100", "9101"]


def control_of(**environ: str) -> bool:
    return has_control(config.load(with_local_defaults(environ)).settings)


def test_there_is_a_page_with_a_control_unless_it_is_turned_off_or_this_is_production() -> None:
    assert control_of()
    assert not control_of(BROWSER_PAGE="off")
    assert not control_of(ENVIRONMENT="production")
    assert check(LocalOptions(port=1024, environ={"ENVIRONMENT": "production"})).server.browser_page == "on"


def test_pods_know_the_control_and_accept_each_others_pages() -> None:
    with_control = msgspec.structs.replace(CONNECTIONS, control=ControlAddress("http://127.0.0.1:7002", "its-key"))
    options = LocalOptions(port=9000, pods=2, environ={"CORS_ALLOWED_ORIGINS": "https://app.example.com"})
    made = pod_environ(options, 1, with_control)
    assert made["BROWSER_PAGE"] == "on"
    assert (made["LOCAL_CONTROL_URL"], made["LOCAL_CONTROL_KEY"]) == ("http://127.0.0.1:7002", "its-key")
    assert made["LOCAL_POD_URLS"] == "http://127.0.0.1:9000,http://127.0.0.1:9001"
    assert config.load(made).settings.server.cors_allowed_origins == (
        "https://app.example.com",
        *("http://127.0.0.1:9000", "http://localhost:9000", "http://127.0.0.1:9001", "http://localhost:9001"),
    )


def test_without_a_control_pods_are_told_of_none_whoever_names_one() -> None:
    environ = {
        "LOCAL_CONTROL_URL": "http://127.0.0.1:1",
        "LOCAL_CONTROL_KEY": "guessed",
        "LOCAL_POD_URLS": "http://127.0.0.1:2",
    }
    made = pod_environ(LocalOptions(environ=environ), 0, CONNECTIONS)
    assert not made.keys() & environ.keys()
    assert "CORS_ALLOWED_ORIGINS" not in made
