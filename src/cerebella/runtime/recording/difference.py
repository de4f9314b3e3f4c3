"""In what do two recordings differ? Aligned by the number of the command."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from cerebella.runtime.recording.comparison import TIMES, describe, different_fields, same_bits
from cerebella.runtime.recording.reader import Arrived, Recording, Seen
from cerebella.runtime.recording.tally import tally
from cerebella.runtime.trace import TickRecord

_Record = TypeVar("_Record")
_MOST_LINES = 20


@dataclass(frozen=True)
class Difference:
    """What differs; times of the clock (when something was sent, how long an inference took) are not looked at.

    Args:
        num_commands: of the two. num_common: with a number that both have.
        num_different: common commands whose values, or anything else about them, differ.
        first_control_tick: the first of them; also the first that only one has. None if there is none.
        first: it in words.
        first_input: the first observation or reply that differs, in words: where to look for the reason.
        max_difference: per action dimension, over all common commands, in the dimension's unit.
        different_fields: field of a command -> how many commands differ in it.
        requests: one line per request that differs.
        counters: name -> both counts, where they differ.
        header: one line per setting that differs.
    """

    num_commands: tuple[int, int]
    num_common: int
    num_different: int
    first_control_tick: int | None
    first: str
    first_input: str
    max_difference: Mapping[str, float]
    different_fields: Mapping[str, int]
    requests: tuple[str, ...]
    counters: Mapping[str, tuple[int, int]]
    header: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Same commands, requests and counts. Settings and inputs may differ all the same."""
        return self.first_control_tick is None and not self.requests and not self.counters

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"is_equal": self.is_equal, **asdict(self)}

    def to_text(self) -> str:
        """Some lines for a person; the differences that matter most first."""
        if self.is_equal:
            lines = [f"equal: {self.num_common} commands, bit by bit"]
        else:
            lines = [f"{self.num_different} of {self.num_common} common commands differ; {self.num_commands} in all"]
        if self.first:
            lines.append(f"first: {self.first}")
        if self.first_input:
            lines.append(f"first input: {self.first_input}")
        lines += [
            f"  largest difference of {name}: {value:.6g}" for name, value in self.max_difference.items() if value
        ]
        lines += [f"  {count} commands differ in {name}" for name, count in self.different_fields.items()]
        lines += [f"{name}: {ours} against {theirs}" for name, (ours, theirs) in self.counters.items()]
        lines += list(self.requests[:_MOST_LINES])
        if len(self.requests) > _MOST_LINES:
            lines.append(f"and {len(self.requests) - _MOST_LINES} more requests")
        return "\n".join([*lines, *self.header])


def difference(ours: Recording, theirs: Recording) -> Difference:
    """Compare two recordings of one robot.

    Raises:
        ValueError: they have other action dimensions.
    """
    embodiment, other = ours.header.metadata.embodiment, theirs.header.metadata.embodiment
    names = [(a.name, a.unit) for a in embodiment.actions]
    if names != [(a.name, a.unit) for a in other.actions]:
        raise ValueError(
            f"{ours.path} and {theirs.path} are of different robots: {embodiment.name} with {names}, {other.name} with "
            f"{[(a.name, a.unit) for a in other.actions]}"
        )
    first, second = _by_number(ours), _by_number(theirs)
    common = sorted(first.keys() & second.keys())
    fields_of = {number: different_fields(first[number], second[number], TIMES) for number in common}
    different = [number for number in common if fields_of[number]]
    lonely = sorted(first.keys() ^ second.keys())
    first_number = min([*different[:1], *lonely[:1]], default=None)
    gaps = np.array([np.abs(first[n].values - second[n].values) for n in common], dtype=np.float64)
    largest = gaps.max(axis=0) if common else np.zeros(len(names))
    counts = [tally(recording) for recording in (ours, theirs)]
    return Difference(
        num_commands=(len(first), len(second)),
        num_common=len(common),
        num_different=len(different),
        first_control_tick=first_number,
        first=_describe_first(ours, first_number, first, second, fields_of),
        first_input=_first_input(ours, theirs),
        max_difference={name: float(value) for (name, _), value in zip(names, largest, strict=True)},
        different_fields=dict(Counter(field for fields in fields_of.values() for field in fields)),
        requests=tuple(_request_lines(ours, theirs)),
        counters={
            name: (counts[0].get(name, 0), counts[1].get(name, 0))
            for name in dict.fromkeys([*counts[0], *counts[1]])
            if counts[0].get(name, 0) != counts[1].get(name, 0)
        },
        header=tuple(_header_lines(ours, theirs)),
    )


