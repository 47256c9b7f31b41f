"""Memory per idle authenticated connection, session state included (docs/performance.md, row 4).

10,000 users, each with a session and a socket on one pod. The figure is the growth of the pod's own memory (USS)
from the first 500 connections to all, so that what a process takes once does not count. Comparators in the same run:
aiohttp bare and websockets as it comes, both without any authentication or session.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager

from benchmarks.idle.clients import IdleClients
from benchmarks.idle.servers import Server, aiohttp_bare, pod, websockets_default
from benchmarks.support import report

CONNECTIONS = 10_000
FIRST = 500
CONNECT_LIMIT_S = 300.0
SETTLE_S = 3.0  # for rounds that write what the set-up left behind


def growth_kb(serving: AbstractContextManager[Server], connections: int) -> tuple[float, float]:
    """KB per connection, and connections set up per second."""
    with serving as server:
        first = IdleClients(server.port, FIRST, secret_key=server.secret_key)
        try:
            first.wait_until_open(CONNECT_LIMIT_S)
            time.sleep(SETTLE_S)
            before_bytes = server.memory_bytes()
            rest = IdleClients(server.port, connections, first=FIRST, secret_key=server.secret_key)
            try:
                took_s = rest.wait_until_open(CONNECT_LIMIT_S)
                time.sleep(SETTLE_S)
                grown_bytes = server.memory_bytes() - before_bytes
            finally:
                rest.close()
        finally:
            first.close()
    return grown_bytes / connections / 1024, connections / took_s


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    own_kb, per_s = growth_kb(pod(WEBSOCKET_HEARTBEAT_INTERVAL="300"), connections)
    aiohttp_kb, _ = growth_kb(aiohttp_bare(), connections)
    websockets_kb, _ = growth_kb(websockets_default(), connections)
    report(
        "memory",
        ("aiohttp", "websockets", "uvloop"),
        {
            "connections": connections,
            "own_kb_per_connection": round(own_kb, 2),
            "aiohttp_bare_kb_per_connection": round(aiohttp_kb, 2),
            "websockets_default_kb_per_connection": round(websockets_kb, 2),
            "own_to_aiohttp_bare": round(own_kb / aiohttp_kb, 2),
            "new_sessions_connected_per_s": round(per_s),
        },
    )


if __name__ == "__main__":
    main()
