"""What looks wrong in a set that can be read: things to look at, not errors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cerebella.data.episodes import EpisodeStore
from cerebella.data.lerobot_info import BOOKKEEPING
from cerebella.data.statistics import MAX_VALUES, RunningStatistics, Summary

NoticeKind = Literal[
    "not finite",
    "constant dimension",
    "clipped gripper",
    "degrees",
    "duplicate frames",
    "missing frames",
    "dropped task",
    "short episode",
]
CLIPPED_SHARE = 0.2
"""A gripper with more than `MOST_GRIPPER_COMMANDS` different values is clipped if this share lies at an end of its range."""
MOST_GRIPPER_COMMANDS = 3
MOST_NAMED = 8
"""Of a feature with more constant dimensions than these, only their number is said."""
SHORT_SHARE = 0.2
"""An episode is short below this share of the median length."""
_JOINT = re.compile(r"joint|shoulder|elbow|wrist|waist|hip|knee|ankle|neck|\.pos$", re.IGNORECASE)
_GRIPPER = re.compile(r"gripper|grasp|finger|jaw", re.IGNORECASE)


@dataclass(frozen=True)
class Notice:
    """Something to look at: in which dimension (`feature[name]`) or episode, and why."""

    kind: NoticeKind
    where: str
    detail: str


@dataclass(frozen=True)
class Examined:
    """A set, read once without decoding a picture.

    Args:
        stats: per numeric feature. lengths: frames per episode. notices: in the order of the set's features.
        approximate: features whose quantiles are approximate (`RunningStatistics`).
    """

    stats: dict[str, Summary]
    lengths: NDArray[np.int64]
    notices: tuple[Notice, ...]
    approximate: tuple[str, ...]


def examine(store: EpisodeStore, max_values: int = MAX_VALUES) -> Examined:
    """Read every column of a set once.

    Raises:
        DataFault: an episode cannot be read. ValueError: no episode.
    """
    if not len(store):
        raise ValueError(f"{store.name} has no episode")
    running: dict[str, RunningStatistics] = {}
    notices: list[Notice] = []
    used: set[int] = set()
    lengths = np.array([store.episode(index).length for index in range(len(store))])
    for index in range(len(store)):
        columns = store.columns(index)
        if "timestamp" in columns:
            notices += _time_notices(columns["timestamp"], store.fps, index)
        if "task_index" in columns:
            used.update(int(task) for task in np.unique(columns["task_index"]))
        for name, values in columns.items():
            if name not in BOOKKEEPING and values.dtype != object:
                statistics = running.setdefault(name, RunningStatistics(values.shape[1:], max_values))
                is_finite = np.isfinite(values.reshape(len(values), -1).astype(np.float64)).all(axis=1)
                statistics.update(values[is_finite])
                if not is_finite.all():
                    frame = int(np.flatnonzero(~is_finite)[0])
                    detail = (
                        f"{name} has {int((~is_finite).sum())} frames that are not finite, the first is frame {frame}"
                    )
                    notices.append(Notice("not finite", f"episode {index}", detail))
    running = {name: statistics for name, statistics in running.items() if statistics.count}
    for name, statistics in running.items():
        notices += _dimension_notices(store, name, statistics)
    for task in sorted(set(store.tasks) - used):
        notices.append(Notice("dropped task", f"task {task}", f"no frame has the instruction {store.tasks[task]!r}"))
    median = float(np.median(lengths))
    for index in np.flatnonzero(lengths < SHORT_SHARE * median):
        detail = f"{lengths[index]} frames; the median is {median:g}"
        notices.append(Notice("short episode", f"episode {index}", detail))
    return Examined(
        stats={name: statistics.summary() for name, statistics in running.items()},
        lengths=lengths,
        notices=tuple(notices),
        approximate=tuple(name for name, statistics in running.items() if not statistics.is_exact),
    )


def dimension_names(store: EpisodeStore, feature: str) -> list[str]:
    """One label per entry of a feature: its name, or its number."""
    described = store.features[feature]
    width = int(np.prod(described.shape))
    return list(described.names) if len(described.names) == width else [str(i) for i in range(width)]


def _time_notices(timestamps: NDArray[np.float32], fps: float, index: int) -> Iterator[Notice]:
    steps = np.diff(timestamps.astype(np.float64)) * fps
    gaps: dict[NoticeKind, NDArray[np.bool_]] = {"duplicate frames": steps < 0.5, "missing frames": steps > 1.5}
    for kind, where in gaps.items():
        if where.any():
            frame = int(np.flatnonzero(where)[0])
            detail = f"{int(where.sum())} times; first after frame {frame}: {steps[frame] / fps:.4f} s to the next"
            yield Notice(kind, f"episode {index}", detail)


def _dimension_notices(store: EpisodeStore, feature: str, statistics: RunningStatistics) -> Iterator[Notice]:
    summary, kept = statistics.summary(), statistics.kept()
    low, high = summary["min"].reshape(-1), summary["max"].reshape(-1)
    constant = int((low == high).sum())
    if constant > MOST_NAMED:
        yield Notice("constant dimension", feature, f"{constant} of {len(low)} dimensions never change")
    for i, name in enumerate(dimension_names(store, feature)):
        where = f"{feature}[{name}]"
        if low[i] == high[i]:
            if constant <= MOST_NAMED:
                yield Notice("constant dimension", where, f"always {low[i]:g}")
            continue
        values = kept[:, i]
        if _GRIPPER.search(name):
            at_end = {end: float((values == end).mean()) for end in (low[i], high[i])}
            end, share = max(at_end.items(), key=lambda item: item[1])
            if share > CLIPPED_SHARE and len(np.unique(values)) > MOST_GRIPPER_COMMANDS:
                yield Notice(
                    "clipped gripper", where, f"{share:.0%} of the frames are exactly {end:g}, the end of its range"
                )
        elif _JOINT.search(name) and max(-low[i], high[i]) > 2 * np.pi:
            detail = f"from {low[i]:.1f} to {high[i]:.1f}: more than a full turn in rad, so probably degrees"
            yield Notice("degrees", where, detail)
