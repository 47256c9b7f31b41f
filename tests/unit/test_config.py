"""Every variable of the contract: what it takes, what it refuses, and what the refusal says."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from session_service import config
from session_service.config import Settings, ShutdownPolicy, SimulatorBackendName
from session_service.errors import ConfigurationError

STRONG = "0123456789abcdef0123456789abcdef"
SERVING = {"SIMULATOR_BACKEND": "process", "SECRET_KEY": STRONG}

# variable: the setting, a good value and what it becomes, bad values
VARIABLES: dict[str, tuple[str, str, object, tuple[str, ...]]] = {
    "HOST": ("server.host", "127.0.0.1", "127.0.0.1", ()),
    "PORT": ("server.port", "65535", 65535, ("0", "65536", "http", "80.5", "-1")),
    "METRICS_PORT": ("server.metrics_port", "9100", 9100, ("0", "65536", "none")),
    "POD_NAME": ("server.pod_name", "pod-1.local", "pod-1.local", ("-pod", "pod one", "p" * 254)),
    "ENVIRONMENT": ("server.environment", "production", "production", ("prod",)),
    "LOG_LEVEL": ("log.level", "DEBUG", "DEBUG", ("verbose", "TRACE")),
    "LOG_FORMAT": ("log.format", "console", "console", ("text",)),
    "TRUSTED_PROXIES": ("server.trusted_proxies", "10.0.0.0/8, ::1", ("10.0.0.0/8", "::1"), ()),
    "CORS_ALLOWED_ORIGINS": ("server.cors_allowed_origins", "https://a,*", ("https://a", "*"), ()),
    "BROWSER_PAGE": ("server.browser_page", "on", "on", ("yes", "true", "1")),
    "DB_HOST": ("database.host", "db", "db", ()),
    "DB_PORT": ("database.port", "6432", 6432, ("x", "0")),
    "DB_NAME": ("database.name", "d", "d", ()),
    "DB_USER": ("database.user", "u", "u", ()),
    "DB_PASSWORD": ("database.password", "p", "p", ()),
    "DB_SSLMODE": ("database.sslmode", "verify-full", "verify-full", ("yes", "on")),
    "DB_MIN_CONNECTIONS": ("database.min_connections", "1", 1, ("0", "1001", "two")),
    "DB_MAX_CONNECTIONS": ("database.max_connections", "1000", 1000, ("0", "1001")),
    "MIGRATE_DB_USER": ("database.migrate_user", "owner", "owner", ()),
    "MIGRATE_DB_PASSWORD": ("database.migrate_password", "p", "p", ()),
    "SANDBOX_DB_PASSWORD": ("sandbox.password", "p:/@~", "p:/@~", ("p p", "ü")),
    "SANDBOX_RETENTION_DAYS": ("sandbox.retention_days", "36500", 36500, ("-1", "36501", "1.5")),
    "REDIS_HOST": ("redis.host", "r", "r", ()),
    "REDIS_PORT": ("redis.port", "6380", 6380, ("65536",)),
    "REDIS_DB": ("redis.db", "15", 15, ("16", "-1")),
    "REDIS_PASSWORD": ("redis.password", "p", "p", ()),
    "AUTH_MODE": ("auth.mode", "service", "service", ("none",)),
    "SECRET_KEY": ("auth.secret_key", STRONG, STRONG, ()),
    "SECRET_KEY_PREVIOUS": ("auth.secret_key_previous", STRONG, STRONG, ()),
    "ALGORITHM": ("auth.algorithm", "RS256", "RS256", ("none", "hs256", "HS256 ,RS256")),
    "JWT_ISSUER": ("auth.issuer", "i", "i", ()),
    "JWT_AUDIENCE": ("auth.audience", "a", "a", ()),
    "JWT_USER_CLAIM": ("auth.user_claim", "uid", "uid", ()),
    "JWKS_URL": ("auth.jwks_url", "https://k", "https://k", ()),
    "AUTH_SERVICE_URL": ("auth.service_url", "https://a", "https://a", ()),
    "ACCESS_TOKEN_EXPIRE_MINUTES": ("auth.token_lifetime_minutes", "5", 5, ("0", "525601", "1h")),
    "SESSION_TIMEOUT_SECONDS": ("session.timeout_s", "1", 1, ("0", "1.5", "31536001", "nan")),
    "MAX_SESSIONS_PER_USER": ("session.max_per_user", "1", 1, ("0", "10001")),
    "ACTIVE_SESSION_CACHE_TTL_SECONDS": ("session.active_cache_ttl_s", "60", 60, ("0", "604801")),
    "WEBSOCKET_HEARTBEAT_INTERVAL": ("websocket.heartbeat_interval_s", "0.5", 0.5, ("0", "301", "nan", "inf")),
    "WEBSOCKET_QUERY_TOKEN": ("websocket.query_token", "allow", "allow", ("true", "yes")),
    "SIMULATOR_BACKEND": ("simulator.backend", "service", "service", ("docker",)),
    "SIMULATOR_IMAGE": ("simulator.image", "i:1", "i:1", ()),
    "KUBERNETES_NAMESPACE": ("simulator.namespace", "n", "n", ()),
    "EXCHANGE_MANAGER_SERVICE": ("simulator.exchange_service", "ex:50055", "ex:50055", ("ex", "ex:port", ":1")),
    "MAX_SIMULATORS_PER_USER": ("simulator.max_per_user", "1", 1, ("0", "10001")),
    "SIMULATOR_WARM_POOL_SIZE": ("simulator.warm_pool_size", "4", 4, ("-1", "1001", "some")),
    "SIMULATOR_MAX_CONCURRENT_STARTS": ("simulator.max_concurrent_starts", "3", 3, ("0", "10001")),
    "SIMULATOR_INACTIVITY_TIMEOUT": ("simulator.inactivity_timeout_s", "1", 1, ("0", "31536001")),
    "SIMULATOR_HEARTBEAT_INTERVAL": ("simulator.heartbeat_interval_s", "0.1", 0.1, ("0", "61", "-inf")),
    "SIMULATOR_SHUTDOWN_POLICY": ("simulator.shutdown_policy", "stop", "stop", ("keep",)),
    "SIMULATOR_RUNNER_URL": ("simulator.runner_url", "http://r", "http://r", ()),
    "SIMULATOR_RUNNER_TOKEN": ("simulator.runner_token", "t", "t", ()),
    "POD_LEASE_SECONDS": ("pod.lease_s", "1", 1.0, ("0.5", "301")),
    "DRAIN_DELAY_SECONDS": ("pod.drain_delay_s", "0", 0.0, ("-1", "301")),
    "DRAIN_WINDOW_SECONDS": ("pod.drain_window_s", "3600", 3600.0, ("3601", "x")),
    "LOCAL_CONTROL_URL": ("local_run.control_url", "http://127.0.0.1:1", "http://127.0.0.1:1", ()),
    "LOCAL_CONTROL_KEY": ("local_run.control_key", "k", "k", ()),
    "LOCAL_POD_URLS": ("local_run.pod_urls", "http://a,http://b", ("http://a", "http://b"), ()),
}
# As the local run sets them for its pods.
LOCAL_RUN = {
    "LOCAL_CONTROL_URL": "http://127.0.0.1:7001",
    "LOCAL_CONTROL_KEY": "key-of-this-run",
    "LOCAL_POD_URLS": "http://127.0.0.1:8080,http://127.0.0.1:8081",
}
SECRETS = {
    "DB_PASSWORD",
    "LOCAL_CONTROL_KEY",
    "MIGRATE_DB_PASSWORD",
    "REDIS_PASSWORD",
    "SANDBOX_DB_PASSWORD",
    "SECRET_KEY",
    "SECRET_KEY_PREVIOUS",
    "SIMULATOR_RUNNER_TOKEN",
}


def setting(settings: Settings, path: str) -> object:
    section, field = path.split(".")
    return getattr(getattr(settings, section), field)


def refusal(environ: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        config.check_for_serving(config.load(environ).settings)
    return caught.value


def test_the_table_above_has_every_variable() -> None:
    assert {value.variable for value in config.load({}).effective} == set(VARIABLES)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_good_value_is_taken_and_shown_with_its_source(variable: str) -> None:
    path, raw, expected, _bad = VARIABLES[variable]
    configuration = config.load({variable: f" {raw} "})
    assert setting(configuration.settings, path) == expected
    [shown] = [value for value in configuration.effective if value.variable == variable]
    assert shown.source == "environment"
    assert shown.secret == (variable in SECRETS)
    as_text = ",".join(expected) if isinstance(expected, tuple) else str(expected)
    assert shown.value == ("********" if variable in SECRETS else as_text)


def test_the_names_of_choices_are_read_in_any_case() -> None:
    settings = config.load({"LOG_LEVEL": "debug", "ENVIRONMENT": "PRODUCTION", "AUTH_MODE": "Jwks"}).settings
    assert (settings.log.level, settings.server.environment, settings.auth.mode) == ("DEBUG", "production", "jwks")


@pytest.mark.parametrize(
    ("variable", "raw"), [(name, raw) for name, (_path, _good, _value, bad) in VARIABLES.items() for raw in bad]
)
def test_a_bad_value_is_refused_in_one_line_naming_variable_rule_and_value(variable: str, raw: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load({variable: raw})
    [rule] = [value.must_be for value in config.load({}).effective if value.variable == variable]
    message = caught.value.message
    assert "\n" not in message
    assert message.startswith(variable)
    assert rule in message
    assert (repr(raw) in message) == (variable not in SECRETS)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert config.load({"PORT": ""}, {"PORT": "81"}).settings.server.port == 81
    assert config.load({"PORT": ""}).settings.server.port == 8080


def test_the_environment_comes_before_dotenv_and_both_before_the_default() -> None:
    configuration = config.load({"PORT": "1"}, {"PORT": "2", "HOST": "::1"})
    assert configuration.settings.server.port == 1
    assert configuration.settings.server.host == "::1"
    sources = {value.variable: value.source for value in configuration.effective}
    assert (sources["PORT"], sources["HOST"], sources["DB_PORT"]) == ("environment", ".env", "default")


def test_documented_defaults() -> None:
    settings = config.load({}).settings
    assert (settings.server.host, settings.server.port, settings.server.metrics_port) == ("0.0.0.0", 8080, None)  # noqa: S104
    assert (settings.database.min_connections, settings.database.max_connections) == (2, 10)
    assert (settings.session.timeout_s, settings.session.max_per_user) == (3600, 10)
    assert (settings.simulator.max_per_user, settings.simulator.inactivity_timeout_s) == (2, 3600)
    assert settings.simulator.heartbeat_interval_s == 15
    assert settings.simulator.backend is SimulatorBackendName.KUBERNETES
    assert settings.simulator.shutdown_policy is ShutdownPolicy.HANDOFF
    assert (settings.pod.lease_s, settings.pod.drain_delay_s, settings.pod.drain_window_s) == (10, 5, 20)
    assert settings.server.pod_name == socket.gethostname()


def test_db_pass_is_another_name_of_db_password() -> None:
    assert config.load({"DB_PASS": "a"}).settings.database.password == "a"
    assert config.load({"DB_PASS": "a", "DB_PASSWORD": "b"}).settings.database.password == "b"


def test_settings_are_frozen() -> None:
    settings = config.load({}).settings
    with pytest.raises(AttributeError):
        settings.server.port = 1  # type: ignore[misc] # this is what must fail
    assert msgspec.structs.replace(settings.server, port=1).port == 1


# --- rules that bind several settings -----------------------------------------------------------------------------


def test_a_usual_development_pod_is_served() -> None:
    config.check_for_serving(config.load({"SIMULATOR_BACKEND": "process"}).settings)


def test_a_pod_on_kubernetes_is_served() -> None:
    environ = {"SIMULATOR_IMAGE": "registry.example/simulator:1", "KUBERNETES_NAMESPACE": "session-simulators"}
    config.check_for_serving(config.load(environ).settings)


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"DB_MIN_CONNECTIONS": "11"}, "DB_MIN_CONNECTIONS"),
        ({"ALGORITHM": "RS256"}, "ALGORITHM"),
        ({"AUTH_MODE": "jwks", "ALGORITHM": "RS256"}, "JWKS_URL"),
        ({"AUTH_MODE": "jwks", "ALGORITHM": "RS256", "JWKS_URL": "file:///etc/keys"}, "JWKS_URL"),
        ({"AUTH_MODE": "jwks", "JWKS_URL": "https://keys"}, "ALGORITHM"),
        ({"AUTH_MODE": "service"}, "AUTH_SERVICE_URL"),
        ({"AUTH_MODE": "service", "AUTH_SERVICE_URL": "auth:80"}, "AUTH_SERVICE_URL"),
        ({"SIMULATOR_BACKEND": "kubernetes", "KUBERNETES_NAMESPACE": "n"}, "SIMULATOR_IMAGE"),
        ({"SIMULATOR_BACKEND": "kubernetes", "SIMULATOR_IMAGE": "i"}, "KUBERNETES_NAMESPACE"),
        (
            {"SIMULATOR_BACKEND": "kubernetes", "SIMULATOR_IMAGE": "i", "KUBERNETES_NAMESPACE": "a.b"},
            "KUBERNETES_NAMESPACE",
        ),
        ({"SIMULATOR_BACKEND": "service"}, "EXCHANGE_MANAGER_SERVICE"),
        (
            {
                "SIMULATOR_BACKEND": "service",
                "EXCHANGE_MANAGER_SERVICE": "ex:1",
                "SIMULATOR_WARM_POOL_SIZE": "1",
            },
            "SIMULATOR_WARM_POOL_SIZE",
        ),
        ({"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "ex:0"}, "EXCHANGE_MANAGER_SERVICE"),
        ({"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "ex:65536"}, "EXCHANGE_MANAGER_SERVICE"),
        ({"SIMULATOR_RUNNER_URL": "http://127.0.0.1:1"}, "SIMULATOR_RUNNER_TOKEN"),
        ({"TRUSTED_PROXIES": "10.0.0.0/8,proxy"}, "TRUSTED_PROXIES"),
        ({"CORS_ALLOWED_ORIGINS": "https://a.example/path"}, "CORS_ALLOWED_ORIGINS"),
        ({"CORS_ALLOWED_ORIGINS": "a.example"}, "CORS_ALLOWED_ORIGINS"),
        ({"CORS_ALLOWED_ORIGINS": "null"}, "CORS_ALLOWED_ORIGINS"),
        ({"ENVIRONMENT": "production", "SECRET_KEY": ""}, "SECRET_KEY"),
        ({"ENVIRONMENT": "production", "SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"ENVIRONMENT": "production", "SECRET_KEY_PREVIOUS": "short"}, "SECRET_KEY_PREVIOUS"),
        (
            {
                "ENVIRONMENT": "production",
                "SECRET_KEY": "your_secret_key_here_generate_with_openssl_rand_hex_32",
            },
            "SECRET_KEY",
        ),
        ({"ENVIRONMENT": "production", "DB_PASSWORD": "sessionpass123"}, "DB_PASSWORD"),
        ({"ENVIRONMENT": "production", "SANDBOX_DB_PASSWORD": "sessionpass123"}, "SANDBOX_DB_PASSWORD"),
        ({"ENVIRONMENT": "production", "REDIS_PASSWORD": "password"}, "REDIS_PASSWORD"),
        ({"ENVIRONMENT": "production", **LOCAL_RUN}, "LOCAL_CONTROL_URL"),
        ({"ENVIRONMENT": "production", "LOCAL_POD_URLS": "http://127.0.0.1:8080"}, "LOCAL_POD_URLS"),
        ({"ENVIRONMENT": "production", "LOCAL_CONTROL_KEY": "key-of-this-run"}, "LOCAL_CONTROL_KEY"),
        ({**LOCAL_RUN, "LOCAL_CONTROL_URL": "http://10.0.0.1:7001"}, "LOCAL_CONTROL_URL"),
        ({**LOCAL_RUN, "LOCAL_CONTROL_URL": "http://127.0.0.1:7001/path"}, "LOCAL_CONTROL_URL"),
        ({**LOCAL_RUN, "LOCAL_CONTROL_URL": "http://127.0.0.1:\u0667\u0660\u0660\u0661"}, "LOCAL_CONTROL_URL"),
        ({**LOCAL_RUN, "LOCAL_POD_URLS": "http://127.0.0.1:8080,http://localhost:8081"}, "LOCAL_POD_URLS"),
        ({**LOCAL_RUN, "LOCAL_CONTROL_KEY": ""}, "LOCAL_CONTROL_KEY"),
        ({**LOCAL_RUN, "LOCAL_POD_URLS": ""}, "LOCAL_POD_URLS"),
    ],
)
def test_what_does_not_go_together_is_refused(environ: dict[str, str], variable: str) -> None:
    error = refusal({**SERVING, **environ})
    assert error.message.startswith(f"{variable} ")
    assert "\n" not in error.message
    for name in SECRETS & set(environ):
        assert not environ[name] or repr(environ[name]) not in error.message


def test_a_strong_production_configuration_is_served() -> None:
    config.check_for_serving(
        config.load({**SERVING, "ENVIRONMENT": "production", "DB_PASSWORD": "of our own"}).settings
    )


def test_what_a_local_run_tells_its_pods_is_served() -> None:
    config.check_for_serving(config.load({**SERVING, **LOCAL_RUN}).settings)


# --- .env ---------------------------------------------------------------------------------------------------------


def test_dotenv_lines(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n\nA=1\nexport B = two words # a remark\n"
        "C='quoted # not a remark'\nD=\"x\"\nE=a=b\nF=\nG='open\n"
    )
    assert config.read_dotenv(file) == {
        "A": "1",
        "B": "two words",
        "C": "quoted # not a remark",
        "D": "x",
        "E": "a=b",
        "F": "",
        "G": "'open",
    }


def test_no_dotenv_is_an_empty_one(tmp_path: Path) -> None:
    assert config.read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize("line", ["just-text-with-a-secret", "TWO WORDS=secret", "=secret", "1A=secret"])
def test_a_dotenv_line_that_is_none_is_refused_without_being_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"A=1\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        config.read_dotenv(file)
    assert "line 2" in caught.value.message
    assert "secret" not in caught.value.message


def test_an_unreadable_dotenv_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / ".env"
    binary.write_bytes(b"A=\xff\xfe\n")
    directory = tmp_path / "directory"
    directory.mkdir()
    for path in (binary, directory):
        with pytest.raises(ConfigurationError, match=r"\.env"):
            config.read_dotenv(path)
