"""What can go wrong with a message or a request, as far as a client may know."""

from typing import Literal

Reason = Literal["syntax", "schema", "size", "unauthorized", "busy"]
"""Why a message or a connection was refused; a label of the metrics, so the set is closed.

`syntax`: bytes that are no message of the dialect. `schema`: a message with a wrong key, type, shape or range. `size`: too
large or too deep. `unauthorized`: no token or a wrong one. `busy`: too many connections.
"""

Outcome = Literal["answered", "superseded", "overloaded", "draining", "failed", "cancelled"]
"""How a request ended; a label of the metrics.

`superseded`: a newer observation of the same session came first. `overloaded`: the queue is full. `draining`: the server is
shutting down. `failed`: the policy raised. `cancelled`: the client left.
"""


class WireError(ValueError):
    """A message that cannot be accepted; its text is short and may be sent to the client."""

    def __init__(self, text: str, reason: Reason = "schema") -> None:
        super().__init__(text)
        self.reason: Reason = reason


class RequestFailed(Exception):
    """A well-formed request that got no chunk; its text may be sent to the client.

    Args:
        outcome: how it ended.
        text: one short sentence without any inside of the server.
        error_id: stands beside the trace in the server's log; empty where there is none.
    """

    def __init__(self, outcome: Outcome, text: str, error_id: str = "") -> None:
        super().__init__(f"{text} (error {error_id})" if error_id else text)
        self.outcome: Outcome = outcome
        self.error_id = error_id


class PeerGone(Exception):
    """The connection ended, or has to end: the peer left, was idle or slow for too long, or the server is draining.

    Attributes:
        is_draining: the server asked for it; what is being worked on should still be answered.
    """

    def __init__(self, text: str, is_draining: bool = False) -> None:
        super().__init__(text)
        self.is_draining = is_draining
