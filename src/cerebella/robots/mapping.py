"""Which of a robot driver's numbers is which dimension of an embodiment, and which of its cameras is which view.

A mapping is data (a part of the robot file). It is checked twice before anything moves: against the embodiment (every
dimension exactly once, units that fit, a range that the driver can express), and against what the driver says it has.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cerebella.embodiment import Dimension, Embodiment
from cerebella.robots.channels import Channel, Role
from cerebella.types import VIEWS, FloatArray

_REACH_TOLERANCE = 1e-6
"""How far an embodiment's range may exceed what a driver can express, as a share of that range: rounding only."""


@dataclass(frozen=True)
class Camera:
    """One camera of the driver.

    Args:
        key: the driver's name for it. view: one of `types.VIEWS`.
        delay_s: from the exposure to the moment at which the driver stamps (or hands over) the picture; `calibration`
            measures it.
    """

    key: str
    view: str
    delay_s: float

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"camera {self.key!r} has the view {self.view!r}; known views: {', '.join(VIEWS)}")
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise ValueError(f"camera {self.key!r}: delay_s must be 0 s or more; got {self.delay_s}")


@dataclass(frozen=True)
class RobotMapping:
    """A driver's names for an embodiment's.

    Args:
        channels: the numbers. cameras: the pictures. state_delay_s: from a measurement of the joints to its arrival.
    """

    channels: tuple[Channel, ...]
    cameras: tuple[Camera, ...] = ()
    state_delay_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.state_delay_s) and self.state_delay_s >= 0):
            raise ValueError(f"mapping: state_delay_s must be 0 s or more; got {self.state_delay_s}")
        for role in ("state", "action"):
            used = [channel for channel in self.channels if role in channel.roles]
            for what, names in (("dimension", [c.dimension for c in used]), ("key", [c.key for c in used])):
                if twice := _repeated(names):
                    raise ValueError(f"mapping: the {what} {twice!r} stands in two {role} channels")
        for what, names in (("camera", [c.key for c in self.cameras]), ("view", [c.view for c in self.cameras])):
            if twice := _repeated(names):
                raise ValueError(f"mapping: the {what} {twice!r} stands in two entries of cameras")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str) -> "RobotMapping":
        """The `mapping` of a robot file: `channels`, and where there are any `cameras` and `state_delay_s`.

        Raises:
            ValueError: a field is missing, unknown or out of range; `source` names the file.
        """
        known = {"channels", "cameras", "state_delay_s"}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"{source}: mapping has the field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if not isinstance(fields.get("channels"), list):
            raise ValueError(f"{source}: mapping needs 'channels', a list; got {fields.get('channels')!r}")
        channels = tuple(Channel.from_dict(entry, source) for entry in fields["channels"])
        cameras = tuple(_camera(key, entry, source) for key, entry in fields.get("cameras", {}).items())
        return cls(channels, cameras, fields.get("state_delay_s", 0.0))


