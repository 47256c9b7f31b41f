"""Why a call is refused. Data in attributes; the gRPC status of each is the service's business."""


class CallRefusedError(Exception):
    """Base of all refusals; its text may be shown to the caller."""


class TokenRefusedError(CallRefusedError):
    """The call does not carry this simulator's token."""

    def __init__(self) -> None:
        super().__init__("x-simulator-token is missing or wrong")


class MetadataError(CallRefusedError):
    """Call metadata or an argument that cannot be read."""


class SessionUnknownError(CallRefusedError):
    """The session has no state here: never started, stopped, or dropped for silence."""

    def __init__(self) -> None:
        super().__init__("unknown session")


class OtherSessionError(CallRefusedError):
    """This process serves one session, and this is not it."""

    def __init__(self) -> None:
        super().__init__("this simulator serves another session")


class SimulatorMismatchError(CallRefusedError):
    """x-simulator-id names another simulator than the session's: the call was meant for a predecessor."""

    def __init__(self) -> None:
        super().__init__("x-simulator-id is not this session's simulator")


class OwnerFencedError(CallRefusedError):
    """A pod that no longer owns the session. `highest_epoch` is the highest owner epoch seen here."""

    def __init__(self, highest_epoch: int) -> None:
        super().__init__("the session has another owner")
        self.highest_epoch = highest_epoch


class RequestIdReusedError(CallRefusedError):
    """A request id that stands for an order with other content."""

    def __init__(self) -> None:
        super().__init__("request_id was used for another order")


class TooManySessionsError(CallRefusedError):
    """The process holds as many sessions as it may."""

    def __init__(self) -> None:
        super().__init__("no room for another session")


class StartRefusedError(CallRefusedError):
    """Arguments of StartSimulator that make no market; answered as success=false."""
