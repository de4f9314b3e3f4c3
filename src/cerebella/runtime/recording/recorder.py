"""The sink that writes a recording. The control thread hands over references and goes on; a thread of its own writes.

What happens when the writer cannot keep up, in this order:

1. pictures wait in memory; from half of `QueueLimits.picture_bytes` on they are no longer stored, only digested;
2. at `picture_bytes` pictures are left out as they come in;
3. at `num_records` waiting records (many minutes of a disk that stands still) the recording ends. A command is never left
   out in the middle: a recording is whole up to its end, and says if that came early.

Nothing of this reaches the robot: no method raises but `close`, and a full disk only ends the recording.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType

from cerebella.interfaces import Reply, Takeover
from cerebella.runtime.recording import encoding
from cerebella.runtime.recording.header import Header
from cerebella.runtime.recording.mcap_file import CAMERA_TOPIC, CLOSED, McapFile, encode_end
from cerebella.runtime.recording.pictures import PICTURE_FORMATS, Camera, PictureFormat, encode_picture
from cerebella.runtime.recording.writer_thread import WriterThread
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.types import Action, Observation


class RecordingFailure(OSError):
    """A recording could not be written to its end; the message names the file and what happened."""


@dataclass(frozen=True)
class QueueLimits:
    """How much may wait for the writer.

    Args:
        num_records: observations, commands, requests, replies and events.
        picture_bytes: bytes of uncompressed pictures.
    """

    num_records: int = 100_000
    picture_bytes: int = 128 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.num_records < 1 or self.picture_bytes < 0:
            raise ValueError(f"QueueLimits need num_records >= 1 and picture_bytes >= 0; got {self}")


class Recorder:
    """Writes everything that an executor tells its sinks; a `TraceSink`. Its methods are called from the control thread.

    Arrays are not copied before they are written: as everywhere, nobody changes them once they were handed over.

    Args:
        path: a file that does not exist yet, `*.mcap`.
        header: what is run.
        pictures: how camera pictures are stored; `none` stores none (a replay needs none).
        limits: how much may wait for the writer.
        may_wait: the caller would rather wait than lose anything: for a virtual clock, never for a robot.
        flush_every_s: so much of a recording is lost at most when the process is killed.

    Raises:
        FileExistsError: there is such a file. ValueError: an unknown picture format.
    """

    def __init__(
        self,
        path: Path | str,
        header: Header,
        *,
        pictures: PictureFormat = "jpeg",
        limits: QueueLimits | None = None,
        may_wait: bool = False,
        flush_every_s: float = 1.0,
    ) -> None:
        if pictures not in PICTURE_FORMATS:
            raise ValueError(f"unknown picture format {pictures!r}; known: {', '.join(PICTURE_FORMATS)}")
        limits = limits or QueueLimits()
        self.path = Path(path)
        self._pictures: PictureFormat = pictures
        self._max_picture_bytes, self._may_wait = limits.picture_bytes, may_wait
        self._num_dropped = self._num_only_digested = 0  # counted by the control thread, by the writer
        self._picture_bytes_put = self._picture_bytes_done = 0
        self._file = McapFile(self.path, header.to_json())
        self._thread = WriterThread(self._file, str(self.path), limits.num_records, may_wait, flush_every_s)

    @property
    def num_records(self) -> int:
        """Records accepted so far, pictures not counted."""
        return self._thread.num_taken

    @property
    def num_lost_records(self) -> int:
        """Records that came after the recording had to end; 0 in a whole recording."""
        return self._thread.num_refused

    @property
    def num_dropped_pictures(self) -> int:
        """Pictures that were left out because the writer could not keep up."""
        return self._num_dropped + self._num_only_digested

    @property
    def failure(self) -> str:
        """Why the recording ended early; empty while all is well."""
        return self._thread.failure

    def observation(self, observation: Observation, now_s: float) -> None:
        """Phase 1 of a tick began."""
        num_bytes = sum(image.nbytes for image in observation.images.values())
        if self._may_wait and self._num_waiting_bytes(num_bytes) > self._max_picture_bytes:
            self.flush()
        dropped: tuple[Camera, ...] = ()
        if num_bytes and not self._may_wait and self._num_waiting_bytes(num_bytes) > self._max_picture_bytes:
            dropped = tuple(Camera.of(view, image, False) for view, image in observation.images.items())
            self._num_dropped += len(dropped)
            observation, num_bytes = replace(observation, images={}), 0
        self._picture_bytes_put += num_bytes
        if not self._thread.put(partial(self._write_observation, observation, now_s, dropped, num_bytes)):
            self._picture_bytes_put -= num_bytes

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        """A reply was taken from the transport; also one that is then ignored."""
        self._thread.put(lambda: self._file.add("/reply", encoding.encode_reply(reply, tick, phase), 0))

    def tick(self, record: TickRecord) -> None:
        """A command was decided."""
        self._thread.put(lambda: self._file.add("/tick", encoding.encode_tick(record), _to_ns(record.sent_s)))

    def request(self, record: RequestRecord) -> None:
        """A request was made, and once more when it ended. The record may change afterwards, so it is copied."""
        kept = replace(record)
        self._thread.put(lambda: self._file.add("/request", encoding.encode_request(kept), _to_ns(kept.submitted_s)))

    def event(self, event: Event) -> None:
        """Something else happened."""
        kept = Event(event.tick, event.name, dict(event.details))
        self._thread.put(lambda: self._file.add("/event", encoding.encode_event(kept), 0))

    def filtered(self, tick: int, answer: Action | Takeover) -> None:
        """An `ActionFilter` answered (a `RecordedFilter` says so)."""
        self._thread.put(lambda: self._file.add("/filtered", encoding.encode_filtered(tick, answer), 0))

    def note(self, note: Event) -> None:
        """Something that the executor does not know of: an emergency stop, how the episode ended, a remark."""
        kept = Event(note.tick, note.name, dict(note.details))
        self._thread.put(lambda: self._file.add("/note", encoding.encode_event(kept), 0))

    def flush(self) -> None:
        """Wait until everything so far is on the disk (or the recording has failed). Not for a control thread."""
        self._thread.flush()

    def close(self) -> None:
        """Write what waits, then the end. May be called twice.

        Raises:
            RecordingFailure: the recording does not hold everything.
        """
        try:
            self._thread.close(self._write_end)
        except TimeoutError as error:
            raise RecordingFailure(str(error)) from error
        if self.failure:
            lost = f"{self.num_lost_records} records came after it"
            raise RecordingFailure(f"{self.path}: the recording ended early, {lost}: {self.failure}")

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _num_waiting_bytes(self, more: int) -> int:
        return self._picture_bytes_put - self._picture_bytes_done + more

    def _write_observation(
        self, observation: Observation, now_s: float, dropped: tuple[Camera, ...], num_bytes: int
    ) -> None:
        """Pictures first, so that a reader has them when their observation comes."""
        is_behind = not self._may_wait and self._num_waiting_bytes(0) > self._max_picture_bytes // 2
        is_stored = self._pictures != "none" and not is_behind
        time_ns = _to_ns(now_s)
        cameras = list(dropped)
        for view, image in observation.images.items():
            if is_stored:
                picture = encode_picture(image, view, _to_ns(observation.timestamp_s), self._pictures)
                self._file.add(f"{CAMERA_TOPIC}{view}", picture, time_ns)
            self._num_only_digested += self._pictures != "none" and is_behind
            cameras.append(Camera.of(view, image, is_stored))
        self._picture_bytes_done += num_bytes
        self._file.add("/observation", encoding.encode_observation(observation, now_s, tuple(cameras)), time_ns)

    def _write_end(self) -> None:
        reason = self.failure or CLOSED
        end = encode_end(self.num_records, self.num_lost_records, self.num_dropped_pictures, reason)
        self._file.add("/end", end, 0)
        self._file.close()


def _to_ns(time_s: float) -> int:
    return max(0, round(time_s * 1e9))
