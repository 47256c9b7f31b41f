"""The fence against pods that no longer own a session. Pure."""

from collections import OrderedDict

from exchange_simulator.errors import OwnerFencedError

MAX_SESSIONS = 100_000


class OwnerFence:
    """The highest owner epoch seen per session, and the pod that showed it.

    Outlives the session's state, so that a late Start of a former owner cannot revive it; bounded by forgetting
    the sessions heard of least recently.
    """

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max_sessions = max_sessions
        self._owners: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def admit(self, session_id: str, epoch: int, pod: str) -> None:
        """Lets the owner pass and remembers it.

        Raises OwnerFencedError for a lower epoch than seen, or for the same epoch from another pod.
        """
        highest, owner = self._owners.get(session_id, (epoch, pod))
        if epoch < highest or (epoch == highest and pod != owner):
            raise OwnerFencedError(highest)
        self._owners[session_id] = (epoch, pod)
        self._owners.move_to_end(session_id)
        if len(self._owners) > self._max_sessions:
            self._owners.popitem(last=False)
