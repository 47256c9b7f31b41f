"""What a local run is started with, and what its pods get to know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from session_service import config
from session_service.errors import ConfigurationError
from session_service.local.ports import LOOPBACK, is_free
from session_service.wire.page import loopback_origins

MOST_PODS = 32
NOT_FOR_PODS = (
    "MIGRATE_DB_USER",
    "MIGRATE_DB_PASSWORD",
    "SANDBOX_DB_PASSWORD",
    # Only the run says where its own control is.
    "LOCAL_CONTROL_URL",
    "LOCAL_CONTROL_KEY",
    "LOCAL_POD_URLS",
)
HIGHEST_PORT = 65535


class LocalOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``environ`` is the environment with ``.env`` below it: what a pod would see (docs/local-run.md#settings)."""

    port: int = 8080
    pods: int = 1
    data_dir: Path = Path(".local")
    environ: Mapping[str, str] = msgspec.field(default_factory=dict)

    def ports(self) -> range:
        return range(self.port, self.port + self.pods)


class ControlAddress(msgspec.Struct, frozen=True):
    """Where the local control is, and the key that its callers show."""

    url: str
    key: str


class PodConnections(msgspec.Struct, frozen=True):
    """Where a pod finds what the run started for it. ``control``: where the run has one."""

    postgres_port: int
    database: str
    service_role: str
    service_password: str
    redis_port: int
    redis_password: str
    secret_key: str
    runner_url: str
    runner_token: str
    control: ControlAddress | None = None


def check(options: LocalOptions) -> config.Settings:
    """The settings that the pods will have. Raises ConfigurationError before anything is started."""
    if not 1 <= options.pods <= MOST_PODS:
        raise ConfigurationError("PODS", f"an integer, 1 to {MOST_PODS}", str(options.pods))
    if not 1 <= options.port <= HIGHEST_PORT - options.pods + 1:
        raise ConfigurationError("PORT", f"1 to {HIGHEST_PORT}, with room for {options.pods} pods", str(options.port))
    for port in options.ports():
        if not is_free(port):
            raise ConfigurationError("PORT", "a free port on 127.0.0.1", f"{port}, which is taken")
    settings = config.load(with_local_defaults(options.environ)).settings
    config.check_for_serving(config.load(pod_environ(options, 0, _trial_connections(settings))).settings)
    if settings.server.metrics_port is not None:
        for port in range(settings.server.metrics_port, settings.server.metrics_port + options.pods):
            if port in options.ports():
                raise ConfigurationError("METRICS_PORT", "a port beside the pods' own", f"{port}, which is a pod's")
            if not is_free(port):
                raise ConfigurationError("METRICS_PORT", "a free port on 127.0.0.1", f"{port}, which is taken")
    return settings


def _trial_connections(settings: config.Settings) -> PodConnections:
    """Stand-ins for what is not known before the servers run, so that a pod's settings can be checked as a whole."""
    made = "x" * config.MINIMUM_SECRET_BYTES
    return PodConnections(
        postgres_port=1,
        database="database",
        service_role="role",
        service_password=made,
        redis_port=1,
        redis_password=made,
        secret_key=settings.auth.secret_key or made,
        runner_url="http://127.0.0.1:1",
        runner_token=made,
        control=ControlAddress("http://127.0.0.1:1", made) if has_control(settings) else None,
    )


def has_control(settings: config.Settings) -> bool:
    """Whether a page of this run may sign in without a password and end pods (docs/local-run.md#local-control)."""
    server = settings.server
    return server.browser_page is config.BrowserPage.ON and server.environment is not config.Environment.PRODUCTION


def with_local_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with the defaults of a local run for what is not set; an empty variable counts as not set."""
    defaults = {"BROWSER_PAGE": "on", "DRAIN_DELAY_SECONDS": "0", "SIMULATOR_BACKEND": "process"}
    return {**environ, **{name: value for name, value in defaults.items() if not environ.get(name)}}


def pod_name(environ: Mapping[str, str], index: int, pods: int) -> str:
    """POD_NAME where it is set (numbered, when there are several), else ``pod-1``, ``pod-2``, …"""
    given = environ.get("POD_NAME")
    if not given:
        return f"pod-{index + 1}"
    return given if pods == 1 else f"{given}-{index + 1}"


def pod_environ(options: LocalOptions, index: int, connections: PodConnections) -> dict[str, str]:
    """The whole environment of one pod: everything passes through but what the run itself decides."""
    environ = with_local_defaults(options.environ)
    environ.update(
        HOST=LOOPBACK,
        PORT=str(options.port + index),
        POD_NAME=pod_name(options.environ, index, options.pods),
        DB_HOST=LOOPBACK,
        DB_PORT=str(connections.postgres_port),
        DB_NAME=connections.database,
        DB_USER=connections.service_role,
        DB_PASSWORD=connections.service_password,
        DB_PASS=connections.service_password,
        DB_SSLMODE="disable",
        REDIS_HOST=LOOPBACK,
        REDIS_PORT=str(connections.redis_port),
        REDIS_DB="0",
        REDIS_PASSWORD=connections.redis_password,
        SECRET_KEY=connections.secret_key,
    )
    for name in NOT_FOR_PODS:
        environ.pop(name, None)
    if environ.get("METRICS_PORT"):
        environ["METRICS_PORT"] = str(int(environ["METRICS_PORT"]) + index)
    if environ["SIMULATOR_BACKEND"] == "process":
        environ.update(SIMULATOR_RUNNER_URL=connections.runner_url, SIMULATOR_RUNNER_TOKEN=connections.runner_token)
    if connections.control is not None:
        environ.update(_page_environ(options, connections.control))
    return environ


def _page_environ(options: LocalOptions, control: ControlAddress) -> dict[str, str]:
    """A page goes on over another pod when the one that served it has ended: so each accepts the others' pages."""
    pod_urls = [f"http://{LOOPBACK}:{port}" for port in options.ports()]
    given = options.environ.get("CORS_ALLOWED_ORIGINS", "")
    return {
        "LOCAL_CONTROL_URL": control.url,
        "LOCAL_CONTROL_KEY": control.key,
        "LOCAL_POD_URLS": ",".join(pod_urls),
        "CORS_ALLOWED_ORIGINS": ",".join([given, *loopback_origins(pod_urls)]),
    }
