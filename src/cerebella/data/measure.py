"""Measure the statistics of a stored set: columns stream by, one episode at a time; no video is decoded."""

from dataclasses import dataclass

import numpy as np

from cerebella.data.episodes import DataFault, EpisodeStore
from cerebella.data.statistics import MAX_VALUES, RunningStatistics, Summary


@dataclass(frozen=True)
class Measured:
    """Statistics per numeric feature.

    `approximate` names the features whose quantiles come from every 2^k-th frame, because all values did not fit.
    """

    stats: dict[str, Summary]
    approximate: tuple[str, ...]
    num_episodes: int
    num_frames: int


def measure_columns(store: EpisodeStore, max_values: int = MAX_VALUES) -> Measured:
    """Statistics of all numeric columns of a store.

    Args:
        max_values: numbers that one column may keep for exact quantiles.

    Raises:
        DataFault: a broken episode, or a number that is not finite. ValueError: no episode.
    """
    if not len(store):
        raise ValueError(f"{store.name} has no episode to measure")
    running: dict[str, RunningStatistics] = {}
    num_frames = 0
    for index in range(len(store)):
        num_frames += store.episode(index).length
        for name, values in store.columns(index).items():
            if values.dtype == object:
                continue
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                where = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
                raise DataFault("not finite", store.name, index, f"{name!r} is {values[tuple(where)]} at {where}")
            running.setdefault(name, RunningStatistics(store.features[name].shape, max_values)).update(values)
    return Measured(
        stats={name: statistics.summary() for name, statistics in running.items()},
        approximate=tuple(name for name, statistics in running.items() if not statistics.is_exact),
        num_episodes=len(store),
        num_frames=num_frames,
    )
