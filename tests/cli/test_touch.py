"""`cerebella touch` as a person types it."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from cerebella import cli
from cerebella.touch.objects import SEEN, UNSEEN
from tests.cli.person import error_of

ROD, UNSEEN_ROD = (next(s.name for s in shapes if s.kind == "rod") for shapes in (SEEN, UNSEEN))


def data(out: Path, *words: str) -> list[str]:
    return ["touch", "data", "--out", str(out), "--shard-size", "3", *words]


def test_data_makes_grasps_goes_on_and_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    out, report = tmp_path / "set", tmp_path / "counts.json"
    assert cli.main(data(out, "--num-grasps", "6", "--objects", ROD, UNSEEN_ROD, "--json", str(report))) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[:4] == ["object", "kept", "rejected", "fingers"]
    assert {line.split()[0]: line.split()[1] for line in said[1:4]} == {ROD: "3", UNSEEN_ROD: "3", "all": "6"}
    assert said[-2:] == [f"wrote {report}", f"wrote 2 shards and {out / 'manifest.json'}"]
    rows = json.loads(report.read_text())["objects"]
    assert all(2 <= row["mean_fingers"] <= 5 for row in rows)

    assert cli.main(data(out, "--num-grasps", "9", "--objects", ROD)) == 0
    assert capsys.readouterr().out.endswith(f"wrote 4 shards and {out / 'manifest.json'}\n")
    assert "holds grasps made with other settings (seed: 0 there, 1 wanted)" in error_of(
        capsys, *data(out, "--seed", "1")
    )

    assert cli.main(data(out, "--do", "inspect")) == 0
    assert capsys.readouterr().out.endswith(f"wrote {out / 'grasps.png'}\n")
    with Image.open(out / "grasps.png") as picture:
        assert picture.width > 1000
        assert picture.convert("L").getextrema() == (0, 255)


def test_a_missing_simulator_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for name in ("skin_world", "hand_model"):
        monkeypatch.delitem(sys.modules, f"cerebella.touch.{name}", raising=False)
    said = error_of(capsys, *data(tmp_path / "set", "--objects", ROD))
    assert "the world 'skin' needs MuJoCo: pip install 'cerebella[sim]'" in said


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "which command of touch? Known: data" in error_of(capsys, "touch")
    assert "there is no touch command 'dat'. Did you mean 'data'?" in error_of(capsys, "touch", "dat")
    assert "unknown object 'rod_9'" in error_of(capsys, *data(tmp_path / "a", "--objects", "rod_9"))
    assert "num_grasps must be 1 or more; got 0" in error_of(capsys, *data(tmp_path / "a", "--num-grasps", "0"))
    assert "num_processes must be 1 or more" in error_of(capsys, *data(tmp_path / "a", "--num-processes", "0"))
    assert "holds no grasps" in error_of(capsys, *data(tmp_path / "a", "--do", "inspect"))
    assert "--out" in error_of(capsys, "touch", "data")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["touch", "--help"]) == 0
    assert "data --out DIR" in capsys.readouterr().out
