"""`cerebella info`."""

import json
from pathlib import Path

import pytest

from cerebella import cli

from ..policies.released_directory import write_released_directory
from .person import error_of


def test_info_of_a_folder_that_is_no_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "config.json is missing" in error_of(capsys, "info", str(tmp_path))


def test_a_file_where_a_folder_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the operating system becomes a sentence that names the file."""
    (tmp_path / "taken").write_text("")
    said = error_of(capsys, "info", "micro", "--json", str(tmp_path / "taken" / "x.json"))
    assert str(tmp_path / "taken") in said
    assert "Errno" not in said


def test_info_prints_the_released_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "xr0.json"
    assert cli.main(["info", "xr0", "--json", str(target)]) == 0
    said = capsys.readouterr().out
    assert all(number in said for number in ("4 437 815 808", "278 458 368", "4 716 274 176", " 219"))
    assert said.splitlines()[-1] == f"wrote {target}"
    assert json.loads(target.read_text())["parameters"]["total"] == 4_716_274_176


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return write_released_directory(tmp_path / "toy", {"libero_all": 10, "my_arm": 30})


def test_info_of_a_released_checkpoint(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Robot types with horizon and views; the attention rule of released files is causal without offset.

    The weights are not read: this works without them.
    """
    for shard in released.glob("*.safetensors"):
        shard.unlink()
    target = tmp_path / "facts.json"
    assert cli.main(["info", str(released), "--json", str(target)]) == 0
    facts = json.loads(target.read_text())
    assert facts["robot types"] == {
        "libero_all": "10 rows; base, left_wrist",
        "my_arm": "30 rows; views: give an embodiment",
    }
    assert (facts["attention rule"], facts["position offset of noisy rows"]) == ("causal", 0)
    assert "libero_all" in capsys.readouterr().out


def test_info_of_a_released_checkpoint_without_statistics(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = released / "preprocessor_config.json"
    path.write_text(json.dumps({"action_config": {"libero_all": {}}}))
    assert "action_config['libero_all'] has no mean" in error_of(capsys, "info", str(released))
    path.write_text("{}")
    assert "action_config is missing" in error_of(capsys, "info", str(released))
