"""CPU per idle connection with a heartbeat every 25 s (docs/performance.md, row 5).

The pod's user and system time over a while, with all connections heartbeating evenly, less what the same pod takes
without any; in microseconds per second and connection. Comparators in the same run answer each heartbeat with a
constant: aiohttp bare and websockets as it comes.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager

from benchmarks.idle.clients import IdleClients
from benchmarks.idle.servers import Server, aiohttp_bare, pod, websockets_default
from benchmarks.support import report

CONNECTIONS = 10_000
HEARTBEAT_INTERVAL_S = 25.0
MEASURED_S = 50.0
QUIET_S = 15.0
CONNECT_LIMIT_S = 300.0
SETTLE_S = 5.0


def cpu_us(serving: AbstractContextManager[Server], connections: int) -> tuple[float, float]:
    """Microseconds per second and connection, and per heartbeat."""
    with serving as server:
        time.sleep(SETTLE_S)
        began_s = server.cpu_s()
        time.sleep(QUIET_S)
        quiet = (server.cpu_s() - began_s) / QUIET_S
        clients = IdleClients(
            server.port, connections, secret_key=server.secret_key, heartbeat_interval_s=HEARTBEAT_INTERVAL_S
        )
        try:
            clients.wait_until_open(CONNECT_LIMIT_S)
            time.sleep(SETTLE_S)
            answers, cpu_s, clock_s = clients.answers, server.cpu_s(), time.monotonic()
            time.sleep(MEASURED_S)
            answered, used_s = clients.answers - answers, server.cpu_s() - cpu_s
            elapsed_s = time.monotonic() - clock_s
        finally:
            clients.close()
    expected = connections * elapsed_s / HEARTBEAT_INTERVAL_S
    if answered < 0.95 * expected:
        raise RuntimeError(f"{answered} heartbeats were answered, about {expected:.0f} were sent")
    net_s = used_s - quiet * elapsed_s
    return net_s / elapsed_s / connections * 1e6, net_s / answered * 1e6


def main() -> None:
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    own_us, own_heartbeat_us = cpu_us(pod(WEBSOCKET_HEARTBEAT_INTERVAL="25"), connections)
    aiohttp_us, aiohttp_heartbeat_us = cpu_us(aiohttp_bare(), connections)
    websockets_us, websockets_heartbeat_us = cpu_us(websockets_default(), connections)
    report(
        "idle_cpu",
        ("aiohttp", "websockets", "uvloop"),
        {
            "connections": connections,
            "own_us_per_s_and_connection": round(own_us, 3),
            "aiohttp_bare_us_per_s_and_connection": round(aiohttp_us, 3),
            "websockets_default_us_per_s_and_connection": round(websockets_us, 3),
            "own_us_per_heartbeat": round(own_heartbeat_us, 1),
            "aiohttp_bare_us_per_heartbeat": round(aiohttp_heartbeat_us, 1),
            "websockets_default_us_per_heartbeat": round(websockets_heartbeat_us, 1),
        },
    )


if __name__ == "__main__":
    main()
