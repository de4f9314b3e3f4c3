"""Watches a demonstration and writes down what is true: see `episode_truth`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.episode_truth import SIDES, EpisodeTruth, Hold, Moment
from cerebella.envs.workcell.robot_arm import RobotArm, pressing_force_n
from cerebella.envs.workcell.scene import CAMERAS
from cerebella.envs.workcell.sightings import pinhole_view, sightings
from cerebella.envs.workcell.task import SceneObject
from cerebella.geometry import Array

MIN_HOLD_FRAMES = 6
"""A grip that is shorter is a touch, and counts as none."""
MAX_GAP_FRAMES = 3
"""A grip that is lost for so short a time was not lost."""
_MIN_GRIP_N = 0.3
_REACH_M = 0.006
_VIEW_SHARES: Mapping[str, float] = {"base": 0.5, "left_wrist": 0.25, "right_wrist": 0.25}


class MomentRecorder:
    """Watches one episode; call `look` once per recorded frame, before its command is applied.

    Args:
        environment: at the start of an episode. spacing_frames: mean distance of two moments, 1 or more; the first comes
            within it. rng: when, and through which camera.
    """

    def __init__(self, environment: WorkcellEnvironment[Any], spacing_frames: int, rng: np.random.Generator) -> None:
        """See the class."""
        if spacing_frames < 1:
            raise ValueError(f"spacing_frames must be 1 or more; got {spacing_frames}")
        self._environment, self._rng, self._spacing = environment, rng, spacing_frames
        self._held: dict[Side, list[str]] = {side: [] for side in SIDES}
        self._moments: list[Moment] = []
        self._next = int(rng.integers(spacing_frames + 1))

    def look(self) -> None:
        """Note what is true now."""
        frame = len(self._held["left"])
        for side in SIDES:
            self._held[side].append(held_object(self._environment, side))
        if frame == self._next:
            self._moments.append(self._moment(frame))
            low, high = max(1, self._spacing // 2), max(1, self._spacing * 3 // 2)
            self._next += int(self._rng.integers(low, high + 1))

    def finish(self) -> EpisodeTruth:
        """Everything, after the last frame."""
        found = [hold for side in SIDES for hold in holds_of(side, self._held[side])]
        prompt = self._environment.episode.prompt
        return EpisodeTruth(prompt, len(self._held["left"]), tuple(found), tuple(self._moments))

    def _moment(self, frame: int) -> Moment:
        environment = self._environment
        cell, size_px = environment.cell, environment.render_size
        view = str(self._rng.choice(list(_VIEW_SHARES), p=list(_VIEW_SHARES.values())))
        seen = sightings(cell, pinhole_view(cell, CAMERAS[view], size_px), environment.truth())
        return Moment(frame, view, size_px, seen, {side: _tool_m(cell.arm(side)) for side in SIDES})


def held_object(environment: WorkcellEnvironment[Any], side: Side) -> str:
    """Name of the object between an arm's pads, empty if none.

    Both pads press, not on each other, and the tool's origin is within the object's box; of several the nearest counts.
    """
    cell = environment.cell
    arm = cell.arm(side)
    if arm.grip_force_n < _MIN_GRIP_N or pressing_force_n(cell.model, cell.data, arm.pads[0], arm.pads[1]) > 0:
        return ""
    tool: Array = arm.T_world_tool[:3, 3]

    def distance_m(seen: SceneObject) -> float:
        return float(np.linalg.norm(seen.position_m - tool))

    near = [o for o in environment.truth() if (np.abs(o.position_m - tool) <= o.size_m / 2 + _REACH_M).all()]
    return min(near, key=distance_m).name if near else ""


def holds_of(side: Side, held: Sequence[str]) -> list[Hold]:
    """What one arm held, from what was found in each frame (empty: nothing); see `MIN_HOLD_FRAMES` and `MAX_GAP_FRAMES`."""
    runs: list[Hold] = []
    for frame, name in enumerate(held):
        if not name:
            continue
        if runs and runs[-1].name == name and frame - runs[-1].stop <= MAX_GAP_FRAMES:
            runs[-1] = Hold(side, name, runs[-1].start, frame + 1)
        else:
            runs.append(Hold(side, name, frame, frame + 1))
    return [run for run in runs if run.stop - run.start >= MIN_HOLD_FRAMES]


def _tool_m(arm: RobotArm) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in arm.T_world_tool[:3, 3])
    return x, y, z
