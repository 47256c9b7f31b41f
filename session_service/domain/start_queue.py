"""Who may be created next: the start queue's rules (ADR 0025). Pure.

Over all pods at most so many simulators are being created at once. A start holds a *slot* from its admission until it
runs, fails or is stopped, but for ``SLOT_S`` at most. Whoever finds none free waits, and users take turns. The rules
stand here to be read and tested; ``simulator.start_queue`` and ``simulator.admit_starts`` (sql/schema.sql) are the
same rules over rows, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

SLOT_S = 30.0
"""How long a start keeps its slot. Most run within some seconds. One that its platform keeps waiting (no node has
room, the image cannot be had) may wait on, but others begin beside it."""


class WaitingStart(msgspec.Struct, frozen=True):
    """A simulator that is ready to be created. ``created_at``: when its user asked for it, on any one clock."""

    simulator_id: str
    user_id: str
    created_at: float


def fair_order(waiting: Sequence[WaitingStart], held: Mapping[str, int]) -> list[WaitingStart]:
    """In which order they get slots. ``held``: how many slots each user's other starts hold; a user without is 0.

    A start's turn is how many of its user's come before it, those that hold slots included. So however many one user
    asks for, another's first start waits for one of them at most.
    """
    before = dict(held)
    turns: dict[str, int] = {}
    for start in sorted(waiting, key=_age):
        turns[start.simulator_id] = before[start.user_id] = before.get(start.user_id, 0) + 1
    return sorted(waiting, key=lambda start: (turns[start.simulator_id], *_age(start)))


def admitted(waiting: Sequence[WaitingStart], held: Mapping[str, int], limit: int) -> list[WaitingStart]:
    """Who gets a slot now, of ``limit`` in all, where every one of ``held`` is taken."""
    free = limit - sum(held.values())
    return fair_order(waiting, held)[: max(free, 0)]


def _age(start: WaitingStart) -> tuple[float, str]:
    return start.created_at, start.simulator_id
