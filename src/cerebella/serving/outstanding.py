"""Which requests of a remote transport are on their way, and what an arriving answer belongs to. Bounded, no clock."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from cerebella.interfaces import Reply, Request

_NUM_PAST = 64
_NUM_REPLIES = 256


@dataclass
class Counts:
    """What has happened to a remote transport.

    Args:
        num_connections: handshakes that succeeded. num_losses: connections that ended without our doing.
        num_restarts: times that another start of the server answered. num_refusals: times that it had another policy.
        num_timeouts: requests without an answer in time. num_bad_frames: frames that were no answer.
        num_late: answers after the request had been given up. num_unknown: answers to nothing (duplicates, mostly).
        num_superseded: requests that a newer one replaced. num_dropped: replies that nobody polled for.
    """

    num_connections: int = 0
    num_losses: int = 0
    num_restarts: int = 0
    num_refusals: int = 0
    num_timeouts: int = 0
    num_bad_frames: int = 0
    num_late: int = 0
    num_unknown: int = 0
    num_superseded: int = 0
    num_dropped: int = 0


@dataclass(frozen=True)
class Sent:
    """What is remembered of a request: not its pictures."""

    request_id: int
    tick: int
    prefix_length: int


@dataclass
class Outstanding:
    """Requests on their way by `seq`, the last ones given up, and replies for the control thread.

    Args:
        max_open: further requests make the oldest one given up.
        counts: where to count.
    """

    max_open: int
    counts: Counts = field(default_factory=Counts)
    replies: deque[Reply] = field(default_factory=deque)
    _open: OrderedDict[int, Sent] = field(default_factory=OrderedDict)
    _past: OrderedDict[int, Sent] = field(default_factory=OrderedDict)

    def add(self, seq: int, request: Request) -> None:
        """A request is about to be sent."""
        if len(self._open) >= self.max_open:
            self.counts.num_superseded += 1
            self.give_up(next(iter(self._open)), f"given up: {self.max_open} newer requests are on their way")
        prefix_length = len(request.action_prefix) if request.guidance is None else 0
        self._open[seq] = Sent(request.id, request.observation.tick, prefix_length)

    def find(self, seq: object) -> Sent | None:
        """Whose answer this is, once; None for a duplicate or a stranger."""
        if not isinstance(seq, int):
            self.counts.num_unknown += 1
            return None
        if (sent := self._open.pop(seq, None)) is not None:
            return sent
        if (sent := self._past.pop(seq, None)) is not None:
            self.counts.num_late += 1
            return sent
        self.counts.num_unknown += 1
        return None

    def give_up(self, seq: int, error: str) -> None:
        """A request ends with an error; its answer may still come."""
        if (sent := self._open.pop(seq, None)) is None:
            return
        self._past[seq] = sent
        if len(self._past) > _NUM_PAST:
            self._past.popitem(last=False)
        self.reply(Reply(sent.request_id, error=error))

    def give_up_all(self, error: str) -> None:
        """The connection has ended: nothing that was asked on it will be answered."""
        for sent in self._open.values():
            self.reply(Reply(sent.request_id, error=error))
        self._open.clear()
        self._past.clear()

    def is_open(self, seq: int) -> bool:
        """Whether this request still waits for its answer."""
        return seq in self._open

    def reply(self, reply: Reply) -> None:
        """Put a reply where the control thread finds it (a deque: one thread appends, another takes)."""
        if len(self.replies) >= _NUM_REPLIES:
            self.replies.popleft()
            self.counts.num_dropped += 1
        self.replies.append(reply)
