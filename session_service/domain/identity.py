"""Who is calling."""

from __future__ import annotations

import msgspec

SCOPE_SIMULATORS = "simulators"  # services that talk to simulators themselves: endpoint and token of any user
SCOPE_SANDBOX = "sandbox"  # the sandbox sessions' HTTP API


class Identity(msgspec.Struct, frozen=True):
    """A verified caller. ``expires_at`` is the token's ``exp``, Unix seconds."""

    user_id: str
    expires_at: float
    scopes: frozenset[str] = frozenset()


class ClientInfo(msgspec.Struct, frozen=True):
    """What a request tells of its client, for the session's metadata."""

    ip_address: str | None = None
    user_agent: str | None = None
