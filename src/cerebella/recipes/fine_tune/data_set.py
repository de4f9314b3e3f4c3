"""One data set as a run uses it: a store of episodes, checked, with its last episodes held out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cerebella.data.episodes import DataFault, EpisodeStore, Fault
from cerebella.data.loader import OnFault
from cerebella.data.mapping import DatasetMap
from cerebella.data.sent_rows import SentRows
from cerebella.data.sources import RobotGroup, RobotSource, Source
from cerebella.data.validate import usable_episodes
from cerebella.embodiment import Embodiment
from cerebella.processing.measure import MotionSource

_STRANGE_SHARE, _SLACK = 0.5, 0.05


@dataclass(frozen=True, eq=False)
class DataSet:
    """One set as a run uses it.

    Args:
        source: windows to train on. held_out: windows to validate on, of other episodes. motion: the numbers of `source`.
        num_episodes, num_held_out: episodes with at least one window (of shards: shards). num_short: those without.
        num_frames: of all of them; None for shards. fps: frames per second; None for shards, which do not say.
        missing_views: cameras of the robot that the set does not have. missing_actions: dimensions that it does not record. picture_sizes: view -> (height, width), pixels; empty
            for shards. faults: of the episodes that are left out.
        prompts: its instructions. notices: what looks strange.
    """

    source: Source
    held_out: Source | None
    motion: MotionSource
    num_episodes: int
    num_held_out: int
    num_short: int = 0
    num_frames: int | None = None
    fps: float | None = None
    missing_views: tuple[str, ...] = ()
    missing_actions: tuple[str, ...] = ()
    picture_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    prompts: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def embodiment(self) -> Embodiment:
        """Whose windows these are."""
        return self.motion.embodiment

    @property
    def group(self) -> RobotGroup:
        """What shares a processor."""
        return self.motion.group

    @property
    def sizes(self) -> dict[str, int]:
        """For JSON: how many episodes there are, are held out, and how many windows to train on."""
        return {"episodes": self.num_episodes, "held_out": self.num_held_out, "windows": len(self.source.windows)}


def open_episodes(
    store: EpisodeStore,
    name: str,
    mapping: DatasetMap,
    horizon: int,
    held_out: float,
    on_fault: OnFault,
    sent_rows: SentRows | None = None,
) -> DataSet:
    """Check a store and share its episodes out.

    Args:
        name: in the mixture. held_out: share of the episodes, the last ones, rounded up; one always stays for training.
        sent_rows: of the windows to train on; those that are held out begin with no prefix.

    Raises:
        DataFault: the store does not fit its map, or (with `raise`) a broken episode. ValueError: no camera, no window.
    """
    robot = mapping.embodiment
    if robot.views and not mapping.views:
        cameras = [name for name, feature in store.features.items() if feature.is_picture]
        raise ValueError(
            f"{store.name} has no camera for any view of {robot.name!r} ({', '.join(robot.views)}); its cameras: "
            f"{', '.join(cameras) or 'none'}. Say which with --view {robot.views[0]}=CAMERA"
        )
    _check_fit(store, mapping)
    usable = usable_episodes(store, mapping, on_fault)
    long = [index for index in usable.episodes if store.episode(index).length >= horizon]
    num_held_out = max(0, min(len(long) - 1, math.ceil(held_out * len(long))))
    training, validation = long[: len(long) - num_held_out], long[len(long) - num_held_out :]
    source = RobotSource(store, mapping, horizon, name=name, episodes=training or usable.episodes, sent_rows=sent_rows)
    free = None if sent_rows is None else replace(sent_rows, max_committed=0)
    recorded = [name for entry in mapping.action for name in entry.names]
    return DataSet(
        source=source,
        held_out=(
            RobotSource(store, mapping, horizon, name=name, episodes=validation, sent_rows=free) if validation else None
        ),
        motion=source,
        num_episodes=len(training),
        num_held_out=num_held_out,
        num_short=len(usable.episodes) - len(long),
        num_frames=sum(store.episode(index).length for index in long),
        fps=store.fps,
        missing_views=tuple(view for view in robot.views if view not in mapping.views),
        missing_actions=tuple(action.name for action in robot.actions if action.name not in recorded),
        picture_sizes={view: _size(store.features[camera].shape) for view, camera in mapping.views.items()},
        faults=usable.faults,
        prompts=tuple(store.tasks.values()) if mapping.fixed_prompt is None else (mapping.fixed_prompt,),
        notices=tuple(strange_ranges(store, mapping, training[0])),
    )


def strange_ranges(store: EpisodeStore, mapping: DatasetMap, index: int) -> list[str]:
    """Dimensions of which most values of an episode lie outside the robot's range: a wrong unit, sign or order, likely."""
    arrays, robot = mapping.arrays(store, index), mapping.embodiment
    notices: list[str] = []
    for what, rows, dimensions in (("state", arrays.states, robot.states), ("action", arrays.actions, robot.actions)):
        for values, d in zip(rows.T, dimensions, strict=True):
            slack = _SLACK * (d.high - d.low)
            share = float(((values < d.low - slack) | (values > d.high + slack)).mean())
            if share > _STRANGE_SHARE:
                notices.append(
                    f"{share:.0%} of the {what} {d.name!r} in episode {index} lie outside {d.low:g}..{d.high:g} {d.unit} (from "
                    f"{values.min():g} to {values.max():g}): another unit, sign or order than the robot's?"
                )
    return notices


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], shape[1]


def _check_fit(store: EpisodeStore, mapping: DatasetMap) -> None:
    """As `DatasetMap.check`, with a way out of a wrong rate."""
    try:
        mapping.check(store)
    except DataFault as error:
        if error.fault.kind != "wrong fps":
            raise
        detail = (
            f"{error.fault.detail}. Nothing is resampled: record at that rate, or give an --embodiment with policy_hz "
            f"{store.fps:g}, which is then the rate of the policy's chunks"
        )
        raise DataFault("wrong fps", store.name, None, detail) from error
