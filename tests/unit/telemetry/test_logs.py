import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from session_service.config import LogFormat, LogLevel, LogSettings
from session_service.telemetry import logs

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5LWNhbmFyeQ"
OPAQUE = "canary-0123456789"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The configuration of logging is the process's: every test gives it back."""
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    yield
    logging.captureWarnings(False)
    warnings.showwarning = show
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(
    style: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO, stream: io.StringIO | None = None
) -> io.StringIO:
    stream = stream or io.StringIO()
    logs.configure(LogSettings(format=style, level=level), "pod-7", stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_what_when_where_and_for_whom() -> None:
    stream = configured()
    with logs.bound(request_id="r-1", session_id="s-1", user_id=None):
        structlog.get_logger("session_service.x").info("session_created", attempt=2)
    structlog.get_logger("session_service.x").info("later")
    first, second = lines(stream)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "session_created",
        "level": "info",
        "logger": "session_service.x",
        "pod_name": "pod-7",
        "request_id": "r-1",
        "session_id": "s-1",
        "attempt": 2,
    }
    assert "request_id" not in second


def test_the_standard_library_passes_the_same_way() -> None:
    stream = configured()
    with logs.bound(request_id="r-1"):
        logging.getLogger("asyncpg").warning("slow: %d ms", 12, extra={"host": "db"})
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("slow: 12 ms", "warning", "asyncpg")
    assert (line["pod_name"], line["request_id"], line["host"]) == ("pod-7", "r-1", "db")


def test_levels() -> None:
    stream = configured(level=LogLevel.WARNING)
    structlog.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    structlog.get_logger("a").warning("yes")
    logging.getLogger("b").error("yes")
    assert [line["event"] for line in lines(stream)] == ["yes", "yes"]


def test_access_logs_of_the_http_library_are_off() -> None:
    stream = configured(level=LogLevel.DEBUG)
    logging.getLogger("aiohttp.access").info("GET /ws?deviceId=1")
    assert stream.getvalue() == ""


def test_text_on_a_terminal_and_json_on_a_pipe() -> None:
    pipe, terminal = configured(LogFormat.AUTO), Terminal()
    structlog.get_logger("a").info("hello")
    assert lines(pipe)[0]["event"] == "hello"
    configured(LogFormat.AUTO, stream=terminal)
    structlog.get_logger("b").info("hello")
    assert "hello" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_an_exception_is_one_line() -> None:
    stream = configured()
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert line["exception"].endswith("ValueError: why")


@pytest.mark.parametrize(
    "values",
    [
        {"o": object()},
        {"n": {1: 2, None: 3}},
        {"big": 2**100},
        {"b": b"\xff"},
        {"s": "\ud800"},
        {"f": float("nan")},
        {"set": {1}},
    ],
    ids=lambda values: next(iter(values)),  # an object's text is another in each process
)
def test_whatever_is_logged_is_a_line_of_json(values: dict[str, Any]) -> None:
    stream = configured()
    structlog.get_logger("a").info("odd", **values)
    (line,) = lines(stream)
    assert "odd" in line["event"]


class Carrier:
    def __repr__(self) -> str:
        return f"Carrier(token={OPAQUE!r}, {JWT})"


@pytest.mark.parametrize("style", [LogFormat.JSON, LogFormat.CONSOLE])
@pytest.mark.parametrize("canary", [JWT, OPAQUE], ids=["jwt", "opaque"])
def test_no_token_reaches_a_log(style: LogFormat, canary: str, capsys: pytest.CaptureFixture[str]) -> None:
    stream = configured(style, LogLevel.DEBUG, Terminal() if style is LogFormat.CONSOLE else None)
    log = structlog.get_logger("a")
    log.info(f"Bearer {canary}")
    log.info("%s", f"Bearer {canary}")
    log.info("value", token=canary, sessionToken=canary, header=f"Bearer {canary}", raw=f"bearer {canary}".encode())
    log.info("nested", a={"b": [{"token": canary}, f"?token={canary}&x"]}, o=Carrier(), t=(f"bearer.{canary}",))
    log.debug("frame", text=json.dumps({"type": "authenticate", "token": canary}))
    log.info("twice", text=json.dumps({"frame": json.dumps({"token": canary})}))
    with logs.bound(authorization=canary):
        log.info("context")
    try:
        try:
            raise ValueError(f"GET /ws?token={canary}")
        except ValueError as error:
            raise RuntimeError(f"Bearer {canary}") from error
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("aiohttp.server").exception("Error handling request")
    logging.getLogger("grpc").error("metadata %s", {"authorization": f"Bearer {canary}"}, extra={"token": canary})
    logging.getLogger("asyncio").error("%d", f"token={canary}")  # a record that cannot be formatted
    warnings.simplefilter("always")
    warnings.warn(f"token={canary}", stacklevel=1)
    assert stream.getvalue().count("[redacted]") > 15
    for output in (stream.getvalue(), *capsys.readouterr()):
        assert canary not in output
        assert "Y2FuYXJ5" not in output
