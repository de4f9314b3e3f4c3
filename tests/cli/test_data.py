"""`cerebella data` as a person types it."""

import json
from pathlib import Path

import numpy as np
import pytest

from cerebella import cli
from tests.cli.person import error_of
from tests.data import lerobot_sets as sets
from tests.data.test_lerobot_faults import write_nan


@pytest.fixture(scope="module")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets.write_v3(tmp_path_factory.mktemp("sets") / "toy", (7, 5))


def test_inspect_writes_a_page(v3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert cli.main(["data", "inspect", str(v3), "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert "2 episodes, 12 frames" in said
    assert said.endswith(f"wrote {page}\n")
    assert page.stat().st_size > 10_000


def test_stats_prints_and_writes(v3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "stats.json"
    assert cli.main(["data", "stats", str(v3), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "action[gripper]" in said
    assert said.endswith(f"wrote {out}\n")
    frames = np.array([sets.action(0, i) for i in range(7)] + [sets.action(1, i) for i in range(5)], dtype=np.float64)
    np.testing.assert_allclose(json.loads(out.read_text())["action"]["q99"], np.quantile(frames, 0.99, axis=0))


def test_validate_says_fine_or_names_the_fault(v3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "validate", str(v3), "--decode", "all"]) == 0
    assert capsys.readouterr().out == "no fault found\n"
    broken, out = sets.write_v2(tmp_path / "old", (4, 5)), tmp_path / "faults.json"
    write_nan(broken)
    assert cli.main(["data", "validate", str(broken), "--json", str(out)]) == cli.EXIT_FAILED_CHECK
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(
        "episode_000001.parquet, episode 1: not finite: 'action' is nan at [3, 1] (frame first); 1 in all"
    )
    assert said[1] == "1 faults in 1 episodes"
    (fault,) = json.loads(out.read_text())["faults"]
    assert (fault["kind"], fault["episode"]) == ("not finite", 1)


def test_convert_makes_a_v3_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = sets.write_v2(tmp_path / "old", (4, 5)), tmp_path / "new"
    assert cli.main(["data", "convert", str(old), str(new)]) == 0
    assert capsys.readouterr().out == f"2 episodes, 9 frames, 0 left out\nwrote {new}\n"
    assert cli.main(["data", "validate", str(new)]) == 0


def test_recover_of_a_whole_set_changes_nothing(v3: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "recover", str(v3)]) == 0
    assert capsys.readouterr().out.startswith("added 0 finished episodes; 0 unfinished ones are lost\n")
    assert cli.main(["data", "validate", str(v3)]) == 0


def test_mistakes_are_one_line(v3: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no data command 'inspekt'. Did you mean 'inspect'?" in error_of(capsys, "data", "inspekt", str(v3))
    assert "what to do with the data? Known: inspect, stats" in error_of(capsys, "data")
    assert "is no data set: it has neither meta/info.json" in error_of(capsys, "data", "stats", str(tmp_path))
    assert "is not empty" in error_of(capsys, "data", "convert", str(sets.write_v2(tmp_path / "a", (3,))), str(v3))


def test_generate_says_what_is_wrong_before_it_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, "data", "generate", "workcell/nothing", "--episodes", "2", "--out", str(tmp_path / "set"))
    assert "there is no task of the workcell 'workcell/nothing'" in said
    assert not (tmp_path / "set").exists()


def test_generate_hands_its_settings_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    words = ("data", "generate", "workcell/lego_2", "--episodes", "1", "--out", str(tmp_path / "set"))
    assert "disturb_m must be in 0..0.05 m; got 5.0" in error_of(capsys, *words, "--disturb-m", "5")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(
        name in said for name in ("inspect DIR", "stats DIR", "validate DIR", "convert SOURCE TARGET", "recover DIR")
    )
    assert "generate TASK" in said
