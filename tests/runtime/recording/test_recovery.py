"""A process that is killed leaves a recording that can be read up to its last flush, whatever it was writing."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebella.runtime.instruments.tagged import make_observation
from cerebella.runtime.recording.reader import Recording, Seen, iterate, read_recording
from cerebella.runtime.recording.recorder import Recorder
from cerebella.runtime.recording.recovery import recover
from tests.runtime.recording.made import make_header, make_tick

KILLED = """
import os, signal, sys
from pathlib import Path
from cerebella.runtime.recording.recorder import Recorder
from tests.runtime.recording.made import make_header, make_tick
recorder = Recorder(Path(sys.argv[1]), make_header(), flush_every_s=3600.0)
for tick in range(500):
    recorder.tick(make_tick(tick))
recorder.flush()
for tick in range(500, 600):
    recorder.tick(make_tick(tick))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_recording(path: Path) -> Path:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return path


def test_a_killed_process_leaves_all_up_to_the_last_flush(tmp_path: Path) -> None:
    path = killed_recording(tmp_path / "run.mcap")
    recording = read_recording(path)
    assert not recording.is_finished
    assert [record.tick for record in recording.ticks] == list(range(500))
    found = recover(path)
    assert (found.was_finished, found.num_messages) == (False, 500)
    recording = read_recording(path)
    assert recording.is_finished
    assert recording.end_reason == "recovered: its writer was killed"
    assert [record.tick for record in recording.ticks] == list(range(500))
    before = path.read_bytes()
    assert recover(path).was_finished
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.mcap"]


def write_small(path: Path) -> Path:
    """Chunks of one command each, and a picture now and then."""
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with Recorder(path, make_header()) as recorder:
        for tick in range(12):
            images = {"base": image} if tick % 3 == 0 else {}
            recorder.observation(replace(make_observation(tick), images=images), tick / 30)
            recorder.tick(make_tick(tick))
            recorder.flush()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_small(tmp_path_factory.mktemp("whole") / "run.mcap").read_bytes()


def read_or_refuse(path: Path) -> Recording | None:
    """None if the file was refused with a message that names it."""
    try:
        return read_recording(path)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(share=st.floats(0, 1, exclude_max=True), num_zeros=st.sampled_from([0, 0, 1, 7, 64]))
def test_a_file_cut_anywhere_is_a_beginning_of_the_whole(
    whole: bytes, tmp_path: Path, share: float, num_zeros: int
) -> None:
    """Also with zeros at the end, as a power failure leaves them."""
    path = tmp_path / "cut.mcap"
    path.write_bytes(whole[: int(share * len(whole))] + bytes(num_zeros))
    recording = read_or_refuse(path)
    if recording is None:  # cut before the end of the header
        assert share < 0.3
        return
    assert not recording.is_finished
    ticks = [record.tick for record in recording.ticks]
    assert ticks == list(range(len(ticks)))
    recover(path)
    recovered = read_recording(path)
    assert recovered.is_finished
    assert [type(entry) for entry in recovered.entries] == [type(entry) for entry in recording.entries]
    seen = [entry for entry in iterate(path) if isinstance(entry, Seen)]
    assert all(bool(entry.observation.images) == (entry.observation.tick % 3 == 0) for entry in seen)


def test_a_damaged_byte_is_noticed_or_does_no_harm(whole: bytes, tmp_path: Path) -> None:
    """Either the reader names the file, or every command is as it was (the byte belonged to an index)."""
    path = tmp_path / "damaged.mcap"
    for position in range(0, len(whole), 10):
        for flip in (1, 66, 128):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            recording = read_or_refuse(path)
            if recording is None:
                continue
            ticks = [record.tick for record in recording.ticks]
            assert ticks == list(range(12)) or not recording.is_finished, (position, flip)
            assert all(record.values.tobytes() == bytes(16) for record in recording.ticks), (position, flip)
