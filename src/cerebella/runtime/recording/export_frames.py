"""The frames of a recording: each observation with the first command of its tick."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cerebella.runtime.recording.reader import Seen, iterate
from cerebella.runtime.trace import RequestRecord, TickRecord
from cerebella.types import ImageArray, Observation


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment of a run.

    Args:
        observation: with a picture for every wanted view.
        command: the first one of its tick.
        inference_delay: ticks that the chunk of this command took to arrive; -1 if none ran.
        begins_episode: ticks are missing before it, or it is the first.
    """

    observation: Observation
    command: TickRecord
    inference_delay: int
    begins_episode: bool


class FrameReader:
    """Reads frames from a recording, one pass.

    Args:
        path: of the recording. views: cameras that every frame must show. max_gap: so many missing ticks go unnoticed.

    Attributes:
        num_left_out: observations without a command, or before the first picture.
        num_repeated_pictures: pictures that were not stored, and replaced by the ones before.
    """

    def __init__(self, path: Path, views: tuple[str, ...], max_gap: int) -> None:
        self.num_left_out = 0
        self.num_repeated_pictures = 0
        self._path, self._views, self._max_gap = path, views, max_gap
        self._pictures: dict[str, ImageArray] = {}
        self._last_tick: int | None = None

    def __iter__(self) -> Iterator[Frame]:
        waited: dict[int, int] = {}
        seen: Seen | None = None
        for entry in iterate(self._path, with_pictures=bool(self._views)):
            if isinstance(entry, RequestRecord):
                waited[entry.id] = entry.num_ticks_waited
            elif isinstance(entry, Seen):
                self.num_left_out += seen is not None
                seen = entry
            elif isinstance(entry, TickRecord) and seen is not None and entry.tick == seen.observation.tick:
                frame = self._frame(seen, entry, waited.get(entry.chunk_id, -1))
                seen = None
                if frame is not None:
                    yield frame
        self.num_left_out += seen is not None

    def _frame(self, seen: Seen, command: TickRecord, inference_delay: int) -> Frame | None:
        found = seen.observation.images
        pictures = {view: found.get(view, self._pictures.get(view)) for view in self._views}
        complete = {view: picture for view, picture in pictures.items() if picture is not None}
        self._pictures = complete
        if len(complete) < len(self._views):
            self.num_left_out += 1
            return None
        self.num_repeated_pictures += sum(view not in found for view in self._views)
        tick = command.tick
        is_first = self._last_tick is None or tick - self._last_tick - 1 > self._max_gap
        self._last_tick = tick
        return Frame(replace(seen.observation, images=complete), command, inference_delay, is_first)
