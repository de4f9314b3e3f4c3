"""Recordings become episodes that every reader of LeRobotDataset can open, with who decided beside each action."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.validate import validate
from cerebella.data.video import VideoEncoding
from cerebella.runtime.instruments.tagged import make_observation
from cerebella.runtime.recording.export import RECORDINGS, SOURCES, export
from cerebella.runtime.recording.reader import read_recording
from cerebella.runtime.recording.recorder import Recorder
from cerebella.runtime.trace import RequestRecord
from cerebella.types import ImageArray
from tests.runtime.recording.made import ZEROS, make_header, make_tick
from tests.runtime.recording.runs import record_conveyor, record_tagged

ENCODING = VideoEncoding("libx264", keyframe_every=4, crf=12, preset="veryfast")


def test_episodes_of_the_conveyor_with_pictures(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.mcap" for seed in (1, 2)]
    for seed, path in enumerate(files, start=1):
        record_conveyor(path, "prefix", seed=seed)
    made = export(files, tmp_path / "set", encoding=ENCODING)
    assert validate(tmp_path / "set", "all") == []
    recordings = [read_recording(path) for path in files]
    assert (made.num_episodes, made.num_frames) == (2, sum(len(r.ticks) for r in recordings))
    assert (made.num_left_out, made.num_repeated_pictures) == (0, 0)
    store = LeRobotStore(tmp_path / "set")
    for index, recording in enumerate(recordings):
        columns, ticks = store.columns(index), recording.ticks
        assert columns["action"].tobytes() == np.stack([record.values for record in ticks]).tobytes()
        states = np.stack([seen.observation.state for seen in recording.seen])
        assert columns["observation.state"].tobytes() == states.tobytes()
        waited = {record.id: record.num_ticks_waited for record in recording.requests}
        expected = [waited[r.chunk_id] if r.chunk_id >= 0 else -1 for r in ticks]
        assert columns["inference_delay"].ravel().tolist() == expected
        ages = [r.tick - r.observation_tick if r.chunk_id >= 0 else -1 for r in ticks]
        assert columns["observation_age"].ravel().tolist() == ages
        assert max(ages) > 0
        assert [SOURCES[code] for code in columns["source"].ravel()] == [record.state for record in ticks]
        assert not columns["intervention"].any()
        assert set(columns["policy_id"].ravel()) == {"expert"}
        assert store.episode(index).tasks == (ticks[0].prompt,)
    frames = store.frames(0, "observation.images.base", 0, 3)
    assert frames.shape == (3, 64, 96, 3)
    assert frames.std() > 10
    described = json.loads((tmp_path / "set" / RECORDINGS).read_text())
    assert described["sources"] == list(SOURCES)
    assert [episode["file"] for episode in described["episodes"]] == ["1.mcap", "2.mcap"]


def test_interventions_are_labelled_and_gaps_begin_an_episode(tmp_path: Path) -> None:
    """Several commands per tick, a human, missing ticks."""
    path = tmp_path / "run.mcap"
    record_tagged(path, "prefix", 7)
    ticks = read_recording(path).ticks
    first_of_tick = {record.tick: record for record in reversed(ticks)}
    kept = [first_of_tick[tick] for tick in sorted(first_of_tick)]
    num_gaps = int((np.diff([record.tick for record in kept]) > 1).sum())
    made = export([path], tmp_path / "set")
    assert (made.num_frames, made.num_episodes) == (len(kept), num_gaps + 1)
    assert num_gaps > 0
    assert validate(tmp_path / "set", "all") == []
    store = LeRobotStore(tmp_path / "set")
    every = [store.columns(index) for index in range(made.num_episodes)]
    labels = np.concatenate([columns["intervention"].ravel() for columns in every])
    assert labels.tolist() == [record.state == "human" for record in kept]
    assert labels.any()
    closed = export([path], tmp_path / "closed", max_gap=1000, task="all of it")
    assert (closed.num_frames, closed.num_episodes) == (len(kept), 1)
    assert LeRobotStore(tmp_path / "closed").episode(0).tasks == ("all of it",)


def picture(level: int) -> ImageArray:
    return np.full((16, 24, 3), level, dtype=np.uint8)


def test_pictures_that_were_not_stored_are_repeated_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with Recorder(path, make_header(), pictures="png") as recorder:
        for tick in range(8):
            images = {} if tick in (0, 5) else {"base": picture(20 * tick)}
            recorder.observation(replace(make_observation(tick), images=images), tick / 30)
            recorder.tick(make_tick(tick, chunk_id=-1))
        recorder.observation(make_observation(8), 8 / 30)
    made = export([path], tmp_path / "set", encoding=ENCODING)
    assert (made.num_episodes, made.num_frames, made.num_left_out, made.num_repeated_pictures) == (1, 7, 2, 1)
    assert validate(tmp_path / "set", "all") == []
    levels = LeRobotStore(tmp_path / "set").frames(0, "observation.images.base", 0, 7).mean(axis=(1, 2, 3))
    assert np.abs(levels - [20, 40, 60, 80, 80, 120, 140]).max() < 4


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    record_conveyor(tmp_path / "a.mcap", "prefix")
    record_conveyor(tmp_path / "b.mcap", "prefix", with_images=False)
    record_tagged(tmp_path / "c.mcap", "prefix", 0)
    with pytest.raises(ValueError, match=r"b\.mcap does not fit .*a\.mcap: observation\.images\.base is None"):
        export([tmp_path / "a.mcap", tmp_path / "b.mcap"], tmp_path / "set")
    with pytest.raises(ValueError, match=r"c\.mcap does not fit .*observation\.state is"):
        export([tmp_path / "b.mcap", tmp_path / "c.mcap"], tmp_path / "set")
    with pytest.raises(ValueError, match="at least one recording"):
        export([], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_run_without_a_prompt_needs_a_task(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with Recorder(path, make_header()) as recorder:
        recorder.request(RequestRecord(0, 0, 0.0, np.zeros((0, 4), dtype=np.float32), 0, 1, 1))
        recorder.observation(make_observation(0), 0.0)
        recorder.tick(make_tick(0, prompt="", values=ZEROS))
    with pytest.raises(ValueError, match=r"run\.mcap: tick 0 has no prompt; give a task"):
        export([path], tmp_path / "set")
    assert export([path], tmp_path / "other", task="count").num_frames == 1
