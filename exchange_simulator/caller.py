"""Who calls, by the call's metadata. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from exchange_simulator.errors import MetadataError

MAX_VALUE_LENGTH = 256
MAX_EPOCH = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Caller:
    """The metadata that calls carry. An absent text is empty; without an owner epoch no fence is asked for."""

    token: str = ""
    simulator_id: str = ""
    owner_epoch: int | None = None
    owner_pod: str = ""


def caller_from(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """Reads x-simulator-token, x-simulator-id, x-owner-epoch and x-owner-pod; others are ignored.

    Raises MetadataError for an epoch that is no whole number from 0 to 2^63-1, and for oversize values.
    """
    values = {key: value for key, value in metadata if key.startswith("x-") and isinstance(value, str)}
    token = values.get("x-simulator-token", "")
    simulator_id = values.get("x-simulator-id", "")
    pod = values.get("x-owner-pod", "")
    if max(len(simulator_id), len(pod)) > MAX_VALUE_LENGTH:
        raise MetadataError(f"x-simulator-id and x-owner-pod have at most {MAX_VALUE_LENGTH} characters")
    epoch = values.get("x-owner-epoch")
    if epoch is None:
        return Caller(token, simulator_id, None, pod)
    if not epoch.isascii() or not epoch.isdigit() or len(epoch) > 19 or int(epoch) > MAX_EPOCH:
        raise MetadataError("x-owner-epoch must be a whole number from 0 to 2^63-1")
    return Caller(token, simulator_id, int(epoch), pod)