class Codec:
    """A mapping bound to an embodiment: a driver's names to vectors and back.

    Raises:
        ValueError: a dimension without a channel, a channel or camera that the embodiment does not have, a view without
            a camera, a unit that does not fit, or a range that the driver cannot express.
    """

    def __init__(self, mapping: RobotMapping, embodiment: Embodiment) -> None:
        self.embodiment = embodiment
        self.cameras = mapping.cameras
        self.state_delay_s = mapping.state_delay_s
        known = {dimension.name for dimension in (*embodiment.states, *embodiment.actions)}
        for channel in mapping.channels:
            if channel.dimension not in known:
                raise ValueError(
                    f"mapping: {embodiment.name} has no dimension {channel.dimension!r}; known: "
                    f"{', '.join(sorted(known))}"
                )
        self._states = _in_order("state", embodiment.states, mapping.channels, embodiment.name)
        self._actions = _in_order("action", embodiment.actions, mapping.channels, embodiment.name)
        for dimension, channel in zip(embodiment.actions, self._actions, strict=True):
            _check_reach(dimension, channel)
        _check_views(mapping.cameras, embodiment)

    @property
    def state_keys(self) -> tuple[str, ...]:
        """The driver's names of the state vector, in its order."""
        return tuple(channel.key for channel in self._states)

    @property
    def action_keys(self) -> tuple[str, ...]:
        """The driver's names of the action vector, in its order."""
        return tuple(channel.key for channel in self._actions)

    def state(self, values: Mapping[str, Any]) -> FloatArray:
        """float32[state_dim] from a driver's numbers.

        Raises:
            ValueError: a number is missing, none, or not finite.
        """
        return self._vector(self._states, values, "reports")

    def command(self, values: FloatArray) -> dict[str, float]:
        """A driver's numbers from float32[action_dim]."""
        self.embodiment.check_actions(values)
        return {c.key: c.to_theirs(float(value)) for c, value in zip(self._actions, values, strict=True)}

    def sent(self, values: Mapping[str, Any]) -> FloatArray:
        """float32[action_dim] from the numbers that a driver says it sent.

        Raises:
            ValueError: a number is missing, none, or not finite.
        """
        return self._vector(self._actions, values, "sent")

    def _vector(self, channels: Sequence[Channel], values: Mapping[str, Any], verb: str) -> FloatArray:
        vector = np.empty(len(channels), dtype=np.float32)
        for i, channel in enumerate(channels):
            if channel.key not in values:
                raise ValueError(f"the robot {verb} no {channel.key!r} (for {channel.dimension!r})")
            theirs = float(values[channel.key])
            if not math.isfinite(theirs):
                raise ValueError(f"the robot {verb} {theirs} as {channel.key!r} (for {channel.dimension!r})")
            vector[i] = channel.to_ours(theirs)
        return vector


def _camera(key: str, entry: Mapping[str, Any], source: str) -> Camera:
    if not isinstance(entry, Mapping) or set(entry) - {"view", "delay_s"} or "view" not in entry:
        raise ValueError(f"{source}: camera {key!r} needs 'view', and 'delay_s' where it was measured; got {entry!r}")
    return Camera(key, entry["view"], entry.get("delay_s", 0.0))


def _in_order(role: Role, dimensions: Sequence[Dimension], channels: Iterable[Channel], robot: str) -> list[Channel]:
    """One channel per dimension, in the order of the dimensions."""
    by_name = {channel.dimension: channel for channel in channels if role in channel.roles}
    for dimension in dimensions:
        if dimension.name not in by_name:
            raise ValueError(f"mapping: the {role} {dimension.name!r} ({dimension.unit}) of {robot} has no channel")
        unit = by_name[dimension.name].unit
        if unit is not None and unit != dimension.unit:
            raise ValueError(
                f"mapping: {dimension.name!r} is in {dimension.unit!r}, but the unit of its channel gives {unit!r}"
            )
    return [by_name[dimension.name] for dimension in dimensions]


def _check_reach(dimension: Dimension, channel: Channel) -> None:
    if channel.reach is None:
        return
    low, high = channel.reach
    room = _REACH_TOLERANCE * (high - low)
    if dimension.low < low - room or dimension.high > high + room:
        raise ValueError(
            f"mapping: the action {dimension.name!r} ranges over {dimension.low:g}..{dimension.high:g} "
            f"{dimension.unit}, but its channel only reaches {low:g}..{high:g}. Narrow the embodiment's range"
        )


def _check_views(cameras: Sequence[Camera], embodiment: Embodiment) -> None:
    views = {camera.view for camera in cameras}
    if missing := [view for view in embodiment.views if view not in views]:
        raise ValueError(f"mapping: no camera shows the view {missing[0]!r} of {embodiment.name}")
    if extra := [camera for camera in cameras if camera.view not in embodiment.views]:
        raise ValueError(
            f"mapping: camera {extra[0].key!r} shows the view {extra[0].view!r}, which {embodiment.name} does not "
            f"have; its views: {', '.join(embodiment.views) or 'none'}"
        )


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for i, name in enumerate(names) if name in names[:i]), None)
