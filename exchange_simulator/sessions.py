"""The sessions of the process: started, ticked, dropped."""

import logging
import secrets
import time
import uuid
from collections.abc import Callable, Sequence

from exchange_simulator.engine import Engine
from exchange_simulator.errors import SessionUnknownError, StartRefusedError, TooManySessionsError
from exchange_simulator.session import Session
from exchange_simulator.settings import Settings, checked_cash, checked_symbols
from exchange_simulator.ticker import Ticker

MAX_SESSION_ID_LENGTH = 128
logger = logging.getLogger(__name__)


def random_epoch() -> int:
    """A new state's epoch: 1 … 2^53-1, exact in every JSON reader, unlike any earlier one."""
    return 1 + secrets.randbelow(2**53 - 1)


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Sessions:
    """Holds every session's state, and moves its markets as long as it is there."""

    def __init__(
        self,
        settings: Settings,
        monotonic_s: Callable[[], float],
        *,
        new_epoch: Callable[[], int] = random_epoch,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._new_epoch = new_epoch
        self._now_ms = now_ms
        self._sessions: dict[str, Session] = {}
        self.ticker: Ticker[Session] = Ticker(settings.update_interval_ms / 1000, self._tick)

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session_id: str) -> Session | None:
        """The session, or None when it has no state here."""
        return self._sessions.get(session_id)

    def get(self, session_id: str) -> Session:
        """The session; SessionUnknownError when it has no state here."""
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionUnknownError
        return session

    def start(self, session_id: str, simulator_id: str, symbols: Sequence[str], cash: float) -> Session:
        """The session's state, made when it is not there; an existing one is left as it is.

        No symbols and cash 0 mean the settings'. An empty simulator_id is replaced by a new one. Raises
        StartRefusedError for arguments that make no market, TooManySessionsError.
        """
        session = self._sessions.get(session_id)
        if session is not None:
            return session
        if not 1 <= len(session_id) <= MAX_SESSION_ID_LENGTH:
            raise StartRefusedError(f"session_id must have 1 to {MAX_SESSION_ID_LENGTH} characters")
        try:
            traded = checked_symbols(list(symbols)) or self._settings.symbols
            cash_cents = round(checked_cash(cash or self._settings.cash) * 100)
        except ValueError as error:
            raise StartRefusedError(str(error)) from None
        if len(self._sessions) >= self._settings.max_sessions:
            raise TooManySessionsError
        seed = self._settings.seed
        engine = Engine(
            epoch=self._new_epoch(),
            seed=secrets.randbits(64) if seed is None else seed,
            symbols=traded,
            cash_cents=cash_cents,
            allow_short=self._settings.allow_short,
        )
        session = Session(
            session_id,
            simulator_id or str(uuid.uuid4()),
            engine,
            now_ms=self._now_ms(),
            now_s=self._monotonic_s(),
        )
        self._sessions[session_id] = session
        self.ticker.add(session)
        logger.info("session started", extra=log_fields(session))
        return session

    def drop(self, session_id: str, reason: str) -> bool:
        """Drops a session's state and ends its streams; False when it was not there."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return False
        self.ticker.remove(session)
        session.end()
        logger.info("session dropped: %s", reason, extra=log_fields(session))
        return True

    def drop_all(self, reason: str) -> None:
        """Drops every session's state."""
        for session_id in list(self._sessions):
            self.drop(session_id, reason)

    def _tick(self, session: Session) -> None:
        if session.is_abandoned(self._monotonic_s(), self._settings.heartbeat_ttl_s):
            self.drop(session.session_id, "neither heartbeat nor stream")
            return
        try:
            session.tick(self._now_ms())
        except Exception:  # a defect in one session's market must not stop the others'
            logger.exception("tick failed", extra=log_fields(session))
            self.drop(session.session_id, "tick failed")


def log_fields(session: Session) -> dict[str, str]:
    """Identifies a session in a log line."""
    return {"session_id": session.session_id, "simulator_id": session.simulator_id}
