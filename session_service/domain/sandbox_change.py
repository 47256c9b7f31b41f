"""What followers of sandbox sessions are told."""

from __future__ import annotations

import msgspec


class SandboxChange(msgspec.Struct, frozen=True, gc=False):
    """What became of a row: its status now, null where it is no work; or ``removed``.

    ``changed_in``: the transaction. ``id`` and ``changed_in`` together name a change that is told twice.
    """

    id: str
    inbox_status: str | None
    removed: bool
    changed_in: int
