"""What was true while a demonstration ran, as data: what the cameras saw at some moments, and what each arm held when.

`moments.MomentRecorder` writes it down, `questions` asks about it. It travels as JSON, and needs no simulator.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cerebella.arms import Side

SIDES: tuple[Side, ...] = ("left", "right")


@dataclass(frozen=True)
class Sighting:
    """One object in one picture.

    Args:
        name, kind, colour: of the object.
        position_m: of its middle in the world.
        box_px: left, top, right, bottom of the box around it, inside the picture; None if no part of it is.
        seen: share of the object that lies in the picture with nothing before it, 0..1.
    """

    name: str
    kind: str
    colour: str
    position_m: tuple[float, float, float]
    box_px: tuple[float, float, float, float] | None
    seen: float


@dataclass(frozen=True)
class Moment:
    """One picture of an episode.

    Args:
        frame: row of the episode. view: whose picture. size_px: its (height, width).
        sightings: of every object, in the order of the task's `truth`.
        tool_m: where each arm's tool is in the world.
    """

    frame: int
    view: str
    size_px: tuple[int, int]
    sightings: tuple[Sighting, ...]
    tool_m: Mapping[Side, tuple[float, float, float]]


@dataclass(frozen=True)
class Hold:
    """An arm held the object `name` in the frames [start, stop)."""

    side: Side
    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class EpisodeTruth:
    """What is known about one episode of `num_frames` frames.

    Args:
        prompt: its instruction. holds: of the left arm, then of the right one, in order of time. moments: likewise.
    """

    prompt: str
    num_frames: int
    holds: tuple[Hold, ...]
    moments: tuple[Moment, ...]

    def to_json(self) -> dict[str, Any]:
        """For `json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EpisodeTruth":
        """What `to_json` made."""
        return cls(
            prompt=content["prompt"],
            num_frames=content["num_frames"],
            holds=tuple(Hold(**hold) for hold in content["holds"]),
            moments=tuple(_moment(entry) for entry in content["moments"]),
        )


def _moment(entry: Mapping[str, Any]) -> Moment:
    height, width = entry["size_px"]
    tools: dict[Side, tuple[float, float, float]] = {side: _triple(entry["tool_m"][side]) for side in SIDES}
    return Moment(entry["frame"], entry["view"], (height, width), tuple(map(_sighting, entry["sightings"])), tools)


def _sighting(entry: Mapping[str, Any]) -> Sighting:
    box = entry["box_px"]
    left_top_right_bottom = None if box is None else (box[0], box[1], box[2], box[3])
    return Sighting(
        name=entry["name"],
        kind=entry["kind"],
        colour=entry["colour"],
        position_m=_triple(entry["position_m"]),
        box_px=left_top_right_bottom,
        seen=entry["seen"],
    )


def _triple(values: Any) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z
