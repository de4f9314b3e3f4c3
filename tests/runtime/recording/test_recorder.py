"""What is handed over is in the file; what cannot be written never reaches the robot."""

import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.interfaces import Reply, Takeover
from cerebella.runtime.instruments.tagged import make_observation
from cerebella.runtime.recording.comparison import different_fields
from cerebella.runtime.recording.pictures import PictureFormat
from cerebella.runtime.recording.reader import Filtered, Seen, iterate, read_recording
from cerebella.runtime.recording.recorder import QueueLimits, Recorder, RecordingFailure
from cerebella.runtime.trace import Event, RequestRecord
from cerebella.types import Action, FloatArray, ImageArray
from tests.runtime.recording.made import ZEROS, make_header, make_tick, write_ticks


def pictures(num: int, seed: int = 0, size: tuple[int, int] = (48, 64)) -> list[ImageArray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(num)]


def test_everything_comes_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    request = RequestRecord(0, 0, 0.0, np.zeros((0, 4), dtype=np.float32), 0)
    with Recorder(path, make_header(run={"seed": 7})) as recorder:
        recorder.observation(make_observation(0), 0.0)
        recorder.request(request)
        request.outcome = "rejected"  # the executor goes on with the same object
        recorder.reply(Reply(0, error="gone"), 0, 0.25)
        recorder.request(request)
        recorder.filtered(0, Takeover(Action(ZEROS, 0), 3, "touch"))
        recorder.tick(make_tick(0))
        recorder.event(Event(0, "stop", {"state": "hold"}))
        recorder.note(Event(0, "emergency stop", {"source": "button"}))
    recording = read_recording(path)
    assert [type(entry).__name__ for entry in recording.entries] == [
        "Seen",
        "RequestRecord",
        "Arrived",
        "RequestRecord",
        "Filtered",
        "TickRecord",
        "Event",
        "Note",
    ]
    outcomes = [entry.outcome for entry in recording.entries if isinstance(entry, RequestRecord)]
    assert outcomes == ["in flight", "rejected"]
    assert [record.outcome for record in recording.requests] == ["rejected"]
    assert different_fields(recording.ticks[0], make_tick(0)) == []
    assert (recording.is_finished, recording.end_reason, recording.num_lost_records) == (True, "closed", 0)
    assert recording.header.run == {"seed": 7}
    assert recording.header == make_header(run={"seed": 7}, started_utc=recording.header.started_utc)
    [claim] = [entry.answer for entry in recording.entries if isinstance(entry, Filtered)]
    assert isinstance(claim, Takeover)
    assert [(note.name, note.details) for note in recording.notes] == [("emergency stop", {"source": "button"})]


def test_png_keeps_every_pixel_and_jpeg_nearly(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 48 * 64).reshape(48, 64, 1).repeat(3, axis=2).astype(np.uint8)
    formats: dict[PictureFormat, int] = {"png": 0, "jpeg": 6}
    for picture_format, most in formats.items():
        path = tmp_path / f"{picture_format}.mcap"
        with Recorder(path, make_header(), pictures=picture_format) as recorder:
            recorder.observation(replace(make_observation(0), images={"base": ramp}), 0.0)
        [seen] = iterate(path)
        assert isinstance(seen, Seen)
        assert np.abs(seen.observation.images["base"].astype(int) - ramp).max() <= most


def test_without_pictures_the_digest_still_tells_them_apart(tmp_path: Path) -> None:
    first, second = pictures(2)
    with Recorder(tmp_path / "run.mcap", make_header(), pictures="none") as recorder:
        for tick, image in enumerate((first, second, first.copy())):
            recorder.observation(replace(make_observation(tick), images={"base": image}), tick / 30)
    recording = read_recording(tmp_path / "run.mcap")
    digests = [seen.cameras[0].digest for seen in recording.seen]
    assert digests[0] == digests[2] != digests[1]
    assert not any(seen.cameras[0].is_stored for seen in recording.seen)
    assert recording.num_dropped_pictures == 0


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "run.mcap", make_tick(0))
    with pytest.raises(FileExistsError):
        Recorder(path, make_header())
    assert len(read_recording(path).ticks) == 1


def test_unknown_picture_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown picture format 'gif'; known: jpeg, png, none"):
        Recorder(tmp_path / "run.mcap", make_header(), pictures="gif")  # pyright: ignore[reportArgumentType]


class Stuck(np.ndarray):
    """Numbers that the writer can only read when it is let."""

    gate: threading.Event

    def tolist(self) -> Any:
        self.gate.wait()
        return super().tolist()


def stuck(gate: threading.Event) -> FloatArray:
    values = np.zeros(4, dtype=np.float32).view(Stuck)
    values.gate = gate
    return values


