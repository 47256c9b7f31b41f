"""Who looks after a session: the owner's rules. Pure.

A pod *owns* a session in being responsible for its housekeeping: its simulators' steps, their heartbeats, the records
of both. Streaming never waits for ownership. The rules stand here to be read and tested; ``session.claim`` and
``session.adopt`` (sql/schema.sql) are the same rules over rows that they have locked, and a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """What is known of the pod that a session's ownership names."""

    dead: bool = False  # seen to be dead (domain/liveness.py), or gone without a trace
    draining: bool = False
    has_sockets: bool = False  # of this session


class ClaimCause(StrEnum):
    """Why a session may be taken from whoever has it."""

    NEW = "new"  # nobody ever had it
    RELEASED = "released"  # its owner left, or let it go while it drained
    DEAD = "dead"
    DRAINING = "draining"  # its owner drains: it would let go anyway
    MOVED = "moved"  # its clients are here, and the owner has none of them


class Ownership(msgspec.Struct, frozen=True):
    """A row of ``session.ownership``. ``epoch`` rises with each claim and never falls."""

    session_id: str
    pod_id: str | None
    epoch: int


class Takeover(msgspec.Struct, frozen=True):
    """A claim that was let through."""

    session_id: str
    epoch: int
    cause: ClaimCause
    previous_pod_id: str | None


def claim_cause(owner: Owner | None, epoch: int, *, claimer_has_sockets: bool) -> ClaimCause | None:
    """May another pod, itself neither dead nor draining, take the session? None: it stays where it is."""
    if owner is None:
        return ClaimCause.RELEASED if epoch else ClaimCause.NEW
    if owner.dead:
        return ClaimCause.DEAD
    if owner.draining:
        return ClaimCause.DRAINING
    if claimer_has_sockets and not owner.has_sockets:
        return ClaimCause.MOVED
    return None


def adoption_cause(
    owner: Owner | None, epoch: int, *, has_sockets: bool, adopter_has_sockets: bool
) -> ClaimCause | None:
    """May a pod that merely looks for the abandoned take the session?

    Not where its clients are on another pod, which will; and not from one that drains, which lets go by itself.
    """
    if has_sockets and not adopter_has_sockets:
        return None
    if owner is None or owner.dead:
        return claim_cause(owner, epoch, claimer_has_sockets=False)
    return None


class Standing(StrEnum):
    """What an owner whose write found no row of its own has to think."""

    ENDED = "ended"  # the session is gone
    FENCED = "fenced"  # another pod has it, or nobody: demote, and touch it no more
    RENEWED = "renewed"  # it is the owner under a later epoch: only what it wrote under is past
    KEPT = "kept"  # it is still the owner: the row it wanted to change has changed


def standing(now: Ownership | None, pod_id: str, epoch: int) -> Standing:
    """Where the pod that wrote as the owner under ``epoch`` stands, by the row as it is now."""
    if now is None:
        return Standing.ENDED
    if now.pod_id != pod_id:
        return Standing.FENCED
    return Standing.KEPT if now.epoch == epoch else Standing.RENEWED


def next_epoch(epoch: int, highest_seen: int = 0) -> int:
    """The epoch of a claim: above the row's, and above what a simulator has seen.

    The second matters after PostgreSQL was promoted to a standby that lacked the last claims.
    """
    return max(epoch, highest_seen) + 1
