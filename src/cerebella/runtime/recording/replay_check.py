"""The sink of a replay: compares what the new executor does with what the recorded one did, as it happens."""

from cerebella.interfaces import Reply
from cerebella.runtime.recording.comparison import describe, different_fields
from cerebella.runtime.recording.reader import Entry, Recording
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.types import Observation

_Output = TickRecord | RequestRecord | Event


class Deviation(Exception):
    """The replay has come to something that is not as recorded; the message says what."""


class WrongGuess(Exception):
    """These replies (indices) were taken in `command`, not in `observe`, as was supposed."""

    def __init__(self, replies: frozenset[int]) -> None:
        super().__init__(f"replies {sorted(replies)} were taken in command()")
        self.replies = replies


class ReplayCheck:
    """Raises at the first difference; a `TraceSink`.

    Attributes:
        guessed: replies that were given in the `observe` that is running now.
        num_commands, num_equal: in the recording; how many were the same so far.
    """

    def __init__(self, recording: Recording, entries: tuple[Entry, ...]) -> None:
        self.guessed: frozenset[int] = frozenset()
        self.num_equal = 0
        self._embodiment = recording.header.metadata.embodiment
        self._expected: list[_Output] = [e for e in entries if isinstance(e, TickRecord | RequestRecord | Event)]
        self.num_commands = sum(isinstance(entry, TickRecord) for entry in self._expected)
        self._place = 0

    def observation(self, observation: Observation, now_s: float) -> None:
        """An input."""

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        """An input."""

    def tick(self, record: TickRecord) -> None:
        """Compare a command."""
        self._compare(record)
        self.num_equal += 1

    def request(self, record: RequestRecord) -> None:
        """Compare a request that was made or has ended."""
        self._compare(record)

    def event(self, event: Event) -> None:
        """Compare an event."""
        self._compare(event)

    def rest(self) -> str:
        """What the recording has beyond the end of the replay, in words; empty if nothing."""
        if self._place == len(self._expected):
            return ""
        return f"the replay ends before {_name(self._expected[self._place])}"

    def _compare(self, actual: _Output) -> None:
        expected = self._expected[self._place] if self._place < len(self._expected) else None
        fields = different_fields(expected, actual) if type(expected) is type(actual) else None
        if fields == []:
            self._place += 1
            return
        if self.guessed and isinstance(actual, RequestRecord) and actual.outcome == "in flight":
            raise WrongGuess(self.guessed)
        if expected is None:
            raise Deviation(f"{_name(actual)} comes after the end of the recording")
        if fields is None:
            raise Deviation(f"{_name(actual)} comes where the recording has {_name(expected)}")
        field = "values" if "values" in fields else fields[0]
        words = describe(field, getattr(expected, field), getattr(actual, field), self._embodiment)
        raise Deviation(f"{_name(expected)}: {words} (recorded against replayed)")


def _name(output: _Output) -> str:
    if isinstance(output, TickRecord):
        return f"command {output.control_tick} (tick {output.tick}, phase {output.phase:g}, {output.state})"
    if isinstance(output, RequestRecord):
        return f"request {output.id} (tick {output.observation_tick}, {output.outcome})"
    return f"the event {output.name!r} (tick {output.tick})"
