"""A client of session-service: one live connection that survives lost networks and lost pods, without a gap.

docs/client.md tells what it guarantees; docs/protocol.md what it speaks.
"""

from session_service_client.access_token import TokenGetter
from session_service_client.client import SessionClient, SessionInfo
from session_service_client.errors import (
    CommandTimeoutError,
    ConnectionEndedError,
    ServiceError,
    SessionServiceClientError,
    TransportError,
)
from session_service_client.events import (
    Connected,
    Disconnected,
    Event,
    ExchangeData,
    Holding,
    OrderUpdate,
    PodTerminating,
    Portfolio,
    Position,
    QualityChanged,
    Quote,
    SequenceViolated,
    ServiceNotice,
    SessionEnded,
    SimulatorStatus,
)
from session_service_client.exchange_view import ExchangeView
from session_service_client.rest import OpenedSession, Order, RestClient, Session, Simulator, StartedSimulator
from session_service_client.statistics import Statistics

__all__ = [
    "CommandTimeoutError",
    "Connected",
    "ConnectionEndedError",
    "Disconnected",
    "Event",
    "ExchangeData",
    "ExchangeView",
    "Holding",
    "OpenedSession",
    "Order",
    "OrderUpdate",
    "PodTerminating",
    "Portfolio",
    "Position",
    "QualityChanged",
    "Quote",
    "RestClient",
    "SequenceViolated",
    "ServiceError",
    "ServiceNotice",
    "Session",
    "SessionClient",
    "SessionEnded",
    "SessionInfo",
    "SessionServiceClientError",
    "Simulator",
    "SimulatorStatus",
    "StartedSimulator",
    "Statistics",
    "TokenGetter",
    "TransportError",
]
