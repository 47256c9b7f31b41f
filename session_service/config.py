"""Settings: read once, checked whole, frozen. Nothing here is read at import time.

The variables are those of the public contract (docs/configuration.md is generated from this table by
``session-service config --markdown``). A value comes from the environment, else from ``.env`` in the working
directory, else from its default; ``Configuration.sources`` keeps which. A wrong value raises ``ConfigurationError``,
whose one line names the variable, what it must be, and what it was (masked where it is a secret).
"""

from __future__ import annotations

import ipaddress
import math
import re
import socket
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from session_service.errors import ConfigurationError

MINIMUM_SECRET_BYTES = 32  # RFC 7518 §3.2: a key of at least the hash's size, for HS256
HIGHEST_PORT = 65535
DOCUMENTED_SECRETS = frozenset(
    {
        # Secrets that stand in public documents: fine on a laptop, refused in production.
        "sessionpass123",
        "postgres",
        "password",
        "your_postgres_password_here",
        "your_secret_key_here_generate_with_openssl_rand_hex_32",
    }
)
HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")
ASYMMETRIC_ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)


class Environment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"  # console on a terminal, json on a pipe


class LogLevel(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class AuthMode(StrEnum):
    JWT = "jwt"  # shared secret
    JWKS = "jwks"  # public keys fetched from JWKS_URL
    SERVICE = "service"  # AUTH_SERVICE_URL is asked


class BrowserPage(StrEnum):
    OFF = "off"
    ON = "on"  # GET / is the trading page


class QueryToken(StrEnum):
    REFUSE = "refuse"
    ALLOW = "allow"


class SimulatorBackendName(StrEnum):
    KUBERNETES = "kubernetes"
    PROCESS = "process"
    SERVICE = "service"


class ShutdownPolicy(StrEnum):
    HANDOFF = "handoff"
    STOP = "stop"


def _setting(
    variable: str,
    must_be: str,
    *,
    aliases: tuple[str, ...] = (),
    secret: bool = False,
    **limits: Any,
) -> Meta:
    extra = {"variable": variable, "must_be": must_be, "aliases": aliases, "secret": secret}
    return Meta(extra=extra, **limits)


_PORT = "a port number, 1 to 65535"
_LOCAL_URL = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pod listens and who it is."""

    host: Annotated[str, _setting("HOST", "an address to listen on", min_length=1)] = "0.0.0.0"  # noqa: S104 - a pod serves its network
    port: Annotated[int, _setting("PORT", _PORT, ge=1, le=65535)] = 8080
    metrics_port: Annotated[Annotated[int, Meta(ge=1, le=65535)] | None, _setting("METRICS_PORT", _PORT)] = None
    pod_name: Annotated[
        str,
        _setting(
            "POD_NAME",
            "1 to 253 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,252})$",
        ),
    ] = ""
    environment: Annotated[Environment, _setting("ENVIRONMENT", "development or production")] = (
        Environment.DEVELOPMENT
    )
    trusted_proxies: Annotated[
        tuple[str, ...], _setting("TRUSTED_PROXIES", "IP addresses or networks, separated by commas")
    ] = ()
    cors_allowed_origins: Annotated[
        tuple[str, ...],
        _setting("CORS_ALLOWED_ORIGINS", "origins such as https://app.example.com, separated by commas, or *"),
    ] = ()
    browser_page: Annotated[BrowserPage, _setting("BROWSER_PAGE", "on or off")] = BrowserPage.OFF


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    level: Annotated[LogLevel, _setting("LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR")] = LogLevel.INFO
    format: Annotated[LogFormat, _setting("LOG_FORMAT", "json, console or auto")] = LogFormat.AUTO


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL ≥ 15. ``min_connections`` are opened at start, so that a wrong password is seen then."""

    host: Annotated[str, _setting("DB_HOST", "a host name", min_length=1)] = "localhost"
    port: Annotated[int, _setting("DB_PORT", _PORT, ge=1, le=65535)] = 5432
    name: Annotated[str, _setting("DB_NAME", "a database name", min_length=1)] = "sessiondb"
    user: Annotated[str, _setting("DB_USER", "a role name", min_length=1)] = "session_service"
    password: Annotated[str, _setting("DB_PASSWORD", "a password", aliases=("DB_PASS",), secret=True)] = ""
    sslmode: Annotated[
        Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        _setting("DB_SSLMODE", "disable, allow, prefer, require, verify-ca or verify-full"),
    ] = "prefer"
    min_connections: Annotated[int, _setting("DB_MIN_CONNECTIONS", "an integer, 1 to 1000", ge=1, le=1000)] = 2
    max_connections: Annotated[int, _setting("DB_MAX_CONNECTIONS", "an integer, 1 to 1000", ge=1, le=1000)] = 10
    migrate_user: Annotated[str | None, _setting("MIGRATE_DB_USER", "a role that may run DDL")] = None
    migrate_password: Annotated[str | None, _setting("MIGRATE_DB_PASSWORD", "a password", secret=True)] = None


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``public.session``, which sandboxes use over SQL. No password: nobody logs in as ``sessionuser``."""

    password: Annotated[
        str,
        _setting("SANDBOX_DB_PASSWORD", "printable ASCII characters without spaces", secret=True, pattern="^[!-~]*$"),
    ] = ""
    # Whether anybody needs old results only an operator can know: so nothing is deleted unasked.
    retention_days: Annotated[
        int, _setting("SANDBOX_RETENTION_DAYS", "0 (keep all) to 36500, whole days", ge=0, le=36500)
    ] = 0


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Redis ≥ 7.0, or a server that speaks its commands. Without it the service is slower, not wrong."""

    host: Annotated[str, _setting("REDIS_HOST", "a host name", min_length=1)] = "localhost"
    port: Annotated[int, _setting("REDIS_PORT", _PORT, ge=1, le=65535)] = 6379
    db: Annotated[int, _setting("REDIS_DB", "an integer, 0 to 15", ge=0, le=15)] = 0
    password: Annotated[str, _setting("REDIS_PASSWORD", "a password", secret=True)] = ""


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are verified. ``secret_key_previous`` is accepted beside the current key, for a rotation."""

    mode: Annotated[AuthMode, _setting("AUTH_MODE", "jwt, jwks or service")] = AuthMode.JWT
    secret_key: Annotated[
        str, _setting("SECRET_KEY", f"a secret of at least {MINIMUM_SECRET_BYTES} bytes", secret=True)
    ] = ""
    secret_key_previous: Annotated[
        str,
        _setting("SECRET_KEY_PREVIOUS", f"a secret of at least {MINIMUM_SECRET_BYTES} bytes", secret=True),
    ] = ""
    algorithm: Annotated[
        str,
        _setting(
            "ALGORITHM",
            "one of " + ", ".join((*HMAC_ALGORITHMS, *ASYMMETRIC_ALGORITHMS)),
            pattern="^(" + "|".join((*HMAC_ALGORITHMS, *ASYMMETRIC_ALGORITHMS)) + ")$",
        ),
    ] = "HS256"
    issuer: Annotated[str | None, _setting("JWT_ISSUER", "the exact iss claim")] = None
    audience: Annotated[str | None, _setting("JWT_AUDIENCE", "the exact aud claim")] = None
    user_claim: Annotated[str, _setting("JWT_USER_CLAIM", "a claim name", min_length=1)] = "sub"
    jwks_url: Annotated[str | None, _setting("JWKS_URL", "an http or https URL")] = None
    service_url: Annotated[str | None, _setting("AUTH_SERVICE_URL", "an http or https URL")] = None
    token_lifetime_minutes: Annotated[
        int, _setting("ACCESS_TOKEN_EXPIRE_MINUTES", "minutes, 1 to 525600", ge=1, le=525600)
    ] = 60


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    timeout_s: Annotated[int, _setting("SESSION_TIMEOUT_SECONDS", "seconds, 1 to 31536000", ge=1, le=31536000)] = 3600
    max_per_user: Annotated[int, _setting("MAX_SESSIONS_PER_USER", "an integer, 1 to 10000", ge=1, le=10000)] = 10
    active_cache_ttl_s: Annotated[
        int, _setting("ACTIVE_SESSION_CACHE_TTL_SECONDS", "seconds, 1 to 604800", ge=1, le=604800)
    ] = 3600


class WebSocketSettings(msgspec.Struct, frozen=True, kw_only=True):
    heartbeat_interval_s: Annotated[
        float, _setting("WEBSOCKET_HEARTBEAT_INTERVAL", "seconds, 0.1 to 300", ge=0.1, le=300)
    ] = 10.0
    query_token: Annotated[QueryToken, _setting("WEBSOCKET_QUERY_TOKEN", "refuse or allow")] = QueryToken.REFUSE


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where simulators run, and for how long. The runner variables are set by the local run for its pods."""

    backend: Annotated[SimulatorBackendName, _setting("SIMULATOR_BACKEND", "kubernetes, process or service")] = (
        SimulatorBackendName.KUBERNETES
    )
    image: Annotated[str | None, _setting("SIMULATOR_IMAGE", "a container image")] = None
    namespace: Annotated[str | None, _setting("KUBERNETES_NAMESPACE", "a namespace")] = None
    exchange_service: Annotated[
        Annotated[str, Meta(pattern=r"^[^:\s]+:\d{1,5}$")] | None,
        _setting("EXCHANGE_MANAGER_SERVICE", "host:port of an exchange"),
    ] = None
    max_per_user: Annotated[int, _setting("MAX_SIMULATORS_PER_USER", "an integer, 1 to 10000", ge=1, le=10000)] = 2
    warm_pool_size: Annotated[int, _setting("SIMULATOR_WARM_POOL_SIZE", "an integer, 0 to 1000", ge=0, le=1000)] = 0
    max_concurrent_starts: Annotated[
        int, _setting("SIMULATOR_MAX_CONCURRENT_STARTS", "an integer, 1 to 10000", ge=1, le=10000)
    ] = 20
    inactivity_timeout_s: Annotated[
        int, _setting("SIMULATOR_INACTIVITY_TIMEOUT", "seconds, 1 to 31536000", ge=1, le=31536000)
    ] = 3600
    heartbeat_interval_s: Annotated[
        float, _setting("SIMULATOR_HEARTBEAT_INTERVAL", "seconds, 0.1 to 60", ge=0.1, le=60)
    ] = 15.0
    shutdown_policy: Annotated[ShutdownPolicy, _setting("SIMULATOR_SHUTDOWN_POLICY", "handoff or stop")] = (
        ShutdownPolicy.HANDOFF
    )
    runner_url: Annotated[str | None, _setting("SIMULATOR_RUNNER_URL", "an http URL")] = None
    runner_token: Annotated[str | None, _setting("SIMULATOR_RUNNER_TOKEN", "a secret", secret=True)] = None


class PodSettings(msgspec.Struct, frozen=True, kw_only=True):
    lease_s: Annotated[float, _setting("POD_LEASE_SECONDS", "seconds, 1 to 300", ge=1, le=300)] = 10.0
    drain_delay_s: Annotated[float, _setting("DRAIN_DELAY_SECONDS", "seconds, 0 to 300", ge=0, le=300)] = 5.0
    drain_window_s: Annotated[float, _setting("DRAIN_WINDOW_SECONDS", "seconds, 0 to 3600", ge=0, le=3600)] = 20.0


class LocalRunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a local run tells its own pods, for the page (docs/local-run.md#local-control). Refused in production."""

    control_url: Annotated[str | None, _setting("LOCAL_CONTROL_URL", "an http URL of 127.0.0.1, with a port")] = None
    control_key: Annotated[str | None, _setting("LOCAL_CONTROL_KEY", "a secret", secret=True)] = None
    pod_urls: Annotated[
        tuple[str, ...], _setting("LOCAL_POD_URLS", "http URLs of 127.0.0.1, with a port, separated by commas")
    ] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a pod is configured by, grouped by who needs it."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    database: DatabaseSettings = DatabaseSettings()
    sandbox: SandboxSettings = SandboxSettings()
    redis: RedisSettings = RedisSettings()
    auth: AuthSettings = AuthSettings()
    session: SessionSettings = SessionSettings()
    websocket: WebSocketSettings = WebSocketSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    pod: PodSettings = PodSettings()
    local_run: LocalRunSettings = LocalRunSettings()


class EffectiveValue(msgspec.Struct, frozen=True):
    """One row of ``session-service config``. ``value`` is masked where ``secret``."""

    variable: str
    value: str
    source: str  # "environment", ".env" or "default"
    must_be: str
    secret: bool
    default: str


class Configuration(msgspec.Struct, frozen=True):
    settings: Settings
    effective: tuple[EffectiveValue, ...]


def read_dotenv(path: Path) -> dict[str, str]:
    """Parse ``KEY=value`` lines; ``#`` comments, ``export`` and one pair of quotes are understood.

    A missing file is an empty one. Raises ConfigurationError for a line that is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(".env", "a readable UTF-8 text file", type(error).__name__) from None
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.removeprefix("export ").partition("=")
        key, value = key.strip(), value.strip()
        if not separator or not key.isidentifier():
            # The line itself may hold a secret, so only its number is said.
            raise ConfigurationError(".env", "lines of KEY=value", f"something else on line {number}")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        elif " #" in value:
            value = value.split(" #", 1)[0].rstrip()
        values[key] = value
    return values


def load(environ: Mapping[str, str], dotenv: Mapping[str, str] | None = None) -> Configuration:
    """Read and check every setting. Raises ConfigurationError for the first that is wrong.

    An empty variable counts as one that is not set.
    """
    dotenv = dotenv or {}
    effective: list[EffectiveValue] = []
    sections: dict[str, msgspec.Struct] = {}
    for section, struct in get_type_hints(Settings, include_extras=True).items():
        values: dict[str, Any] = {}
        for field, annotation, extra in _fields(struct):
            names = (extra["variable"], *extra["aliases"])
            raw, source = _lookup(names, environ, dotenv)
            if raw is not None:
                values[field] = _convert(raw, annotation, extra)
            elif extra["variable"] == "POD_NAME":
                values[field] = _host_name()
            default = getattr(struct(), field)
            shown_default = "the host name" if field == "pod_name" else _shown(default, secret=extra["secret"])
            effective.append(
                EffectiveValue(
                    variable=extra["variable"],
                    value=_shown(values.get(field, default), secret=extra["secret"]),
                    source=source,
                    must_be=extra["must_be"],
                    secret=extra["secret"],
                    default=shown_default,
                )
            )
        sections[section] = struct(**values)
    settings = Settings(**sections)  # type: ignore[arg-type] # the keys are the sections' own names
    return Configuration(settings, tuple(effective))


def check_for_serving(settings: Settings) -> None:
    """The rules that bind several settings, for a process that serves. Raises ConfigurationError."""
    auth, server = settings.auth, settings.server
    if settings.database.min_connections > settings.database.max_connections:
        raise ConfigurationError(
            "DB_MIN_CONNECTIONS",
            f"at most DB_MAX_CONNECTIONS ({settings.database.max_connections})",
            str(settings.database.min_connections),
        )
    if auth.mode is AuthMode.JWT:
        check_secret_key(settings)
        if auth.algorithm not in HMAC_ALGORITHMS:
            raise ConfigurationError("ALGORITHM", "HS256, HS384 or HS512 where AUTH_MODE is jwt", auth.algorithm)
    if auth.mode is AuthMode.JWKS:
        _check_url("JWKS_URL", auth.jwks_url)
        if auth.algorithm not in ASYMMETRIC_ALGORITHMS:
            raise ConfigurationError("ALGORITHM", "an asymmetric algorithm where AUTH_MODE is jwks", auth.algorithm)
    if auth.mode is AuthMode.SERVICE:
        _check_url("AUTH_SERVICE_URL", auth.service_url)
    backend = settings.simulator.backend
    if backend is SimulatorBackendName.KUBERNETES:
        if not settings.simulator.image:
            raise ConfigurationError("SIMULATOR_IMAGE", "a container image where SIMULATOR_BACKEND is kubernetes")
        namespace = settings.simulator.namespace
        if not namespace:
            raise ConfigurationError("KUBERNETES_NAMESPACE", "a namespace where SIMULATOR_BACKEND is kubernetes")
        if _NAMESPACE.fullmatch(namespace) is None:
            raise ConfigurationError("KUBERNETES_NAMESPACE", "a namespace: a DNS label (RFC 1123)", repr(namespace))
    if backend is SimulatorBackendName.SERVICE and settings.simulator.warm_pool_size:
        raise ConfigurationError(
            "SIMULATOR_WARM_POOL_SIZE", "0 where SIMULATOR_BACKEND is service", str(settings.simulator.warm_pool_size)
        )
    exchange = settings.simulator.exchange_service
    if backend is SimulatorBackendName.SERVICE and not exchange:
        raise ConfigurationError("EXCHANGE_MANAGER_SERVICE", "host:port where SIMULATOR_BACKEND is service")
    if exchange and not 1 <= int(exchange.rpartition(":")[2]) <= HIGHEST_PORT:
        raise ConfigurationError("EXCHANGE_MANAGER_SERVICE", "host:port, the port 1 to 65535", repr(exchange))
    if settings.simulator.runner_url and not settings.simulator.runner_token:
        raise ConfigurationError("SIMULATOR_RUNNER_TOKEN", "set where SIMULATOR_RUNNER_URL is")
    if server.environment is Environment.PRODUCTION:
        if settings.database.password in DOCUMENTED_SECRETS:
            raise ConfigurationError("DB_PASSWORD", "a password of your own in production", "a documented default")
        if settings.redis.password in DOCUMENTED_SECRETS:
            raise ConfigurationError("REDIS_PASSWORD", "a password of your own in production", "a documented default")
        check_sandbox_password(settings)
    _check_local_run(settings)
    for network in server.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigurationError(
                "TRUSTED_PROXIES", "IP addresses or networks, separated by commas", repr(network)
            ) from None
    for origin in server.cors_allowed_origins:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path):
            raise ConfigurationError(
                "CORS_ALLOWED_ORIGINS", "origins such as https://app.example.com, or *", repr(origin)
            )


def check_sandbox_password(settings: Settings) -> None:
    """In production the password that stands in the sandboxes' document is refused. Raises ConfigurationError."""
    in_production = settings.server.environment is Environment.PRODUCTION
    if in_production and settings.sandbox.password in DOCUMENTED_SECRETS:
        raise ConfigurationError(
            "SANDBOX_DB_PASSWORD", "a password of your own in production", "a documented default"
        )


def check_secret_key(settings: Settings) -> None:
    """In production an HMAC secret must be there, long enough, and not one that stands in a document.

    In development a weak or absent one is let through: the caller warns, and replaces an absent one by a random one.
    """
    if settings.server.environment is not Environment.PRODUCTION:
        return
    auth = settings.auth
    must_be = f"a secret of at least {MINIMUM_SECRET_BYTES} bytes in production"
    if not auth.secret_key:
        raise ConfigurationError("SECRET_KEY", must_be)
    for variable, secret in (("SECRET_KEY", auth.secret_key), ("SECRET_KEY_PREVIOUS", auth.secret_key_previous)):
        if secret in DOCUMENTED_SECRETS:
            raise ConfigurationError(variable, must_be, "a documented default")
        if secret and len(secret.encode()) < MINIMUM_SECRET_BYTES:
            raise ConfigurationError(variable, must_be, f"{len(secret.encode())} bytes long")


def _check_local_run(settings: Settings) -> None:
    """Whoever may call the local run's control can sign in as anybody: it is on this machine, or not at all."""
    local_run = settings.local_run
    given = {
        "LOCAL_CONTROL_URL": [local_run.control_url] if local_run.control_url else [],
        "LOCAL_POD_URLS": list(local_run.pod_urls),
    }
    if settings.server.environment is Environment.PRODUCTION:
        for variable, value in {**given, "LOCAL_CONTROL_KEY": local_run.control_key}.items():
            if value:
                raise ConfigurationError(variable, "absent in production")
    for variable, urls in given.items():
        for url in urls:
            if _LOCAL_URL.fullmatch(url) is None:
                raise ConfigurationError(variable, "http://127.0.0.1:PORT", repr(url))
    if local_run.control_url and not local_run.control_key:
        raise ConfigurationError("LOCAL_CONTROL_KEY", "set where LOCAL_CONTROL_URL is")
    if local_run.control_url and not local_run.pod_urls:
        raise ConfigurationError("LOCAL_POD_URLS", "set where LOCAL_CONTROL_URL is")


def _check_url(variable: str, url: str | None) -> None:
    if not url:
        raise ConfigurationError(variable, "an http or https URL")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigurationError(variable, "an http or https URL", repr(url))


def _fields(struct: type[msgspec.Struct]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for field, annotation in get_type_hints(struct, include_extras=True).items():
        yield field, annotation, annotation.__metadata__[0].extra


def _lookup(names: tuple[str, ...], environ: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[str | None, str]:
    for source, mapping in (("environment", environ), (".env", dotenv)):
        for name in names:
            if mapping.get(name):
                return mapping[name], source
    return None, "default"


def _convert(raw: str, annotation: Any, extra: dict[str, Any]) -> Any:
    bare = annotation.__origin__ if get_origin(annotation) is Annotated else annotation
    value: Any = raw.strip()
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        value = next((member.value for member in bare if member.value.lower() == value.lower()), value)
    is_list = get_origin(bare) is tuple or tuple in {get_origin(arm) for arm in get_args(bare)}
    if is_list:
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        converted = msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError:
        was = "something else (masked)" if extra["secret"] else repr(raw)
        raise ConfigurationError(extra["variable"], extra["must_be"], was) from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigurationError(extra["variable"], extra["must_be"], repr(raw))
    return converted


def _host_name() -> str:
    return socket.gethostname() or "pod"


def _shown(value: Any, *, secret: bool) -> str:
    if value is None or value in ("", ()):
        return ""
    if secret:
        return "********"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
