"""The sequence rule of one socket (docs/exchange-data.md#numbers). Pure."""

from __future__ import annotations

from session_service_client.events import Position, SequenceViolated


class SequenceChecker:
    """Checks every frame of one socket, in the order in which they came.

    ``begins_after``: the position that the service said it would continue from; None where only a snapshot may come
    first. After a violation the stream is broken: nothing but a snapshot mends it.
    """

    __slots__ = ("_epoch", "_sequence", "broken")

    def __init__(self, begins_after: Position | None) -> None:
        self._epoch: int | None = None if begins_after is None else begins_after.epoch
        self._sequence = 0 if begins_after is None else begins_after.sequence
        self.broken = False

    @property
    def position(self) -> Position | None:
        return None if self._epoch is None else Position(self._epoch, self._sequence)

    def check(self, epoch: int, from_sequence: int, sequence: int, *, snapshot: bool) -> SequenceViolated | None:
        """None: the frame may be applied, unless ``broken``: then it is to be passed over, its break is known."""
        if snapshot:
            if from_sequence != sequence:
                return self._violated("MALFORMED", epoch, from_sequence, sequence)
            self._epoch, self._sequence, self.broken = epoch, sequence, False
            return None
        if self.broken:
            return None
        if epoch == self._epoch and from_sequence == self._sequence + 1 and sequence >= from_sequence:
            self._sequence = sequence
            return None
        if sequence < from_sequence:
            kind = "MALFORMED"
        elif epoch != self._epoch:
            kind = "WRONG_EPOCH"
        else:
            kind = "GAP" if from_sequence > self._sequence + 1 else "DUPLICATE"
        return self._violated(kind, epoch, from_sequence, sequence)

    def _violated(self, kind: str, epoch: int, from_sequence: int, sequence: int) -> SequenceViolated:
        self.broken = True
        expected = None if self._epoch is None else self._sequence + 1
        return SequenceViolated(kind, epoch, from_sequence, sequence, expected)
