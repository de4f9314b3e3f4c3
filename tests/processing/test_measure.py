"""Streaming gives the numbers that all windows at once would give."""

from dataclasses import replace

import numpy as np
import pytest

from cerebella.data.mapping import DatasetMap
from cerebella.data.slices import Slice
from cerebella.data.sources import RobotSource
from cerebella.processing.actions import to_relative
from cerebella.processing.measure import measure_sources
from cerebella.processing.statistics import measure_statistics
from cerebella.types import FloatArray
from tests.data.memory import MemoryStore, one_joint, robot_source

HORIZON = 4


def source(name: str, lengths: list[int], relative: bool, min_valid: int | None = None) -> RobotSource:
    robot = one_joint()
    robot = replace(robot, actions=(replace(robot.actions[0], relative=relative),))
    slices = {key: (Slice(key, 0, 1, ("q",)),) for key in ("state", "action")}
    mapping = DatasetMap(slices["state"], slices["action"], {"base": "cam"}, robot, fixed_prompt="move")
    return RobotSource(MemoryStore(name, lengths), mapping, HORIZON, min_valid)


def everything(sources: list[RobotSource]) -> tuple[FloatArray, FloatArray]:
    samples = [s for one in sources for run in one.windows.runs(range(len(one.windows))) for s in one.read(run)]
    states = np.stack([sample.state for sample in samples])
    return to_relative(sources[0].map.embodiment, np.stack([s.actions for s in samples]), states), states


@pytest.mark.parametrize("relative", [True, False])
def test_streaming_equals_all_at_once(relative: bool) -> None:
    sources = [source("a", [9, 5], relative), source("b", [1200, 2], relative)]
    ours = measure_sources(sources)
    assert not any(one.store.decoded for one in sources if isinstance(one.store, MemoryStore))
    wanted = measure_statistics(*everything(sources), "toy", "joint", [not relative])
    for name in ("action_mean", "action_std", "state_mean", "state_std"):
        np.testing.assert_allclose(getattr(ours, name), getattr(wanted, name), rtol=1e-6, atol=1e-7)


def test_rows_past_the_end_do_not_count() -> None:
    """Row 3 exists in the first two windows only; relative targets grow by one a row."""
    ours = measure_sources([source("a", [5], True, min_valid=1)])
    np.testing.assert_allclose(ours.action_mean[:, 0], [0.5, 1.5, 2.5, 3.5])
    assert not ours.action_std.any()


def test_different_robots_are_refused() -> None:
    with pytest.raises(ValueError, match="got other/joint with 3 rows, toy/joint with 3 rows"):
        measure_sources([robot_source("a", [9]), robot_source("b", [9], robot="other")])
    with pytest.raises(ValueError, match="got none"):
        measure_sources([])
