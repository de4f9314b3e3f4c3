"""Play a recording again: the same observations, replies and orders into a new executor must give the same commands.

No policy, no robot and no clock takes part. Every command, request and event is compared with the recorded one as it
comes, bit by bit; the replay ends at the first difference.

A recording does not say whether a reply was taken in `observe` or at once afterwards in `command`. Nearly always this is
the same; it is not when an answer in `observe` would have led to the next request in that very call. So a reply is given
in `observe`, unless the recording or a request that should not be shows that it came afterwards.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerebella.runtime.executor import Executor, InferenceFailure
from cerebella.runtime.recording.construction import make_executor
from cerebella.runtime.recording.mcap_file import CLOSED
from cerebella.runtime.recording.pictures import stand_in
from cerebella.runtime.recording.reader import Entry, Filtered, Recording, Seen, read_recording
from cerebella.runtime.recording.recorded_filter import ReplayFilter
from cerebella.runtime.recording.replay_check import Deviation, ReplayCheck, WrongGuess
from cerebella.runtime.recording.replay_transport import OPERATOR_EVENTS, ReplayTransport
from cerebella.runtime.trace import Event, TickRecord
from cerebella.types import Observation


@dataclass(frozen=True)
class ReplayReport:
    """How a replay went.

    Args:
        num_commands: commands of the recording. num_equal: how many were the same before the first difference.
        difference: the first one in words; empty if there is none.
    """

    num_commands: int
    num_equal: int
    difference: str

    @property
    def is_equal(self) -> bool:
        """Every command, request and event was the same."""
        return not self.difference


def replay(recording: Recording | Path | str) -> ReplayReport:
    """Play a recording, or as much of it as a killed process left.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no sound recording, or its executor cannot be made.
    """
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    entries = _whole_ticks(recording)
    afterwards: set[int] = set()
    while True:
        check = ReplayCheck(recording, entries)
        try:
            _play(recording, entries, check, afterwards)
        except WrongGuess as wrong:  # each adds a reply, so this ends
            afterwards |= wrong.replies
        except Deviation as deviation:
            return ReplayReport(check.num_commands, check.num_equal, str(deviation))
        else:
            return ReplayReport(check.num_commands, check.num_equal, check.rest())


def _whole_ticks(recording: Recording) -> tuple[Entry, ...]:
    """All entries; of a recording that was cut off those up to its last command."""
    entries = recording.entries
    if recording.is_finished and recording.end_reason == CLOSED:
        return entries
    last = max((i for i, entry in enumerate(entries) if isinstance(entry, TickRecord)), default=-1)
    return entries[: last + 1]


def _play(recording: Recording, entries: tuple[Entry, ...], check: ReplayCheck, afterwards: set[int]) -> None:
    transport = ReplayTransport(entries, afterwards)
    answers = [entry.answer for entry in entries if isinstance(entry, Filtered)]
    action_filter = ReplayFilter(answers) if answers else None
    executor = make_executor(recording.header, str(recording.path), transport, action_filter, [check])
    for index, entry in enumerate(entries):
        try:
            if isinstance(entry, Seen):
                check.guessed = transport.begin_observe(index)
                executor.observe(_observation(entry), entry.now_s, _phase_of_next(entries, index))
                check.guessed = frozenset()
            elif isinstance(entry, TickRecord):
                transport.begin_command(index)
                executor.command(entry.sent_s, entry.phase)
            elif isinstance(entry, Event) and entry.name in OPERATOR_EVENTS:
                _order(executor, entry, f"{recording.path}, record {index}")
        except InferenceFailure:  # so ended the recorded run as well, or the check finds that something is missing
            return
        except (RuntimeError, ValueError) as error:  # nothing that the recorded executor had refused
            raise Deviation(f"the executor refuses what was recorded: {error}") from error


def _observation(seen: Seen) -> Observation:
    """The observation with stand-ins for its pictures."""
    observation = seen.observation
    return Observation(
        state=observation.state,
        prompt=observation.prompt,
        tick=observation.tick,
        timestamp_s=observation.timestamp_s,
        images={camera.view: stand_in(camera) for camera in seen.cameras},
        tactile=observation.tactile,
    )


def _phase_of_next(entries: tuple[Entry, ...], index: int) -> float:
    """Phase of the first command after an observation; 0 if there is none."""
    for place in range(index + 1, len(entries)):
        entry = entries[place]
        if isinstance(entry, TickRecord):
            return entry.phase
        if isinstance(entry, Seen):
            break
    return 0.0


def _order(executor: Executor, event: Event, where: str) -> None:
    """Give a recorded order again."""
    match event.name:
        case "pause":
            executor.pause()
        case "resume":
            executor.resume()
        case "task":
            executor.set_prompt(str(_detail(event, "prompt", where)))
        case "take over":
            executor.take_over()
        case "human command":
            numbers = str(_detail(event, "values", where)).split()
            executor.human_command(np.array([float(number) for number in numbers], dtype=np.float32))
        case "hand back":
            executor.hand_back()


def _detail(event: Event, name: str, where: str) -> object:
    if name not in event.details:
        raise ValueError(
            f"{where}: the event {event.name!r} lacks {name!r}; it has {', '.join(event.details) or 'none'}"
        )
    return event.details[name]
