"""A robot of LeRobot's own base class, made by LeRobot's own factory, behind our adapter.

Needs an interpreter with `lerobot` 0.4.4 in the environment variable CEREBELLA_LEROBOT_PYTHON. Our package is not installed
there: `robots` must load with NumPy and the standard library alone.
"""

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.robots import arm, test_registry

PEER = os.environ.get("CEREBELLA_LEROBOT_PYTHON", "")
SOURCES = Path(__file__).parents[2] / "src"
COUNT_RAD = 2 * math.pi / 4095
"""One count of an STS3215's encoder; goals are whole counts."""

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not PEER, reason="CEREBELLA_LEROBOT_PYTHON names no interpreter with lerobot"),
]


def peer(home: Path, *words: str) -> dict[str, Any]:
    script = Path(__file__).with_name("lerobot_robot_peer.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SOURCES), "HF_LEROBOT_HOME": str(home)}
    run = subprocess.run([PEER, str(script), *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def robot_file(folder: Path, **robot: Any) -> str:
    mapping = arm.MAPPING | {"cameras": {"front": {"view": "base"}}}
    derive = test_registry.DERIVE | {"views": ["base"], "policy_hz": 50.0}
    path = test_registry.write(folder / "robot.json", mapping=mapping, derive=derive, robot=robot)
    return str(path)


def test_an_arm_of_lerobots_base_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = robot_file(
        tmp_path, type="counting_arm", id="a", port="none", disable_torque_on_disconnect=False, max_relative_target=4.0
    )
    found = peer(tmp_path, path)
    assert found["device"] == "lerobot.robots.robot"
    np.testing.assert_allclose(found["first"], [0.0, 0.1, -0.2, 0.5], atol=1e-6)  # the middle of every motor
    assert found["views"] == {"base": [4, 6, 3]}
    # pan turns with its count, lift and elbow against it; 4 degrees at most from where each was
    wanted = {"shoulder_pan": 0.05, "shoulder_lift": 0.0, "elbow_flex": -math.radians(4.0)}
    for name, angle_rad in wanted.items():
        assert found["counts"][name] == pytest.approx(2000 + angle_rad / COUNT_RAD, abs=1.0)
    assert found["counts"]["gripper"] == pytest.approx(3000 - 0.52 * 2000, abs=1.0)  # its drive mode turns it around
    np.testing.assert_allclose(found["second"][:2], [0.05, 0.1], atol=2 * COUNT_RAD)
    assert found["clipped"][0] == pytest.approx(found["second"][0] + math.radians(4.0), abs=1e-6)
    assert found["num_altered"] == 2
    assert found["is_done"]
    assert "DeviceNotConnectedError" in found["reason"]
    with capsys.disabled():
        print(f"\nread of the stand-in arm, adapter included: {found['max_read_ms']:.3f} ms at worst")


def test_lerobots_own_so101_from_a_robot_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration is LeRobot's, cameras included. Without the motors' SDK the robot says that it is missing."""
    camera = {"type": "opencv", "index_or_path": 0, "width": 640, "height": 480, "fps": 30}
    path = robot_file(
        tmp_path,
        type="so101_follower",
        id="a",
        port="/dev/ttyACM0",
        disable_torque_on_disconnect=False,
        cameras={"front": camera},
    )
    found = peer(tmp_path, "so101", path)
    with capsys.disabled():
        print(f"\nSO-101: {found}")
    if "features" in found:
        assert found["features"]["shoulder_pan.pos"] == "<class 'float'>"
        assert found["features"]["front"] == "(480, 640, 3)"
    else:
        assert "needs the package 'scservo_sdk'" in found["error"]


def test_what_lerobot_does_not_know_is_refused(tmp_path: Path) -> None:
    def error_of(**robot: Any) -> str:
        return peer(tmp_path, "so101", robot_file(tmp_path, **robot))["error"]

    assert "LeRobot knows no robot 'so99'; it knows: bi_openarm_follower" in error_of(type="so99")
    assert "robot needs 'disable_torque_on_disconnect'" in error_of(type="so101_follower", port="x")
    assert "robot: " in error_of(type="so101_follower", port="x", disable_torque_on_disconnect=False, speed=3)
