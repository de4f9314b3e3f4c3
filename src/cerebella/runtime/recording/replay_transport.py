"""A `Transport` that gives recorded replies at the poll at which they were taken."""

from collections.abc import Sequence

from cerebella.interfaces import Reply, Request
from cerebella.runtime.recording.reader import Arrived, Entry, Note
from cerebella.runtime.trace import Event, RequestRecord

OPERATOR_EVENTS = ("pause", "resume", "task", "take over", "human command", "hand back")
"""Events that somebody outside caused; all others come from the executor itself."""


class ReplayTransport:
    """The replay tells it where in the recording it is; what is submitted needs no answer of its own.

    Args:
        entries: of the recording.
        afterwards: indices of replies that are known to have been taken in `command`, not in `observe`.
    """

    def __init__(self, entries: Sequence[Entry], afterwards: set[int]) -> None:
        self._entries = entries
        self._afterwards = afterwards
        self._ready: list[Reply] = []
        self._next = 0

    def begin_observe(self, index: int) -> frozenset[int]:
        """The observation at `index` is about to be offered; returns the replies that are taken to belong to it.

        Those are all up to the first sign that `observe` was over, or had finished listening.
        """
        places: list[int] = []
        for place in range(index + 1, len(self._entries)):
            entry = self._entries[place]
            if isinstance(entry, Arrived) and place not in self._afterwards:
                places.append(place)
            elif not _may_precede_a_reply(entry):
                break
        self._ready = [self._reply(place) for place in places]
        self._next = places[-1] + 1 if places else index + 1
        return frozenset(places)

    def begin_command(self, index: int) -> None:
        """The command at `index` is about to be asked for."""
        places = [place for place in range(self._next, index) if isinstance(self._entries[place], Arrived)]
        self._ready = [self._reply(place) for place in places]
        self._next = index + 1

    def submit(self, request: Request) -> None:
        """Compared as a record, by the check; its reply is in the recording."""

    def poll(self, tick: int) -> list[Reply]:
        """What was taken at this poll."""
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> None:
        """Nothing to end."""

    def _reply(self, place: int) -> Reply:
        entry = self._entries[place]
        assert isinstance(entry, Arrived)
        return entry.reply


def _may_precede_a_reply(entry: Entry) -> bool:
    """Whether `observe` may still take replies after this: not after it gave up a request, or made one."""
    if isinstance(entry, RequestRecord):
        return entry.outcome not in ("in flight", "timed out")
    if isinstance(entry, Event):
        return entry.name not in OPERATOR_EVENTS
    return isinstance(entry, Note)
