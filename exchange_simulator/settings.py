"""What the environment says (docs/simulator.md#process)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_HOST = "0.0.0.0"  # noqa: S104 - it is reached from other machines; the token guards it
DEFAULT_PORT = 50_055
DEFAULT_SYMBOLS = ("AAPL", "GOOGL", "MSFT", "AMZN", "TSLA")
DEFAULT_CASH = 100_000.0
MAX_CASH = 1e12
"""Currency units: in cents still exact as a double."""

MAX_SYMBOLS = 100
SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.\-]{0,15}")


class SettingError(ValueError):
    """A variable that cannot be used. The text names it and says what it must be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one process. Without a session id it serves any session, unless ``single_session``."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """0: any free port."""
    session_id: str = ""
    single_session: bool = False
    """The first session that is started is the only one that is ever served."""
    simulator_id: str = ""
    user_id: str = ""
    """Only logged."""
    token: str = ""
    """Empty: calls need none."""
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    cash: float = DEFAULT_CASH
    """Currency units, for StartSimulator without initial_cash."""
    seed: int | None = None
    """None: another for each new state."""
    update_interval_ms: int = 100
    heartbeat_ttl_s: float = 120.0
    """Without heartbeat and stream for this long, a session's state is dropped."""
    allow_short: bool = False
    max_sessions: int = 10_000
    log_level: str = "INFO"

    def __repr__(self) -> str:
        """Without the token: settings are logged."""
        return f"Settings(host={self.host!r}, port={self.port}, session_id={self.session_id!r})"


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Reads the environment; an empty value counts as absent. Raises SettingError."""
    known = {name: value.strip() for name, value in environment.items() if value.strip()}
    return Settings(
        host=known.get("HOST", DEFAULT_HOST),
        port=whole(known, "PORT", DEFAULT_PORT, 0, 65_535),
        session_id=known.get("SESSION_ID", ""),
        single_session=flag(known, "SINGLE_SESSION"),
        simulator_id=known.get("SIMULATOR_ID", ""),
        user_id=known.get("USER_ID", ""),
        token=known.get("SIMULATOR_TOKEN", ""),
        symbols=symbols_setting(known.get("INITIAL_SYMBOLS", ",".join(DEFAULT_SYMBOLS))),
        cash=number(known, "INITIAL_CASH", DEFAULT_CASH, MAX_CASH),
        seed=whole(known, "SEED", 0, -(2**63), 2**64) if "SEED" in known else None,
        update_interval_ms=whole(known, "UPDATE_INTERVAL_MS", 100, 5, 60_000),
        heartbeat_ttl_s=number(known, "HEARTBEAT_TTL_S", 120.0, 86_400.0),
        allow_short=flag(known, "ALLOW_SHORT"),
        max_sessions=whole(known, "MAX_SESSIONS", 10_000, 1, 1_000_000),
        log_level=one_of(known, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
    )


def checked_symbols(symbols: list[str]) -> tuple[str, ...]:
    """The symbols without duplicates, in order; ValueError naming the first that is none."""
    for symbol in symbols:
        if not SYMBOL.fullmatch(symbol):
            raise ValueError(f"{symbol[:32]!r} is not a symbol (1 to 16 of A-Z, 0-9, dot and hyphen)")
    unique = tuple(dict.fromkeys(symbols))
    if len(unique) > MAX_SYMBOLS:
        raise ValueError(f"at most {MAX_SYMBOLS} symbols")
    return unique


def checked_cash(cash: float) -> float:
    """The amount, when it is a finite one from 0.01 to MAX_CASH; else ValueError."""
    if not math.isfinite(cash) or not 0.01 <= cash <= MAX_CASH:
        raise ValueError("initial cash must be from 0.01 to 1e12")
    return cash


def symbols_setting(text: str) -> tuple[str, ...]:
    try:
        return checked_symbols([symbol.strip() for symbol in text.split(",") if symbol.strip()]) or DEFAULT_SYMBOLS
    except ValueError as error:
        raise SettingError(f"INITIAL_SYMBOLS: {error}") from None


def whole(known: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = known.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise SettingError(f"{name} must be a whole number from {least} to {most}, not {text!r}")
    return value


def number(known: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = known.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise SettingError(f"{name} must be a number above 0, at most {most:g}, not {text!r}")
    return value


def flag(known: Mapping[str, str], name: str) -> bool:
    return one_of(known, name, "false", ("0", "1", "FALSE", "TRUE")) in ("1", "TRUE")


def one_of(known: Mapping[str, str], name: str, default: str, values: tuple[str, ...]) -> str:
    text = known.get(name, default)
    if text.upper() not in values:
        raise SettingError(f"{name} must be one of {', '.join(values)}, not {text!r}")
    return text.upper()
