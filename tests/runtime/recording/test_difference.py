"""A planted difference is found, named, measured and drawn."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cerebella.runtime.recording.difference import difference
from cerebella.runtime.recording.difference_figure import plot_difference
from cerebella.runtime.recording.figure_parts import DIFFERS
from cerebella.runtime.recording.figures import STATES, plot_recording
from cerebella.runtime.recording.reader import Entry, Recording, read_recording
from cerebella.runtime.trace import RequestRecord, TickRecord
from tests.runtime.recording.made import make_tick, write_ticks
from tests.runtime.recording.runs import record_conveyor, record_tagged


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    path = tmp_path_factory.mktemp("recorded") / "run.mcap"
    record_conveyor(path, "prefix")
    return read_recording(path)


def with_values(recording: Recording, first: int, step: float) -> Recording:
    """The same run with x moved from a command on, and its other entries left alone."""
    entries: list[Entry] = []
    for entry in recording.entries:
        if isinstance(entry, TickRecord) and entry.control_tick >= first:
            entry = replace(entry, values=entry.values + np.array([step, 0, 0], dtype=np.float32))
        entries.append(entry)
    return replace(recording, entries=tuple(entries))


def test_a_run_equals_itself_whenever_it_was_run(run: Recording) -> None:
    entries = [replace(e, sent_s=e.sent_s + 5) if isinstance(e, TickRecord) else e for e in run.entries]
    found = difference(run, replace(run, entries=tuple(entries)))
    assert found.is_equal
    assert found.to_text() == f"equal: {len(run.ticks)} commands, bit by bit"
    assert json.loads(json.dumps(found.to_json()))["is_equal"]


def test_a_planted_difference_is_found(run: Recording) -> None:
    found = difference(run, with_values(run, 25, 0.25))
    assert not found.is_equal
    assert found.first_control_tick == 25
    assert found.num_different == len(run.ticks) - 25
    assert found.max_difference["gripper_x"] == pytest.approx(0.25, rel=1e-6)
    assert found.max_difference["gripper_y"] == 0
    assert found.different_fields == {"values": len(run.ticks) - 25}
    assert found.first.startswith("command 25 (tick 25, phase 0): values of gripper_x is")
    assert found.first_input == ""


def test_two_modes_differ_in_requests_and_settings(run: Recording, tmp_path: Path) -> None:
    record_conveyor(tmp_path / "naive.mcap", "naive")
    found = difference(run, read_recording(tmp_path / "naive.mcap"))
    assert "setting mode: 'prefix' against 'naive'" in found.header
    assert any("action_prefix" in line for line in found.requests)
    assert found.first_input.startswith("the reply to request 1 differs in its actions")
    assert "first input: the reply to request 1" in found.to_text()


def test_another_scene_differs_from_its_first_observation_on(run: Recording, tmp_path: Path) -> None:
    record_conveyor(tmp_path / "other.mcap", "prefix", seed=4)
    found = difference(run, read_recording(tmp_path / "other.mcap"))
    assert found.first_input.startswith("the observation of tick 0 differs in its state")
    assert found.first_control_tick == 0


def test_outcomes_and_counts_are_compared(run: Recording) -> None:
    entries = [
        replace(entry, outcome="late") if isinstance(entry, RequestRecord) and entry.outcome == "used" else entry
        for entry in run.entries
    ]
    found = difference(run, replace(run, entries=tuple(entries)))
    assert found.counters["requests: used"][1] == 0
    assert "outcome is 'used' against 'late'" in found.requests[0]


def test_a_run_that_goes_on_differs_where_the_other_ends(run: Recording) -> None:
    shorter = replace(
        run, entries=tuple(e for e in run.entries if not isinstance(e, TickRecord) or e.control_tick < 30)
    )
    found = difference(shorter, run)
    assert found.first == "command 30 is only in the second recording"
    assert found.num_commands == (30, len(run.ticks))


def test_negative_zero_is_another_number(tmp_path: Path) -> None:
    zeros = read_recording(write_ticks(tmp_path / "a.mcap", make_tick(0)))
    minus = read_recording(write_ticks(tmp_path / "b.mcap", make_tick(0, values=-np.zeros(4, dtype=np.float32))))
    assert difference(zeros, minus).num_different == 1


def test_other_robots_are_refused(run: Recording, tmp_path: Path) -> None:
    path = write_ticks(tmp_path / "tagged.mcap", make_tick(0))
    with pytest.raises(ValueError, match=r"run\.mcap and .*tagged\.mcap are of different robots"):
        difference(run, read_recording(path))
    with pytest.raises(ValueError, match="other action dimensions"):
        plot_difference(run, read_recording(path))


def has_colour(png: bytes, colour: str) -> bool:
    with Image.open(io.BytesIO(png)) as image:
        assert min(image.size) > 300
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return bool((pixels == tuple(bytes.fromhex(colour[1:]))).all(axis=1).any())


def test_the_differing_part_is_marked(run: Recording) -> None:
    assert has_colour(plot_difference(run, with_values(run, 25, 0.01)), DIFFERS)


def test_states_and_outcomes_are_drawn(tmp_path: Path) -> None:
    record_tagged(tmp_path / "run.mcap", "prefix", 7)
    recording = read_recording(tmp_path / "run.mcap")
    png = plot_recording(recording)
    states = {record.state for record in recording.ticks}
    assert has_colour(png, STATES["human"]) == ("human" in states)
    assert has_colour(png, STATES["hold"]) == ("hold" in states)
    with pytest.raises(ValueError, match=r"run\.mcap has no command between 90 and inf s"):
        plot_recording(recording, start_s=90.0)
