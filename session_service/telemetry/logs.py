"""Structured logs: one JSON object a line, or coloured text on a terminal; tokens never.

Modules write ``log = structlog.get_logger(__name__)`` and ``log.info("session_created", session_id=...)``. Records of
the standard library's loggers (aiohttp, asyncpg, grpc, asyncio, warnings) pass the same processors.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from session_service.config import LogFormat, LogSettings
from session_service.telemetry.redaction import REDACTED, is_secret_key, redact_text, redact_value

# Their INFO is noise (aiohttp's access log would hold query strings besides, which may hold tokens).
_QUIET_LOGGERS = ("aiohttp.access", "opentelemetry", "kubernetes_asyncio")


def configure(settings: LogSettings, pod_name: str, *, stream: TextIO | None = None) -> None:
    """Send every log of this process to ``stream`` (standard error). Replaces an earlier configuration.

    Standard output stays free for what commands print. ``auto`` gives text on a terminal and JSON elsewhere.
    """
    stream = sys.stderr if stream is None else stream
    on_terminal = stream.isatty()
    as_text = settings.format is LogFormat.CONSOLE or (settings.format is LogFormat.AUTO and on_terminal)
    level = logging.getLevelNamesMapping()[settings.level.value]

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _AddPod(pod_name),
        redact_keys,
    ]
    rendering: list[Processor] = []
    if as_text:
        rendering.append(
            structlog.dev.ConsoleRenderer(
                colors=on_terminal, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
            )
        )
    else:
        rendering += [structlog.processors.format_exc_info, structlog.processors.StackInfoRenderer(), _render_json]
    rendering.append(_redact_rendered)

    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), redact_keys],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)

    # Our own lines do not take the way through the standard library's records: it costs more than the rest.
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineLoggers(stream),
        cache_logger_on_first_use=True,
    )


@contextlib.contextmanager
def bound(**values: str | None) -> Iterator[None]:
    """Add values (``request_id``, ``session_id``, ``user_id``) to every log line of the enclosed code and its tasks.

    Values that are None are left out.
    """
    with structlog.contextvars.bound_contextvars(
        **{key: value for key, value in values.items() if value is not None}
    ):
        yield


def redact_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The structlog processor that replaces values under secret keys, at any depth."""
    for key, value in event.items():
        if isinstance(value, str):
            if value and is_secret_key(key):
                event[key] = REDACTED
        elif isinstance(value, dict | list | tuple):
            event[key] = REDACTED if is_secret_key(key) else redact_value(value)
        elif value is not None and is_secret_key(key):
            event[key] = REDACTED
    return event


class _AddPod:
    def __init__(self, pod_name: str) -> None:
        self._pod_name = pod_name

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["pod_name"] = self._pod_name
        return event


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        return _encoder.encode(event).decode()
    except (TypeError, ValueError, RecursionError):
        # A key that is no string, an int beyond 64 bits, a lone surrogate, a cycle: say what can be said.
        return _encoder.encode({str(key): ascii(value) for key, value in event.items()}).decode()


def _redact_rendered(_logger: WrappedLogger, _method: str, rendered: Any) -> str:
    return redact_text(str(rendered))


class _LineLogger:
    """What structlog's pipeline ends in: one write per line. A line that cannot be written is lost, not raised."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            _say_lost(self.name)

    debug = info = warning = error = critical = exception = fatal = log = msg


class _LineLoggers:
    """The factory of line loggers; ``structlog.get_logger(name)`` hands the name through."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *args: Any) -> _LineLogger:
        return _LineLogger(self._stream, args[0] if args else "session_service")


def _say_lost(name: str) -> None:
    error = sys.exc_info()[1]
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"log record of {name} lost: {type(error).__name__}\n")


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """The library's version prints the raw record to standard error, tokens included."""
        _say_lost(record.name)
