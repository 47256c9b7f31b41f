"""Who may take a session, from whom, and what an owner has to think whose write was refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.domain.placement import (
    ClaimCause,
    Owner,
    Ownership,
    Standing,
    adoption_cause,
    claim_cause,
    standing,
)

owners = st.none() | st.builds(Owner, dead=st.booleans(), draining=st.booleans(), has_sockets=st.booleans())
epochs = st.integers(0, 3)


@pytest.mark.parametrize(
    ("owner", "epoch", "claimer_has_sockets", "cause"),
    [
        (None, 0, False, ClaimCause.NEW),
        (None, 1, False, ClaimCause.RELEASED),
        (Owner(dead=True, has_sockets=True), 1, False, ClaimCause.DEAD),
        (Owner(dead=True, draining=True), 1, False, ClaimCause.DEAD),
        (Owner(draining=True, has_sockets=True), 1, False, ClaimCause.DRAINING),
        (Owner(), 1, True, ClaimCause.MOVED),
        (Owner(has_sockets=True), 1, True, None),  # clients at both: it stays where it is
        (Owner(has_sockets=True), 1, False, None),
        (Owner(), 1, False, None),  # clients at neither
    ],
)
def test_claims(owner: Owner | None, epoch: int, claimer_has_sockets: bool, cause: ClaimCause | None) -> None:
    assert claim_cause(owner, epoch, claimer_has_sockets=claimer_has_sockets) is cause


@pytest.mark.parametrize(
    ("owner", "epoch", "has_sockets", "adopter_has_sockets", "cause"),
    [
        (None, 0, False, False, ClaimCause.NEW),
        (None, 2, False, False, ClaimCause.RELEASED),
        (None, 2, True, True, ClaimCause.RELEASED),
        (None, 2, True, False, None),  # the pod that has its clients will
        (Owner(dead=True), 1, False, False, ClaimCause.DEAD),
        (Owner(dead=True), 1, True, True, ClaimCause.DEAD),
        (Owner(dead=True), 1, True, False, None),
        (Owner(draining=True), 1, False, False, None),  # it lets go by itself
        (Owner(draining=True), 1, True, True, None),
        (Owner(), 1, True, True, None),  # a live owner keeps what others only look for
    ],
)
def test_adoptions(
    owner: Owner | None, epoch: int, has_sockets: bool, adopter_has_sockets: bool, cause: ClaimCause | None
) -> None:
    assert adoption_cause(owner, epoch, has_sockets=has_sockets, adopter_has_sockets=adopter_has_sockets) is cause


@given(owners, epochs, st.booleans(), st.booleans())
def test_whatever_may_be_adopted_may_be_claimed(
    owner: Owner | None, epoch: int, has_sockets: bool, adopter_has_sockets: bool
) -> None:
    adopted = adoption_cause(owner, epoch, has_sockets=has_sockets, adopter_has_sockets=adopter_has_sockets)
    assert adopted in {None, claim_cause(owner, epoch, claimer_has_sockets=adopter_has_sockets)}


@given(st.booleans(), st.booleans())
def test_two_pods_with_clients_never_take_a_session_from_each_other_in_turn(first: bool, second: bool) -> None:
    """Of two live pods at most one may take it from the other, so there is a state in which it rests."""
    by_second = claim_cause(Owner(has_sockets=first), 1, claimer_has_sockets=second)
    by_first = claim_cause(Owner(has_sockets=second), 2, claimer_has_sockets=first)
    assert by_first is None or by_second is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (None, Standing.ENDED),
        (Ownership("s", "pod#1", 4), Standing.KEPT),
        (Ownership("s", "pod#1", 5), Standing.RENEWED),  # raised, or taken again by itself
        (Ownership("s", "pod#2", 5), Standing.FENCED),
        (Ownership("s", "pod#2", 4), Standing.FENCED),
        (Ownership("s", None, 4), Standing.FENCED),
    ],
)
def test_standing_of_a_pod_whose_write_was_refused(now: Ownership | None, expected: Standing) -> None:
    assert standing(now, "pod#1", 4) is expected
