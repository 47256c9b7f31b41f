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


def fair_order(
    waiting: Sequence[WaitingStart], held: Mapping[str, int], served: Mapping[str, float]
) -> list[WaitingStart]:
    """In which order they get slots. ``held``: how many slots each user's other starts hold; a user without is 0.
    ``served``: when each user got a slot last, on the clock of ``created_at``; a user without never did.

    A start's turn is how many of its user's come before it, those that hold slots included. Of one turn the user is
    first who has waited longest since then, or since its oldest waiting start was asked for. So however many one user
    asks for, and however often its slots are free again, another's first start lets one of them go before it at most.
    """
    lines: dict[str, list[WaitingStart]] = {}
    for start in sorted(waiting, key=_age):
        lines.setdefault(start.user_id, []).append(start)

    def key(user_id: str, before: int) -> tuple[int, int, float, str]:
        first = lines[user_id][0]
        waits_since = max(first.created_at, served.get(user_id, first.created_at))
        # Whose last turn is still to come will have been served later than whose has been.
        return held.get(user_id, 0) + before, before, waits_since, first.simulator_id

    places = {
        start.simulator_id: key(user_id, before)
        for user_id, line in lines.items()
        for before, start in enumerate(line)
    }
    return sorted(waiting, key=lambda start: places[start.simulator_id])


def admitted(
    waiting: Sequence[WaitingStart], held: Mapping[str, int], served: Mapping[str, float], limit: int
) -> list[WaitingStart]:
    """Who gets a slot now, of ``limit`` in all, where every one of ``held`` is taken."""
    free = limit - sum(held.values())
    return fair_order(waiting, held, served)[: max(free, 0)]


def _age(start: WaitingStart) -> tuple[float, str]:
    return start.created_at, start.simulator_id
