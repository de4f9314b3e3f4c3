"""A robot file becomes a robot, or says what is wrong with it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from cerebella.robots.lerobot_api import LeRobotApi
from cerebella.robots.lerobot_robot import LeRobotRobot
from cerebella.robots.registry import make_robot, read_robot_file
from cerebella.robots.ros2 import Ros2Robot
from cerebella.robots.ros2_config import Ros2Config
from tests.robots import arm, test_ros2

DERIVE: dict[str, Any] = {
    "name": "toy_arm",
    "views": ["base", "left_wrist"],
    "policy_hz": 25.0,
    "control_hz": 50.0,
    "hold": "last",
    "relative": True,
    "joints": [
        *(
            {
                "name": f"left_{name}",
                "unit": "rad",
                "kind": "joint",
                "frame": "base",
                "slot": 7 + i,
                "limits": dict(arm.LIMITS),
            }
            for i, name in enumerate(arm.JOINTS)
        ),
        {
            "name": "left_gripper",
            "unit": "1",
            "kind": "gripper",
            "frame": "left_gripper",
            "slot": 6,
            "limits": dict(arm.GRIPPER_LIMITS),
        },
    ],
}
FILE: dict[str, Any] = {
    "kind": "lerobot",
    "prompt": "pick up the cube",
    "derive": DERIVE,
    "mapping": arm.MAPPING,
    "robot": {"type": "toy", "port": "/dev/null", "disable_torque_on_disconnect": False},
}


def write(path: Path, **changes: Any) -> Path:
    content = {name: value for name, value in (FILE | changes).items() if value is not None}
    path.write_text(json.dumps(content))
    return path


def device(fields: Mapping[str, Any], source: str) -> arm.Arm:
    assert fields["port"] == "/dev/null"
    return arm.Arm()


def test_a_lerobot_file(tmp_path: Path) -> None:
    robot = make_robot(write(tmp_path / "robot.json"), make_device=device)
    assert isinstance(robot, LeRobotRobot)
    assert robot.embodiment == arm.embodiment(), "derived from the file as from the code"
    robot.connect()
    assert robot.observe().prompt == "pick up the cube"
    assert make_robot(write(tmp_path / "robot.json"), "another task", device).embodiment.name == "toy_arm"


def test_the_embodiment_may_be_a_file_beside_it_or_stand_in_it(tmp_path: Path) -> None:
    arm.embodiment().save(tmp_path / "embodiment.json")
    beside = make_robot(write(tmp_path / "a.json", derive=None, embodiment="embodiment.json"), make_device=device)
    inside = make_robot(write(tmp_path / "b.json", derive=None, embodiment=arm.embodiment().to_dict()), None, device)
    assert beside.embodiment == inside.embodiment == arm.embodiment()


def test_a_ros_2_file_in_toml(tmp_path: Path) -> None:
    path = tmp_path / "robot.toml"
    arm.embodiment().save(tmp_path / "embodiment.json")
    channels = "\n".join(
        "[[mapping.channels]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        for entry in test_ros2.MAPPING["channels"]
    )
    commands = "\n".join(
        "[[ros2.commands]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        for entry in test_ros2.CONFIG["commands"]
    )
    images = "\n".join(
        "[[ros2.images]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        for entry in test_ros2.CONFIG["images"]
    )
    path.write_text(
        'kind = "ros2"\nprompt = "lift"\nembodiment = "embodiment.json"\n'
        f'[mapping.cameras.front]\nview = "base"\n[mapping.cameras.wrist]\nview = "left_wrist"\n{channels}\n'
        f'[ros2]\njoint_states = "/joint_states"\n{images}\n{commands}\n'
    )
    assert isinstance(make_robot(path), Ros2Robot)


def test_limits_have_no_defaults(tmp_path: Path) -> None:
    joints = [dict(joint) for joint in DERIVE["joints"]]
    del joints[1]["limits"]
    path = write(tmp_path / "robot.json", derive=DERIVE | {"joints": joints})
    with pytest.raises(ValueError, match=r"'left_shoulder_lift' needs 'limits'.*There are no defaults"):
        make_robot(path, make_device=device)
    joints[1]["limits"] = {name: value for name, value in arm.LIMITS.items() if name != "max_jerk"}
    path = write(tmp_path / "robot.json", derive=DERIVE | {"joints": joints})
    with pytest.raises(ValueError, match=r"max_jerk.*There are no defaults"):
        make_robot(path, make_device=device)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "serial"}, "kind must be one of lerobot, ros2; got 'serial'"),
        ({"speed": 1}, "has the field 'speed'"),
        ({"prompt": " "}, "no prompt"),
        ({"embodiment": "e.json"}, "and not both"),
        ({"derive": None}, "needs 'embodiment'"),
        ({"mapping": None}, "needs 'mapping', an object; got None"),
        ({"robot": None}, "needs 'robot', an object"),
        ({"kind": "ros2"}, "needs 'ros2', an object"),
        ({"kind": "ros2", "max_failures": 2}, "max_failures belongs to kind lerobot"),
        ({"derive": {"name": "x"}}, "derive needs 'joints'"),
        ({"derive": DERIVE | {"hold": "zero"}}, "holding by 'zero'"),
        ({"derive": DERIVE | {"speed": 1.0}}, "speed"),
    ],
)
def test_a_file_says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "robot.json", **changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        make_robot(path, make_device=device)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_robot(tmp_path / "none.json")
    (tmp_path / "robot.toml").write_text("kind = ")
    with pytest.raises(ValueError, match="not valid TOML"):
        read_robot_file(tmp_path / "robot.toml")
    with pytest.raises(ValueError, match=r"ends in \.json or \.toml; got robot\.yaml"):
        read_robot_file(tmp_path / "robot.yaml")


class Named:
    """A device that has what a file's mapping names."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._keys = [channel["key"] for channel in content["mapping"]["channels"]]
        self._cameras = content["robot"]["cameras"]

    @property
    def observation_features(self) -> dict[str, Any]:
        return self.action_features | {name: (one["height"], one["width"], 3) for name, one in self._cameras.items()}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self._keys, float)


def test_the_examples_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "robots.md").read_text()
    robot, topics = (json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    path = tmp_path / "so101.json"
    path.write_text(json.dumps(robot))
    made = make_robot(path, make_device=lambda fields, source: cast(LeRobotApi, Named(robot)))
    assert [action.name for action in made.embodiment.actions] == ["left_joint_1", "left_joint_2", "left_gripper"]
    assert len(Ros2Config.from_dict(topics, "the page").commands) == 2


def test_without_lerobot_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LeRobot cannot be imported: No module named 'lerobot'.*pip install"):
        make_robot(write(tmp_path / "robot.json"))
