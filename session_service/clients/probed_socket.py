"""Sockets whose kernel asks an idle peer whether it is still there (RFC 9293 §3.8.4, tcp(7)).

A peer that ends says so. One whose machine is gone, or whom a router has forgotten, says nothing: whoever only reads,
as a watch does, would wait for as long as silence is allowed.
"""

from __future__ import annotations

import socket
import sys

from aiohttp.connector import AddrInfoType

FIRST_PROBE_S = 10  # of silence
BETWEEN_PROBES_S = 5
PROBES = 3  # unanswered: the connection is reset, 25 s after the last sign of life


def probed_socket(address: AddrInfoType) -> socket.socket:
    """A socket to connect to ``address``, for ``aiohttp.TCPConnector(socket_factory=…)``. Times are Linux' only."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, FIRST_PROBE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, BETWEEN_PROBES_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return made
