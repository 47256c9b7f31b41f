"""How long things take in a fault test: the table's times and the defaults, scaled, but never too short to tell."""

from __future__ import annotations

import msgspec


class FaultTimes(msgspec.Struct, frozen=True):
    """``scale`` 1: at full length."""

    scale: float

    @property
    def lease_s(self) -> float:
        return max(1.5, 10.0 * self.scale)  # a pod that a busy machine starves for a second is not dead

    @property
    def drain_delay_s(self) -> float:
        return max(0.5, 5.0 * self.scale)

    @property
    def drain_window_s(self) -> float:
        return max(2.0, 20.0 * self.scale)

    @property
    def grace_period_s(self) -> float:
        """What a platform is to give a pod that it has told to end (docs/operations.md#shutdown)."""
        return self.drain_delay_s + self.drain_window_s + 20.0

    @property
    def settled_within_s(self) -> float:
        """From a pod's death to the last of what it left being looked after: a lease, the round that the observer was
        in when it began, the round that finds it over, and what a busy machine takes."""
        return self.lease_s * 5 / 3 + 3.0

    def environ(self) -> dict[str, str]:
        return {
            "POD_LEASE_SECONDS": f"{self.lease_s:g}",
            "DRAIN_DELAY_SECONDS": f"{self.drain_delay_s:g}",
            "DRAIN_WINDOW_SECONDS": f"{self.drain_window_s:g}",
        }