def test_pictures_go_first_and_commands_stay(tmp_path: Path) -> None:
    """The writer stands still for 100 ticks: memory for pictures is bounded, every command arrives."""
    gate = threading.Event()
    [image] = pictures(1)
    limits = QueueLimits(picture_bytes=20 * image.nbytes)
    recorder = Recorder(tmp_path / "run.mcap", make_header(), limits=limits)
    recorder.tick(make_tick(0, values=stuck(gate)))
    for tick in range(1, 100):
        recorder.observation(replace(make_observation(tick), images={"base": image}), tick / 30)
        recorder.tick(make_tick(tick))
    assert recorder.num_dropped_pictures == 99 - 20
    gate.set()
    recorder.close()
    recording = read_recording(tmp_path / "run.mcap")
    assert [record.tick for record in recording.ticks] == list(range(100))
    assert [seen.observation.tick for seen in recording.seen] == list(range(1, 100))
    assert len({seen.cameras[0].digest for seen in recording.seen}) == 1
    stored = [seen.cameras[0].is_stored for seen in recording.seen]
    assert not any(stored[20:])
    assert any(stored[:20])
    assert recording.num_dropped_pictures == stored.count(False) == recorder.num_dropped_pictures


def test_a_writer_that_stands_still_ends_the_recording_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    recorder = Recorder(tmp_path / "run.mcap", make_header(), limits=QueueLimits(num_records=50))
    recorder.tick(make_tick(0, values=stuck(gate)))
    for tick in range(1, 200):
        recorder.tick(make_tick(tick))
    assert recorder.num_records + recorder.num_lost_records == 200
    assert 50 <= recorder.num_records <= 51
    gate.set()
    with pytest.raises(
        RecordingFailure, match=r"\d+ records came after it: more than 50 records were waiting"
    ) as caught:
        recorder.close()
    assert str(tmp_path / "run.mcap") in str(caught.value)
    assert "the recording ends here" in caplog.text
    recording = read_recording(tmp_path / "run.mcap")
    assert [record.tick for record in recording.ticks] == list(range(recorder.num_records))
    assert recording.num_lost_records == recorder.num_lost_records
    assert "waiting" in recording.end_reason


def test_on_a_virtual_clock_nothing_is_lost(tmp_path: Path) -> None:
    [image] = pictures(1)
    limits = QueueLimits(num_records=20, picture_bytes=3 * image.nbytes)
    with Recorder(tmp_path / "run.mcap", make_header(), limits=limits, may_wait=True) as recorder:
        for tick in range(300):
            recorder.observation(replace(make_observation(tick), images={"base": image}), tick / 30)
            recorder.tick(make_tick(tick))
    recording = read_recording(tmp_path / "run.mcap")
    assert len(recording.ticks) == len(recording.seen) == 300
    assert all(seen.cameras[0].is_stored for seen in recording.seen)


def test_what_cannot_be_written_ends_the_recording_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path / "run.mcap", make_header())
    recorder.tick(make_tick(0))
    recorder.event(Event(0, "odd", {"thing": object()}))  # pyright: ignore[reportArgumentType]
    recorder.flush()
    recorder.tick(make_tick(1))
    with pytest.raises(RecordingFailure, match="must be plain JSON values; got a object"):
        recorder.close()
    assert recorder.num_lost_records == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
from cerebella.runtime.recording.recorder import Recorder, RecordingFailure
from tests.runtime.recording.made import make_header, make_tick
recorder = Recorder(Path(sys.argv[1]), make_header(), flush_every_s=3600.0)
recorder.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
tick = 0
while not recorder.failure:
    recorder.tick(make_tick(tick, sent_s=tick / 7, prompt=str(tick * 7919)))
    tick += 1
    if tick % 50 == 0:
        recorder.flush()
recorder.tick(make_tick(tick))
try:
    recorder.close()
except RecordingFailure as failure:
    print(failure)
"""


def test_a_full_disk_ends_the_recording_and_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert f"{path}: the recording ended early" in done.stdout
    assert "File too large" in done.stdout
    recording = read_recording(path)
    assert not recording.is_finished
    assert [record.tick for record in recording.ticks] == list(range(len(recording.ticks)))
    assert len(recording.ticks) >= 50


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """What is held after eight thousand commands is what was held after one thousand."""
    held: list[int] = []
    with Recorder(tmp_path / "run.mcap", make_header(), limits=QueueLimits(num_records=100), may_wait=True) as recorder:
        tracemalloc.start()
        for first in range(0, 8000, 1000):
            for tick in range(first, first + 1000):
                recorder.tick(make_tick(tick))
            recorder.flush()
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert held[-1] - held[0] < 500_000  # the commands themselves are 2 MB
    assert len(read_recording(tmp_path / "run.mcap").ticks) == 8000
