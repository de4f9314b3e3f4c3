"""Statistics of a robot over all its data sets, as they stream by: one episode in memory at a time, no picture decoded."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cerebella.data.sources import RobotGroup
from cerebella.data.windows import Run, WindowIndex
from cerebella.embodiment import Embodiment
from cerebella.processing.actions import to_relative
from cerebella.processing.statistics import Statistics
from cerebella.types import BoolArray, FloatArray

_WINDOWS_AT_ONCE = 1024


class MotionSource(Protocol):
    """Windows of one robot whose numbers can be read; `RobotSource` is one."""

    @property
    def group(self) -> RobotGroup:
        """Robot type and control mode."""
        ...

    @property
    def embodiment(self) -> Embodiment:
        """What the numbers mean."""
        ...

    @property
    def horizon(self) -> int:
        """Rows of a window, H."""
        ...

    @property
    def windows(self) -> WindowIndex:
        """How many, and where a run must end."""
        ...

    def motion(self, run: Run) -> tuple[FloatArray, FloatArray, BoolArray]:
        """States float32[n, state_dim], actions float32[n, H, action_dim] and their validity."""
        ...


def measure_sources(sources: Sequence[MotionSource], on_windows: Callable[[int], object] | None = None) -> Statistics:
    """Mean and spread over every window of these sources, after the relative transform; windows count alike.

    Rows of a dimension that is not relative share one mean and spread. A dimension that no source records is inactive.

    Args:
        sources: of one robot type, control mode and horizon. on_windows: gets the number of windows just read.

    Raises:
        ValueError: no source, or sources of different robots. DataFault: an episode cannot be read.
    """
    kinds = {(*source.group, source.horizon) for source in sources}
    if len(kinds) != 1:
        described = ", ".join(f"{robot}/{mode} with {horizon} rows" for robot, mode, horizon in sorted(kinds)) or "none"
        raise ValueError(f"statistics need sources of one robot type, control mode and horizon; got {described}")
    robot = sources[0].embodiment
    actions, states = _Moments((sources[0].horizon, robot.action_dim)), _Moments((robot.state_dim,))
    for source in sources:
        for episode, (first, end) in enumerate(zip(source.windows.offsets, source.windows.offsets[1:], strict=False)):
            for start in range(int(first), int(end), _WINDOWS_AT_ONCE):
                length = min(_WINDOWS_AT_ONCE, int(end) - start)
                seen, targets, is_valid = source.motion(Run(episode, start - int(first), length, start))
                actions.add(to_relative(robot, targets, seen), is_valid)
                states.add(seen, np.ones(seen.shape, dtype=np.bool_))
                if on_windows is not None:
                    on_windows(length)
    is_fixed = np.array([not action.relative for action in robot.actions])
    mean, std = actions.result()
    pooled_mean, pooled_std = actions.pooled_over_rows()
    state_mean, state_std = states.result()
    return Statistics(
        robot_type=robot.name,
        control_mode=robot.control_mode,
        action_mean=np.where(is_fixed, pooled_mean, mean).astype(np.float32).round(8),
        action_std=np.where(is_fixed, pooled_std, std).astype(np.float32).round(8),
        state_mean=state_mean.astype(np.float32).round(8),
        state_std=state_std.astype(np.float32).round(8),
    )


class _Moments:
    """Count, mean and summed squared deviations per entry, merged chunk by chunk (Chan, Golub and LeVeque, 1979)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.mean, self.squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, values: NDArray[np.float32], is_valid: NDArray[np.bool_]) -> None:
        """`values`, `is_valid`: [n, *shape]."""
        exact = values.astype(np.float64)
        count = is_valid.sum(axis=0).astype(np.float64)
        mean = np.divide(np.where(is_valid, exact, 0).sum(axis=0), count, out=np.zeros_like(count), where=count > 0)
        squares = np.where(is_valid, (exact - mean) ** 2, 0).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        shift = mean - self.mean
        self.squares += squares + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count += count

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean, std), 0 where nothing was counted."""
        return self.mean, np.sqrt(self.squares / np.maximum(self.count, 1))

    def pooled_over_rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean, std) of all rows together, per entry of the last axis."""
        count = np.maximum(self.count.sum(axis=0), 1)
        mean = (self.mean * self.count).sum(axis=0) / count
        squares = (self.squares + self.count * (self.mean - mean) ** 2).sum(axis=0)
        return mean, np.sqrt(squares / count)
