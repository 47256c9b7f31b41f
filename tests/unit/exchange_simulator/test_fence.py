"""Which pod may command a session's simulator."""

import pytest

from exchange_simulator.errors import OwnerFencedError
from exchange_simulator.fence import OwnerFence


def refused_with(fence: OwnerFence, epoch: int, pod: str) -> int:
    with pytest.raises(OwnerFencedError) as caught:
        fence.admit("s", epoch, pod)
    return caught.value.highest_epoch


def test_owner_passes_again_and_a_later_owner_takes_over() -> None:
    fence = OwnerFence()
    fence.admit("s", 3, "a")
    fence.admit("s", 3, "a")
    fence.admit("s", 4, "b")
    assert refused_with(fence, 3, "a") == 4


def test_the_same_epoch_from_another_pod_is_refused() -> None:
    fence = OwnerFence()
    fence.admit("s", 3, "a")
    assert refused_with(fence, 3, "b") == 3
    fence.admit("s", 3, "a")


def test_sessions_have_fences_of_their_own() -> None:
    fence = OwnerFence()
    fence.admit("s", 9, "a")
    fence.admit("t", 1, "b")


def test_the_session_heard_of_least_recently_is_forgotten() -> None:
    fence = OwnerFence(max_sessions=2)
    fence.admit("s", 9, "a")
    fence.admit("t", 9, "a")
    fence.admit("s", 9, "a")
    fence.admit("u", 9, "a")
    fence.admit("t", 1, "b")  # forgotten: no longer fenced
    fence.admit("u", 9, "a")
