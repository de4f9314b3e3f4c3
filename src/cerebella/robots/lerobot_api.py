"""What is used of LeRobot's `Robot` (`lerobot/robots/robot.py`, 0.4), and whether a mapping fits it."""

from collections.abc import Mapping
from typing import Any, Protocol

from cerebella.robots.mapping import Codec


class LeRobotApi(Protocol):
    """The part of LeRobot's `Robot` that is used."""

    @property
    def observation_features(self) -> Mapping[str, Any]:
        """Name -> `float`, or (height, width, channels)."""
        ...

    @property
    def action_features(self) -> Mapping[str, Any]:
        """Name -> `float`."""
        ...

    @property
    def is_connected(self) -> bool:
        """Motors and cameras."""
        ...

    @property
    def is_calibrated(self) -> bool:
        """Whether its numbers mean what they should."""
        ...

    def connect(self, calibrate: bool = True) -> None:
        """Open motors and cameras."""
        ...

    def get_observation(self) -> Mapping[str, Any]:
        """Name -> number, or uint8[h, w, 3]."""
        ...

    def send_action(self, action: dict[str, Any], /) -> Mapping[str, Any]:
        """Name -> number; returns what was really sent."""
        ...

    def disconnect(self) -> None:
        """Close."""
        ...


def check_features(codec: Codec, observed: Mapping[str, Any], commanded: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the robot has every name of the mapping, and the mapping every command of the robot.

    Args:
        observed, commanded: LeRobot's `observation_features` and `action_features`: names to `float` or a shape.
    """
    numbers = sorted(name for name, kind in observed.items() if not isinstance(kind, tuple))
    for key in codec.state_keys:
        if key not in numbers:
            raise ValueError(f"the robot measures no {key!r}; it measures: {', '.join(numbers) or 'nothing'}")
    for key in codec.action_keys:
        if key not in commanded:
            raise ValueError(f"the robot takes no {key!r}; it takes: {', '.join(sorted(commanded)) or 'nothing'}")
    if forgotten := sorted(set(commanded) - set(codec.action_keys)):
        raise ValueError(f"the robot also takes {forgotten[0]!r}, which no action channel of the mapping gives")
    pictures = {name: kind for name, kind in observed.items() if isinstance(kind, tuple)}
    for camera in codec.cameras:
        shape = pictures.get(camera.key)
        if shape is None:
            raise ValueError(f"the robot has no camera {camera.key!r}; its cameras: {', '.join(pictures) or 'none'}")
        if len(shape) != 3 or shape[2] != 3:
            raise ValueError(f"camera {camera.key!r} gives pictures of shape {shape}; needed: (height, width, 3), RGB")
