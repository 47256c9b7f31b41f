"""Call metadata."""

import pytest

from exchange_simulator.caller import Caller, caller_from
from exchange_simulator.errors import MetadataError


def test_metadata_is_read_and_the_rest_ignored() -> None:
    metadata: list[tuple[str, str | bytes]] = [
        ("user-agent", "grpc"),
        ("x-simulator-token", "t"),
        ("x-simulator-id", "i"),
        ("x-owner-epoch", "12"),
        ("x-owner-pod", "p"),
        ("x-trace-bin", b"\x00"),
    ]
    assert caller_from(metadata) == Caller("t", "i", 12, "p")
    assert caller_from([]) == Caller()


@pytest.mark.parametrize("epoch", ["", "-1", "1.5", "x", "٣", "9" * 40, str(2**63)])
def test_an_epoch_that_is_no_number_is_refused(epoch: str) -> None:
    with pytest.raises(MetadataError):
        caller_from([("x-owner-epoch", epoch)])


def test_oversize_identities_are_refused() -> None:
    with pytest.raises(MetadataError):
        caller_from([("x-owner-pod", "p" * 257)])
