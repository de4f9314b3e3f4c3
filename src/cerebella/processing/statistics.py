"""Mean and spread of actions and states, computed after the relative transform; they travel with the policy.

Action statistics are per chunk row and per dimension, as in the released checkpoints: a relative target 16 ticks ahead
spreads far wider than the next one, and dividing each row by its own spread gives every row the same weight.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cerebella.embodiment import read_json_object
from cerebella.types import FloatArray

SMALLEST_STD = 1e-6
"""Added to every divisor, as in the released post-training code."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Normalisation of one (robot type, control mode).

    Args:
        action_mean, action_std: float32[H, action_dim], in action units after the relative transform.
        state_mean, state_std: float32[state_dim]; 0 and 1 leave the state raw, as the released models want it.
    """

    robot_type: str
    control_mode: str
    action_mean: FloatArray
    action_std: FloatArray
    state_mean: FloatArray
    state_std: FloatArray

    def __post_init__(self) -> None:
        for name in ("action", "state"):
            mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
            if mean.shape != std.shape or not np.isfinite(mean).all() or not np.isfinite(std).all() or (std < 0).any():
                raise ValueError(
                    f"statistics of {self.robot_type}/{self.control_mode}: {name} mean and std must be finite, of one "
                    f"shape, std >= 0; got shapes {list(mean.shape)} and {list(std.shape)}"
                )

    def normalize_actions(self, relative: FloatArray) -> FloatArray:
        """float32[n, p, action_dim] -> the same, in units of each row's spread; p rows use the first p statistics."""
        rows = relative.shape[-2]
        return ((relative - self.action_mean[:rows]) / (self.action_std[:rows] + SMALLEST_STD)).astype(np.float32)

    def denormalize_actions(self, normalized: FloatArray) -> FloatArray:
        """The inverse of `normalize_actions`."""
        rows = normalized.shape[-2]
        return (normalized * (self.action_std[:rows] + SMALLEST_STD) + self.action_mean[:rows]).astype(np.float32)

    def normalize_states(self, states: FloatArray) -> FloatArray:
        """float32[n, state_dim] -> the same, centred and scaled."""
        return ((states - self.state_mean) / (self.state_std + SMALLEST_STD)).astype(np.float32)

    @property
    def hash(self) -> str:
        """Twelve hex digits that identify the numbers."""
        return hashlib.sha256(json.dumps(self._fields(), sort_keys=True).encode()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write `statistics.json`, keyed by robot type and control mode."""
        path.write_text(json.dumps({f"{self.robot_type}/{self.control_mode}": self._fields()}) + "\n")

    @classmethod
    def load(cls, path: Path, robot_type: str, control_mode: str) -> "Statistics":
        """Read one entry of `statistics.json`.

        Raises:
            FileNotFoundError: no such file. ValueError: no entry for this robot type and control mode (lists them), or one
                that is incomplete.
        """
        entries = read_json_object(path)
        key = f"{robot_type}/{control_mode}"
        if key not in entries:
            raise ValueError(f"{path} has no statistics for {key!r}; it has: {', '.join(sorted(entries)) or 'none'}")
        try:
            arrays = {name: np.asarray(values, dtype=np.float32) for name, values in entries[key].items()}
            return cls(robot_type=robot_type, control_mode=control_mode, **arrays)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, {key!r}: {error}") from error

    def _fields(self) -> dict[str, object]:
        names = ("action_mean", "action_std", "state_mean", "state_std")
        return {name: getattr(self, name).astype(float).round(8).tolist() for name in names}


def measure_statistics(
    relative_actions: FloatArray,
    states: FloatArray,
    robot_type: str,
    control_mode: str,
    fixed_dimensions: Sequence[bool] | None = None,
) -> Statistics:
    """Statistics of a data set that fits in memory.

    Args:
        relative_actions: float32[n, H, action_dim] after the relative transform. states: float32[n, state_dim].
        fixed_dimensions: action dimensions whose rows share one mean and spread (absolute targets such as a gripper
            opening, where a per-row spread would say nothing).

    Raises:
        ValueError: fewer than two windows.
    """
    if len(relative_actions) < 2:
        raise ValueError(f"statistics need at least 2 windows; got {len(relative_actions)}")
    mean = relative_actions.mean(axis=0, dtype=np.float64)
    std = relative_actions.std(axis=0, dtype=np.float64)
    for j, is_fixed in enumerate(fixed_dimensions or []):
        if is_fixed:
            mean[:, j] = relative_actions[..., j].mean(dtype=np.float64)
            std[:, j] = relative_actions[..., j].std(dtype=np.float64)
    return Statistics(
        robot_type=robot_type,
        control_mode=control_mode,
        action_mean=mean.astype(np.float32).round(8),
        action_std=std.astype(np.float32).round(8),
        state_mean=states.mean(axis=0, dtype=np.float64).astype(np.float32).round(8),
        state_std=states.std(axis=0, dtype=np.float64).astype(np.float32).round(8),
    )
