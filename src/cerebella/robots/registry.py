"""A robot from its file: `cerebella run ROBOT.json` (or `.toml`).

{"kind": "lerobot" | "ros2",
 "embodiment": "embodiment.json" | {...}     or     "derive": {...},
 "mapping": {"channels": [...], "cameras": {...}},
 "prompt": "pick up the cube",
 "robot": {...LeRobot's configuration...}    or     "ros2": {...topics...}}
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.robots.derive import derived_from_dict
from cerebella.robots.lerobot_api import LeRobotApi
from cerebella.robots.lerobot_factory import make_lerobot_robot
from cerebella.robots.lerobot_robot import LeRobotRobot
from cerebella.robots.mapping import RobotMapping
from cerebella.robots.robot import Robot
from cerebella.robots.ros2 import Ros2Robot
from cerebella.robots.ros2_config import Ros2Config

MakeDevice = Callable[[Mapping[str, Any], str], LeRobotApi]
"""The `robot` part of a robot file, and the file's name for messages, to a LeRobot robot."""

KINDS = ("lerobot", "ros2")
SUFFIXES = (".json", ".toml")
_KNOWN = ("kind", "embodiment", "derive", "mapping", "prompt", "max_failures", "robot", "ros2", "watchdog")


def read_robot_file(path: Path | str) -> dict[str, Any]:
    """The object in a robot file.

    Raises:
        FileNotFoundError: there is no such file. ValueError: another suffix, or broken.
    """
    path = Path(path)
    if path.suffix == ".json":
        return read_json_object(path)
    if path.suffix == ".toml":
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # broken TOML, or bytes that are not text
            raise ValueError(f"{path} is not valid TOML: {error}") from error
    raise ValueError(f"a robot file ends in {' or '.join(SUFFIXES)}; got {path.name}")


def make_robot(
    path: Path | str,
    prompt: str | None = None,
    make_device: MakeDevice = make_lerobot_robot,
) -> Robot:
    """The robot that a file describes; not connected yet.

    Args:
        prompt: instead of the file's.
        make_device: makes a LeRobot robot from the file's `robot` part.

    Raises:
        FileNotFoundError: no such file. ValueError: a field is missing, unknown or does not fit another.
    """
    source, content = str(path), read_robot_file(path)
    if unknown := sorted(set(content) - set(_KNOWN)):
        raise ValueError(f"{source} has the field {unknown[0]!r}; known: {', '.join(_KNOWN)}")
    kind = content.get("kind")
    if kind not in KINDS:
        raise ValueError(f"{source}: kind must be one of {', '.join(KINDS)}; got {kind!r}")
    instruction = content.get("prompt") if prompt is None else prompt
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError(f"{source}: no prompt; say what to do in the file ('prompt') or with --prompt")
    embodiment = _embodiment(content, Path(path))
    mapping = RobotMapping.from_dict(_part(content, "mapping", source), source)
    if kind == "ros2":
        if "max_failures" in content:
            raise ValueError(f"{source}: max_failures belongs to kind lerobot; ROS 2 has max_age_s in 'ros2'")
        return Ros2Robot(Ros2Config.from_dict(_part(content, "ros2", source), source), embodiment, mapping, instruction)
    device = make_device(_part(content, "robot", source), source)
    return LeRobotRobot(device, embodiment, mapping, instruction, content.get("max_failures", 3))


def _embodiment(content: Mapping[str, Any], path: Path) -> Embodiment:
    if ("embodiment" in content) == ("derive" in content):
        raise ValueError(f"{path} needs 'embodiment' (a file, or what is in one) or 'derive', and not both")
    if "derive" in content:
        return derived_from_dict(_part(content, "derive", str(path)), str(path))
    embodiment = content["embodiment"]
    if isinstance(embodiment, str):
        return Embodiment.load(path.parent / embodiment)
    return Embodiment.from_dict(_part(content, "embodiment", str(path)), f"{path}: embodiment")


def _part(content: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    if not isinstance(content.get(name), Mapping):
        raise ValueError(f"{source} needs {name!r}, an object; got {content.get(name)!r}")
    return content[name]
