"""`cerebella trace` as a person types it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.cli.trace import trace
from cerebella.data.validate import validate
from cerebella.runtime.recording.reader import Seen, iterate, read_recording
from cerebella.runtime.recording.recorder import Recorder
from cerebella.runtime.trace import TickRecord
from tests.runtime.recording.made import make_header, make_tick
from tests.runtime.recording.runs import record_conveyor


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run.mcap"
    record_conveyor(path, "prefix")
    return path


@pytest.fixture(scope="module")
def tampered(run: Path) -> Path:
    """The same run with one command changed."""
    path = run.with_name("tampered.mcap")
    recording = read_recording(run)
    with Recorder(path, recording.header) as recorder:
        for entry in iterate(run, with_pictures=False):
            if isinstance(entry, Seen):
                recorder.observation(entry.observation, entry.now_s)
            elif isinstance(entry, TickRecord):
                moved = entry.values + np.float32(0.01) if entry.tick == 20 else entry.values
                recorder.tick(replace(entry, values=moved))
    return path


def test_info_says_what_was_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "info.json"
    assert trace(["info", str(run), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    for words in ("policy: expert", "robot: conveyor", "mode: prefix", "cameras: base", "requests: used: 4", "seed 3"):
        assert words in said
    assert said.endswith(f"wrote {out}\n")
    [content] = json.loads(out.read_text())["recordings"]
    assert content["counts"]["commands"] == content["counts"]["observations"] == len(read_recording(run).ticks)


def test_replay_says_equal_or_where_not(
    run: Path, tampered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trace(["replay", str(run)]) == 0
    assert "commands equal, bit by bit" in capsys.readouterr().out
    out = tmp_path / "replay.json"
    assert trace(["replay", str(run), str(tampered), "--json", str(out)]) == 1
    rows = json.loads(out.read_text())["replays"]
    assert [row["is_equal"] for row in rows] == [True, False]
    assert f"{tampered}: 0 of" in capsys.readouterr().out


def test_diff_names_and_draws_the_difference(
    run: Path, tampered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "diff.json", tmp_path / "diff.png"
    assert trace(["diff", str(run), str(run)]) == 0
    assert trace(["diff", str(run), str(tampered), "--json", str(out), "--plot", str(picture)]) == 1
    said = capsys.readouterr().out
    assert "first: command 20 (tick 20, phase 0): values of gripper_x is" in said
    assert said.endswith(f"wrote {picture}\nwrote {out}\n")
    assert json.loads(out.read_text())["first_control_tick"] == 20
    assert picture.stat().st_size > 10_000


def test_plot_writes_a_picture_per_recording(
    run: Path, tampered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trace(["plot", str(run), str(tampered), "--out", str(tmp_path / "plots")]) == 0
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == ["run.png", "tampered.png"]
    assert capsys.readouterr().out.endswith(f"wrote {tmp_path / 'plots' / 'tampered.png'}\n")


def test_export_writes_a_set(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(["export", str(run), "--out", str(tmp_path / "set")]) == 0
    said = capsys.readouterr().out
    assert f"1 episodes, {len(read_recording(run).ticks)} frames, 0 observations left out" in said
    assert said.endswith(f"wrote {tmp_path / 'set'}\n")
    assert validate(tmp_path / "set") == []


def test_recover_finishes_a_file_that_was_cut(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.mcap"
    with Recorder(path, make_header()) as recorder:
        recorder.tick(make_tick(0))
        recorder.flush()
        path.with_name("copy.mcap").write_bytes(path.read_bytes())
    assert trace(["recover", str(path)]) == 0
    assert "is whole" in capsys.readouterr().out
    copy = path.with_name("copy.mcap")
    assert not read_recording(copy).is_finished
    assert trace(["recover", str(copy)]) == 0
    assert capsys.readouterr().out.endswith(f"wrote {copy}\n")
    assert read_recording(copy).is_finished


def test_mistakes_teach(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="Known: info, replay, diff, plot, export, recover"):
        trace([])
    with pytest.raises(ValueError, match="Did you mean 'replay'"):
        trace(["replya"])
    with pytest.raises(ValueError, match=r"which recording\? Give one file or more"):
        trace(["plot"])
    with pytest.raises(FileNotFoundError):
        trace(["info", str(tmp_path / "none.mcap")])
    assert trace(["--help"]) == 0
    assert "export FILE... --out DIR" in capsys.readouterr().out
