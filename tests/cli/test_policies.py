"""`cerebella push` and `cerebella convert`, and `cerebella info` of what lies on a hub."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from cerebella import cli
from cerebella.policies import hub as hub_module
from cerebella.policies import load_policy
from cerebella.released_robots import released_embodiment
from cerebella.types import FloatArray, Observation

from ..policies.local_hub import TOKEN, LocalHub
from ..policies.released_directory import write_released_directory
from .person import error_of

SHIPPED = Path(__file__).parents[2] / "policies" / "conveyor-micro"
NAME = "someone/policy"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # the client's own upload


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub in this process, which the commands take for the real one; an empty cache, and a stored login."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with LocalHub() as running:
        for name in ("fetch", "push"):
            call = partial(getattr(hub_module, name), endpoint=running.endpoint, token=TOKEN)
            monkeypatch.setattr(hub_module, name, call)
        yield running


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return write_released_directory(tmp_path / "toy")


def contents_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def actions_of(source: Path) -> FloatArray:
    views = {"base": np.full((64, 64, 3), 90, dtype=np.uint8), "left_wrist": np.zeros((64, 64, 3), dtype=np.uint8)}
    state = np.full(8, 0.02, dtype=np.float32) * np.array([1, 1, 1, 1, 1, 1, 1, -1], dtype=np.float32)
    observation = Observation(images=views, state=state, prompt="pick up the block", tick=0, timestamp_s=0.0)
    policy = load_policy(source, dtype=torch.float32)
    return policy.infer(observation, np.zeros((0, 7), dtype=np.float32)).actions


def test_push_prints_the_address_and_writes_what_went(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "push.json"
    words = ["push", str(SHIPPED), NAME, "--private", "--revision", "tuned", "--message", "better", "--json"]
    assert cli.main([*words, str(target)]) == 0
    repository = hub.repositories[NAME]
    address = f"{hub.endpoint}/{NAME}/commit/{repository.branches['tuned']}"
    assert capsys.readouterr().out.splitlines() == [f"wrote {target}", f"wrote {address}"]
    files = sorted(path.name for path in SHIPPED.iterdir())
    assert json.loads(target.read_text()) == {"commit": address, "repository": NAME, "files": files}
    assert repository.is_private
    assert repository.messages[-1] == "better"


def test_info_of_a_policy_on_a_hub(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add(NAME, contents_of(SHIPPED))
    assert cli.main(["info", NAME]) == 0
    said = capsys.readouterr()
    assert "conveyor, end_effector, 30 Hz" in said.out
    assert f"{NAME} at commit {hub.repositories[NAME].branches['main'][:12]}" in said.err


def test_info_of_a_released_checkpoint_on_a_hub_leaves_the_weights_there(
    hub: LocalHub, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(NAME, contents_of(released))
    assert cli.main(["info", NAME]) == 0
    assert "10 rows; base, left_wrist" in capsys.readouterr().out
    assert not any(request.endswith(".safetensors") for request in hub.requests)


def test_info_of_a_name_that_is_nowhere(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    said = error_of(capsys, "info", "XiaomiRobotics/Xiaomi-Robotics-0-Libero")
    assert "there is no directory 'XiaomiRobotics/Xiaomi-Robotics-0-Libero' here" in said
    assert "Did you mean 'XiaomiRobotics/Xiaomi-Robotics-0-LIBERO'?" in said


def test_push_finds_out_first_that_it_cannot_write(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "cannot write" in error_of(capsys, "push", str(SHIPPED), NAME, "--json", str(tmp_path))
    assert not hub.requests


def test_convert_there_and_back_keeps_the_actions(
    hub: LocalHub, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a hub to our layout, back to the released one, and up again: without the Python files it may be pushed."""
    branches = hub.add(NAME, contents_of(released)).branches
    branches["tuned"] = branches.pop("main")
    ours, theirs, target = tmp_path / "ours", tmp_path / "theirs", tmp_path / "convert.json"
    words = ["convert", NAME, str(ours), "--layout", "policy", "--revision", "tuned", "--json", str(target)]
    assert cli.main(words) == 0
    *_, last = capsys.readouterr().out.splitlines()
    written = sorted(str(path) for path in ours.iterdir())
    assert json.loads(target.read_text()) == {"source": NAME, "layout": "policy", "files": written}
    assert last == f"wrote {written[-1]}"
    assert cli.main(["convert", str(ours), str(theirs), "--layout", "released"]) == 0
    want = actions_of(released)
    assert np.ptp(want) > 0
    np.testing.assert_array_equal(actions_of(ours), want)
    np.testing.assert_array_equal(actions_of(theirs), want)
    assert "configuration_mibot.py" in error_of(capsys, "push", str(released), "someone/again")
    assert cli.main(["push", str(theirs), "someone/again"]) == 0


def test_convert_asks_for_the_robot_type_and_for_a_new_directory(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(write_released_directory(tmp_path / "two", {"libero_all": 10, "my_arm": 30}))
    new = tmp_path / "new"
    words = ("convert", source, str(new), "--layout", "released")
    assert "libero_all, my_arm" in error_of(capsys, *words)
    assert "Pass its Embodiment" in error_of(capsys, *words, "--robot-type", "my_arm")
    assert not new.exists()
    robot = tmp_path / "my_arm.json"
    replace(released_embodiment("libero_all"), name="my_arm").save(robot)
    assert cli.main([*words, "--robot-type", "my_arm", "--embodiment", str(robot)]) == 0
    assert "exists already; give a new or empty directory" in error_of(capsys, *words)
    assert "my_arm" in json.loads((new / "preprocessor_config.json").read_text())["action_config"]
    copy = ("convert", str(SHIPPED), str(tmp_path / "copy"), "--layout", "policy")
    assert "has that layout already" in error_of(capsys, *copy)
