"""What a client has been through, counted since it was made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Statistics:
    """Counters; reading them costs nothing, writing to them is the client's alone."""

    frames: int = 0  # exchange_data frames, over all sockets
    updates: int = 0  # numbers that were applied one after the other: what snapshots stand for is not in it
    order_updates: int = 0  # applied, those in snapshots aside
    overlapped: int = 0  # frames that a socket repeated since its predecessor had been faster; not applied twice
    gaps: int = 0  # violations of the sequence rule but duplicates
    duplicates: int = 0
    snapshots: int = 0
    snapshots_skipping: int = 0  # snapshots of the epoch that was followed, beyond its position: updates not seen
    connections: int = 0  # sockets that got `connected`
    reconnects: int = 0  # those after the first, moves included
    moves: int = 0  # make-before-break, at the pod's request
    resumed: int = 0  # reconnects that stated a position and continued there
    not_resumed: int = 0  # reconnects that stated a position and did not
    refused: int = 0  # upgrades that were refused or failed
    longest_pause_s: float = 0.0  # between the last frame before a reconnect and the first one after it
    heartbeats: int = 0
    heartbeats_missed: int = 0
    latency_s: float | None = None  # of the last heartbeat
    close_codes: Counter[int] = field(default_factory=Counter)  # of sockets that the client did not leave itself
