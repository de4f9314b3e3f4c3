"""Read a recording back: the same records, in the order in which they were handed over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cerebella.interfaces import Reply, Takeover
from cerebella.runtime.recording import encoding
from cerebella.runtime.recording.header import Header
from cerebella.runtime.recording.mcap_file import CAMERA_TOPIC, METADATA_NAME, TOPICS
from cerebella.runtime.recording.mcap_messages import FileState, StoredMessage, messages, open_state
from cerebella.runtime.recording.messages import END, PICTURE, unpack
from cerebella.runtime.recording.pictures import Camera, decode_picture
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.types import Action, ImageArray, Observation


@dataclass(frozen=True, eq=False)
class Seen:
    """An observation as it entered the executor. It carries its stored pictures only if they were asked for."""

    observation: Observation
    now_s: float
    cameras: tuple[Camera, ...]


@dataclass(frozen=True, eq=False)
class Arrived:
    """A reply, and when the executor took it from its transport."""

    reply: Reply
    tick: int
    phase: float


@dataclass(frozen=True, eq=False)
class Filtered:
    """What an `ActionFilter` answered."""

    answer: Action | Takeover


@dataclass(frozen=True, eq=False)
class Note:
    """Something that happened outside the executor; a replay passes it over."""

    event: Event


Entry = Seen | Arrived | TickRecord | RequestRecord | Event | Filtered | Note


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording in memory, without pictures.

    Args:
        path: where it was read from. header: what was run.
        entries: everything, in order; a request appears when it was made and again when it ended.
        is_finished: it has its end; a killed process leaves one that ends with its last flush.
        end_reason: how it ended, `closed` if all is well; empty if it did not.
        num_lost_records: how many came after the recording had to end. num_dropped_pictures: pictures left out.
        num_unread_bytes: at the end of an unfinished file that cannot be read.
    """

    path: Path
    header: Header
    entries: tuple[Entry, ...]
    is_finished: bool
    end_reason: str = ""
    num_lost_records: int = 0
    num_dropped_pictures: int = 0
    num_unread_bytes: int = 0

    @property
    def ticks(self) -> list[TickRecord]:
        """Every command."""
        return [entry for entry in self.entries if isinstance(entry, TickRecord)]

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request as it ended, or as it stood at the end of the recording; by id."""
        latest = {entry.id: entry for entry in self.entries if isinstance(entry, RequestRecord)}
        return [latest[key] for key in sorted(latest)]

    @property
    def events(self) -> list[Event]:
        """Every event."""
        return [entry for entry in self.entries if isinstance(entry, Event)]

    @property
    def notes(self) -> list[Event]:
        """Every note."""
        return [entry.event for entry in self.entries if isinstance(entry, Note)]

    @property
    def seen(self) -> list[Seen]:
        """Every observation."""
        return [entry for entry in self.entries if isinstance(entry, Seen)]


def read_recording(path: Path | str) -> Recording:
    """Read and check a whole recording.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no recording, is damaged, or has a gap; names the file.
    """
    path = Path(path)
    state = open_state(path)
    end: dict[str, Any] = {}
    header, stream = _begin(path, state)
    entries = tuple(_entries(path, header, stream, end, with_pictures=False))
    return Recording(
        path=path,
        header=header,
        entries=entries,
        is_finished=state.is_finished and bool(end),
        **end,
        num_unread_bytes=state.num_bytes - state.num_bytes_read,
    )


def iterate(path: Path | str, with_pictures: bool = True) -> Iterator[Entry]:
    """The entries one by one; observations with the pictures that are stored (JPEG: nearly those that were seen).

    Raises:
        As `read_recording`.
    """
    path = Path(path)
    header, stream = _begin(path, open_state(path))
    yield from _entries(path, header, stream, {}, with_pictures)


def read_header(path: Path | str) -> Header:
    """The header alone.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no recording; names the file.
    """
    path = Path(path)
    return _begin(path, open_state(path))[0]


def _begin(path: Path, state: FileState) -> tuple[Header, Iterator[StoredMessage]]:
    """The header, and the messages from the first one on. The header comes before all messages."""
    stream = messages(path, state)
    first = next(stream, None)
    if METADATA_NAME not in state.metadata:
        raise ValueError(f"{path} is an MCAP file, but no recording of an executor: it has no header {METADATA_NAME!r}")
    header = Header.from_json(state.metadata[METADATA_NAME].get("header", ""), str(path))
    return header, _chain(first, stream)


def _chain(first: StoredMessage | None, rest: Iterator[StoredMessage]) -> Iterator[StoredMessage]:
    if first is not None:
        yield first
        yield from rest


def _entries(
    path: Path, header: Header, stream: Iterator[StoredMessage], end: dict[str, Any], with_pictures: bool
) -> Iterator[Entry]:
    pictures: dict[str, ImageArray] = {}
    for count, message in enumerate(stream):
        where = f"{path}, record {count} ({message.topic})"
        if message.sequence != count:
            raise ValueError(f"{where} has the number {message.sequence}: records before it are missing")
        try:
            _check_schema(message)
            if message.topic.startswith(CAMERA_TOPIC):
                if with_pictures:
                    pictures[message.topic.removeprefix(CAMERA_TOPIC)] = decode_picture(message.data)
                continue
            if message.schema == END:
                end.update(_read_end(unpack(END, message.data)))
                continue
            entry = _decode(message, header)
            if isinstance(entry, Seen):
                entry = replace(entry, observation=_with_pictures(entry, pictures)) if pictures else entry
                pictures = {}
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        yield entry


def _read_end(fields: Any) -> dict[str, Any]:
    return {
        "end_reason": fields.reason,
        "num_lost_records": fields.num_lost_records,
        "num_dropped_pictures": fields.num_dropped_pictures,
    }


def _check_schema(message: StoredMessage) -> None:
    expected = PICTURE if message.topic.startswith(CAMERA_TOPIC) else TOPICS.get(message.topic)
    if expected is None:
        raise ValueError(f"unknown topic; known: {', '.join(TOPICS)}, {CAMERA_TOPIC}VIEW")
    if message.schema != expected:
        raise ValueError(f"is a {message.schema}; expected a {expected}")


def _decode(message: StoredMessage, header: Header) -> Entry:
    embodiment = header.metadata.embodiment
    match message.topic:
        case "/observation":
            seen = Seen(*encoding.decode_observation(message.data))
            embodiment.check_state(seen.observation.state)
            return seen
        case "/reply":
            return Arrived(*encoding.decode_reply(message.data))
        case "/tick":
            record = encoding.decode_tick(message.data)
            embodiment.check_actions(record.values)
            embodiment.check_actions(record.raw)
            return record
        case "/request":
            return encoding.decode_request(message.data, embodiment.action_dim)
        case "/event":
            return encoding.decode_event(message.data)
        case "/note":
            return Note(encoding.decode_event(message.data))
        case "/filtered":
            return Filtered(encoding.decode_filtered(message.data))
        case _:
            raise AssertionError(message.topic)


def _with_pictures(seen: Seen, pictures: Mapping[str, Any]) -> Observation:
    stored = {camera.view for camera in seen.cameras if camera.is_stored}
    if missing := sorted(stored - set(pictures)):
        raise ValueError(f"the picture of {missing[0]!r} is missing")
    return replace(seen.observation, images=dict(pictures))
