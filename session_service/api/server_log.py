"""The HTTP server's own log: faults of the service, not the malformed requests that anybody may send."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


def server_logger() -> logging.Logger:
    """The logger for ``web.AppRunner``.

    aiohttp logs every request that it cannot parse as an error with a traceback, and with the beginning of the
    request line, where a token may stand. Such a request is answered with 400; it is no fault of ours.
    """
    logger = logging.getLogger(__name__)
    logger.addFilter(_is_fault_of_ours)
    return logger


def _is_fault_of_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)
