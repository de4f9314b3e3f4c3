"""Shards of robot windows as a data set of a run; the last shards are held out."""

import math
from dataclasses import dataclass

import numpy as np

from cerebella.data.shards import ShardSource
from cerebella.data.sources import RobotGroup
from cerebella.data.windows import Run, WindowIndex
from cerebella.embodiment import Embodiment
from cerebella.recipes.fine_tune.data_set import DataSet
from cerebella.types import BoolArray, FloatArray, Sample

_NUM_PROMPTS = 256


@dataclass(frozen=True, eq=False)
class ShardMotion:
    """The numbers of shards of robot windows; a `MotionSource`. Pictures are stored beside them, so they are read as well."""

    shards: ShardSource
    embodiment: Embodiment
    horizon: int

    @property
    def group(self) -> RobotGroup:
        """Robot type and control mode."""
        return RobotGroup(self.embodiment.name, self.embodiment.control_mode)

    @property
    def windows(self) -> WindowIndex:
        """As the shards'."""
        return self.shards.windows

    def motion(self, run: Run) -> tuple[FloatArray, FloatArray, BoolArray]:
        """See `MotionSource`."""
        samples = [record for record in self.shards.read(run) if isinstance(record, Sample)]
        states, actions, is_valid = ([getattr(s, name) for s in samples] for name in ("state", "actions", "is_valid"))
        return np.stack(states), np.stack(actions), np.stack(is_valid)


def open_shards(url: str, name: str, robot: Embodiment, horizon: int, num_lanes: int, held_out: float) -> DataSet:
    """Check shards and share them out.

    Args:
        num_lanes: see `MixtureSpec`; each needs a shard for training. held_out: share of the shards, rounded up.

    Raises:
        FileNotFoundError: no finished shards. ValueError: of another kind, robot or horizon.
    """
    shards = ShardSource(url, name=name)
    group = RobotGroup(robot.name, robot.control_mode)
    if shards.group is None:
        raise ValueError(f"{url} holds conversations; name it in --conversations")
    if shards.group != group:
        raise ValueError(f"{url} holds windows of {'/'.join(shards.group)}; the robot of this set is {'/'.join(group)}")
    (first,) = shards.read(Run(0, 0, 1, 0))
    assert isinstance(first, Sample)
    robot.check_state(first.state)
    robot.check_actions(first.actions)
    if len(first.actions) != horizon:
        raise ValueError(f"{url} holds windows of {len(first.actions)} rows; this run has horizon {horizon}")
    numbers = shards.shards
    num_held_out = max(0, min(len(numbers) - num_lanes, math.ceil(held_out * len(numbers))))
    training = ShardSource(url, name=name, shards=numbers[: len(numbers) - num_held_out])
    count = min(_NUM_PROMPTS, int(np.diff(training.windows.offsets)[0]))
    seen = [record for record in training.read(Run(0, 0, count, 0)) if isinstance(record, Sample)]
    return DataSet(
        source=training,
        held_out=ShardSource(url, name=name, shards=numbers[-num_held_out:]) if num_held_out else None,
        motion=ShardMotion(training, robot, horizon),
        num_episodes=len(training.shards),
        num_held_out=num_held_out,
        missing_views=tuple(view for view in robot.views if not any(view in record.images for record in seen)),
        prompts=tuple(dict.fromkeys(record.prompt for record in seen)),
    )
