"""Windows of an expert that goes round an obstacle on its left or on its right, by a law that is known exactly.

`even` and `mostly_left` throw a coin that nothing in the scene foretells: the demonstrations have two modes. `shorter`
takes the shorter way, which the scene decides: one mode per scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.two_ways import LEFT, RIGHT, TWO_WAYS, Scenes, TwoWaysConfig, expert_chunks, way_lengths
from cerebella.types import FloatArray, Sample, SceneTruth

ModeLaw = Literal["even", "mostly_left", "shorter"]
MODE_LAWS: tuple[str, ...] = get_args(ModeLaw)
LEFT_SHARE = {"even": 0.5, "mostly_left": 0.7}
"""Chance of the left way, of the laws that throw a coin."""

PROMPT = "go to the goal past the obstacle"
_START_X_M, _GOAL_X_M, _Y_M = (0.04, 0.09), (0.39, 0.44), (0.11, 0.21)
_PLACE_SHARE, _ASIDE_M = (0.45, 0.55), 0.03


@dataclass(frozen=True, eq=False)
class TwoWaysWindows:
    """N windows in random order. Fulfils `training.WindowSource` for objectives that need no picture.

    Args:
        scenes: start, goal and obstacle. side: int8[N], which way the expert took, `LEFT` or `RIGHT`.
        actions: float32[N, H, 2], the expert's targets on that side, absolute, metres.
    """

    scenes: Scenes
    side: NDArray[np.int8]
    actions: FloatArray

    def __len__(self) -> int:
        """Number of windows, N."""
        return len(self.side)

    def samples(self, indices: NDArray[np.integer] | Sequence[int]) -> list[Sample]:
        """The windows at `indices`; every row and dimension is valid."""
        chosen = np.asarray(indices, dtype=np.int64)
        states, actions = self.scenes.take(chosen).proprioception, self.actions[chosen]
        is_valid = np.ones(self.actions.shape[1:], dtype=np.bool_)
        return [
            Sample(
                images={},
                state=states[i],
                prompt=PROMPT,
                actions=actions[i],
                is_valid=is_valid,
                robot_type=TWO_WAYS.name,
                control_mode=TWO_WAYS.control_mode,
            )
            for i in range(len(chosen))
        ]

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """There is no camera, so nothing is in any picture.

        Raises:
            ValueError: always.
        """
        raise ValueError("two_ways has no pictures: the objective 'vision' cannot learn from it")


def draw_scenes(num_scenes: int, seed: int | Sequence[int]) -> Scenes:
    """Scenes whose obstacle blocks the straight line from start to goal; the same arguments give the same scenes.

    The gripper starts at the left edge, the goal is at the right one, and the obstacle stands about half-way, at most
    3 cm beside the line.

    Raises:
        ValueError: fewer than one scene.
    """
    if num_scenes < 1:
        raise ValueError(f"num_scenes must be 1 or more; got {num_scenes}")
    draws = np.random.default_rng(seed).random((num_scenes, 6))
    start = np.stack([_between(draws[:, 0], _START_X_M), _between(draws[:, 1], _Y_M)], axis=1)
    goal = np.stack([_between(draws[:, 2], _GOAL_X_M), _between(draws[:, 3], _Y_M)], axis=1)
    line = goal - start
    aside = np.stack([-line[:, 1], line[:, 0]], axis=1) / np.linalg.norm(line, axis=1, keepdims=True)
    along, offset = _between(draws[:, 4], _PLACE_SHARE)[:, None], _between(draws[:, 5], (-_ASIDE_M, _ASIDE_M))[:, None]
    obstacle = start + along * line + offset * aside
    return Scenes(*(x.astype(np.float32) for x in (start, goal, obstacle)))


def choose_sides(
    law: ModeLaw, scenes: Scenes, generator: np.random.Generator, config: TwoWaysConfig | None = None
) -> NDArray[np.int8]:
    """Which way the expert takes, int8[N] of `LEFT` and `RIGHT`; `shorter` draws nothing from the generator.

    Raises:
        ValueError: an unknown law.
    """
    if law not in MODE_LAWS:
        raise ValueError(f"unknown law {law!r}; known laws: {', '.join(MODE_LAWS)}")
    if law == "shorter":
        clearance_m = (config or TwoWaysConfig()).clearance_m
        left, right = (
            way_lengths(scenes, np.full(len(scenes), side, dtype=np.int8), clearance_m) for side in (LEFT, RIGHT)
        )
        return np.where(left <= right, LEFT, RIGHT).astype(np.int8)
    return np.where(generator.random(len(scenes)) < LEFT_SHARE[law], LEFT, RIGHT).astype(np.int8)


def two_ways_windows(law: ModeLaw, num_windows: int, horizon: int, seed: int) -> TwoWaysWindows:
    """Windows under a law; the same arguments give the same windows, and all laws see the same scenes.

    Args:
        num_windows: how many. horizon: rows per window, H. seed: 0 or above.

    Raises:
        ValueError: an unknown law, or a count below 1.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be 1 or more rows; got {horizon}")
    scenes = draw_scenes(num_windows, [seed, 0])
    side = choose_sides(law, scenes, np.random.default_rng([seed, 1]))
    return TwoWaysWindows(scenes, side, expert_chunks(scenes, side, horizon))


def _between(draw: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    return limits[0] + draw * (limits[1] - limits[0])