def _by_number(recording: Recording) -> dict[int, TickRecord]:
    return {record.control_tick: record for record in recording.ticks}


def _describe_first(
    ours: Recording,
    number: int | None,
    first: Mapping[int, TickRecord],
    second: Mapping[int, TickRecord],
    fields_of: Mapping[int, list[str]],
) -> str:
    if number is None:
        return ""
    if number not in fields_of:
        return f"command {number} is only in the {'first' if number in first else 'second'} recording"
    a, b = first[number], second[number]
    field = fields_of[number][0] if "values" not in fields_of[number] else "values"
    words = describe(field, getattr(a, field), getattr(b, field), ours.header.metadata.embodiment)
    return f"command {number} (tick {a.tick}, phase {a.phase:g}): {words}"


def _first_input(ours: Recording, theirs: Recording) -> str:
    """The first observation (in state, prompt, pictures) or reply (in what it says) that differs."""
    found: list[tuple[int, str]] = []
    for tick, a, b in _pairs(ours.seen, theirs.seen, lambda seen: seen.observation.tick):
        if what := _seen_difference(a, b):
            found.append((tick, f"the observation of tick {tick} differs in {what}"))
            break
    arrived = [[e for e in recording.entries if isinstance(e, Arrived)] for recording in (ours, theirs)]
    for request, a, b in _pairs(arrived[0], arrived[1], lambda entry: entry.reply.request_id):
        if what := _reply_difference(a, b):
            found.append((a.tick, f"the reply to request {request} differs in {what}"))
            break
    return min(found)[1] if found else ""


def _seen_difference(a: Seen, b: Seen) -> str:
    if not same_bits(a.observation.state, b.observation.state):
        return "its state"
    if a.observation.prompt != b.observation.prompt:
        return f"its prompt: {a.observation.prompt!r} against {b.observation.prompt!r}"
    pictures = [[(camera.view, camera.digest) for camera in seen.cameras] for seen in (a, b)]
    return "its pictures" if pictures[0] != pictures[1] else ""


def _reply_difference(a: Arrived, b: Arrived) -> str:
    if (a.tick, a.phase) != (b.tick, b.phase):
        return f"its arrival: tick {a.tick} against {b.tick}"
    chunks = a.reply.chunk, b.reply.chunk
    if chunks[0] is None or chunks[1] is None:
        return "its error" if a.reply.error != b.reply.error else ""
    return "" if same_bits(chunks[0].actions, chunks[1].actions) else "its actions"


def _request_lines(ours: Recording, theirs: Recording) -> Iterable[str]:
    embodiment = ours.header.metadata.embodiment
    for number, a, b in _pairs(ours.requests, theirs.requests, lambda record: record.id):
        if fields := different_fields(a, b, TIMES):
            words = "; ".join(describe(f, getattr(a, f), getattr(b, f), embodiment) for f in fields)
            yield f"request {number} (tick {a.observation_tick}): {words}"
    ids: list[set[int]] = [{r.id for r in recording.requests} for recording in (ours, theirs)]
    for which, only in (("first", ids[0] - ids[1]), ("second", ids[1] - ids[0])):
        if only:
            yield f"{len(only)} requests are only in the {which} recording, from request {min(only)} on"


def _header_lines(ours: Recording, theirs: Recording) -> Iterable[str]:
    a, b = ours.header, theirs.header
    for field in different_fields(a.config, b.config):
        yield f"setting {field}: {getattr(a.config, field)!r} against {getattr(b.config, field)!r}"
    for field in different_fields(a.metadata, b.metadata, ["embodiment"]):
        yield f"policy {field}: {getattr(a.metadata, field)!r} against {getattr(b.metadata, field)!r}"
    if a.metadata.embodiment != b.metadata.embodiment:
        yield "the embodiments differ (limits, rates or slots)"
    for name in sorted(a.versions.keys() | b.versions.keys()):
        if a.versions.get(name) != b.versions.get(name):
            yield f"version of {name}: {a.versions.get(name)} against {b.versions.get(name)}"


def _pairs(
    ours: Iterable[_Record], theirs: Iterable[_Record], key: Callable[[_Record], Hashable]
) -> Iterable[tuple[Any, _Record, _Record]]:
    """Records with the same key, in our order."""
    partners = {key(record): record for record in theirs}
    for record in ours:
        if key(record) in partners:
            yield key(record), record, partners[key(record)]
