"""A map in a JSON file is the map that one would write in Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping_file import read_map
from tests.data import lerobot_sets as sets
from tests.data.toy_robot import toy_embodiment, toy_map

SLICE = {"column": "observation.state", "start": 0, "stop": 3, "names": ["shoulder", "elbow", "gripper"]}
CONTENT: dict[str, Any] = {
    "state": [SLICE],
    "action": [SLICE | {"column": "action"}],
    "views": {"base": sets.TOP},
}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_it_reads_what_the_same_map_in_python_reads(tmp_path: Path) -> None:
    store = LeRobotStore(sets.write_v3(tmp_path / "set"))
    read = read_map(write(tmp_path / "map.json", CONTENT), toy_embodiment())
    assert read == toy_map()
    np.testing.assert_array_equal(read.window(store, 1, 0, 3).actions, toy_map().window(store, 1, 0, 3).actions)


def test_gripper_and_prompt(tmp_path: Path) -> None:
    gripper = {"column": "action", "start": 2, "stop": 3, "names": ["gripper"], "gripper_ends": [1, 0]}
    read = read_map(write(tmp_path / "m.json", CONTENT | {"action": [gripper], "fixed_prompt": "go"}), toy_embodiment())
    assert (read.action[0].gripper_ends, read.fixed_prompt) == ((1, 0), "go")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state": []}, "the field 'action' is missing"),
        (CONTENT | {"cameras": {}}, "unknown field 'cameras'; known fields: state, action, views"),
        (CONTENT | {"state": [SLICE | {"unit": "deg"}]}, "no map for 'toy_arm'.*holds deg"),
        (CONTENT | {"state": [{"column": "x"}]}, "the field 'names' is missing"),
        (CONTENT | {"views": {"ego": "x"}}, "it has no view 'ego'"),
    ],
)
def test_mistakes_name_the_file(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"bad\.json is.*{message}"):
        read_map(write(tmp_path / "bad.json", content), toy_embodiment())
