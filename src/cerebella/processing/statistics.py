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
from numpy.typing import ArrayLike, NDArray

from cerebella.embodiment import Embodiment, read_json_object
from cerebella.types import BoolArray, FloatArray

SMALLEST_STD = 1e-6
"""Added to every divisor, as in the released post-training code."""

ACTIVE_STD = 1e-5
"""A row and dimension that spreads less than this is not predicted: the released rule for the action mask."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Normalisation of one (robot type, control mode).

    Args:
        action_mean, action_std: float32[H, action_dim], in action units after the relative transform.
        state_mean, state_std: float32[state_dim]; 0 and 1 leave the state raw, as the released models want it.
        epsilon: added to every std that divides or multiplies; the decoder of the released simulation checkpoints adds 0.
    """

    robot_type: str
    control_mode: str
    action_mean: FloatArray
    action_std: FloatArray
    state_mean: FloatArray
    state_std: FloatArray
    epsilon: float = SMALLEST_STD

    def __post_init__(self) -> None:
        for name in ("action", "state"):
            mean, std = getattr(self, f"{name}_mean"), getattr(self, f"{name}_std")
            if mean.shape != std.shape or not np.isfinite(mean).all() or not np.isfinite(std).all() or (std < 0).any():
                raise ValueError(
                    f"statistics of {self.robot_type}/{self.control_mode}: {name} mean and std must be finite, of one "
                    f"shape, std >= 0; got shapes {list(mean.shape)} and {list(std.shape)}"
                )
        if not (np.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"epsilon must be finite and 0 or more; got {self.epsilon}")

    @property
    def is_active(self) -> BoolArray:
        """bool[H, action_dim]: what the model predicts; the rest is constant, 0 to the model and the mean when decoded."""
        return self.action_std > ACTIVE_STD

    def normalize_actions(self, relative: FloatArray) -> FloatArray:
        """float32[n, p, action_dim] -> the same, in units of each row's spread; p rows use the first p statistics."""
        rows = relative.shape[-2]
        is_active = self.is_active[:rows]
        std = np.where(is_active, self.action_std[:rows] + self.epsilon, 1)
        return np.where(is_active, (relative - self.action_mean[:rows]) / std, 0).astype(np.float32)

    def denormalize_actions(self, normalized: FloatArray) -> FloatArray:
        """The inverse of `normalize_actions`."""
        rows = normalized.shape[-2]
        active = np.where(self.is_active[:rows], normalized, 0)
        return (active * (self.action_std[:rows] + self.epsilon) + self.action_mean[:rows]).astype(np.float32)

    def normalize_states(self, states: FloatArray) -> FloatArray:
        """float32[n, state_dim] -> the same, centred and scaled."""
        if not self.state_mean.any() and (self.state_std == 1).all():
            return states
        return ((states - self.state_mean) / (self.state_std + self.epsilon)).astype(np.float32)

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
            fields = dict(entries[key])
            epsilon = float(fields.pop("epsilon", SMALLEST_STD))
            arrays = {name: np.asarray(values, dtype=np.float32) for name, values in fields.items()}
            return cls(robot_type=robot_type, control_mode=control_mode, epsilon=epsilon, **arrays)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, {key!r}: {error}") from error

    def _fields(self) -> dict[str, object]:
        names = ("action_mean", "action_std", "state_mean", "state_std")
        fields: dict[str, object] = {name: _shortest(getattr(self, name)).tolist() for name in names}
        return fields if self.epsilon == SMALLEST_STD else {**fields, "epsilon": self.epsilon}


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


def statistics_from_released(
    mean: ArrayLike, std: ArrayLike, embodiment: Embodiment, epsilon: float = 0.0
) -> Statistics:
    """Statistics of a released checkpoint (`action_config[robot_type]`), for the slots that the embodiment has.

    Args:
        mean, std: [H, A] over the model's slots, in action units after the relative transform. The state stays raw.
        epsilon: 0 for the released simulation checkpoints, `SMALLEST_STD` for the post-training code.

    Raises:
        ValueError: not numbers of one shape [H, A], a slot beyond A, or an active slot that the embodiment does not have
            (the model would then see another action mask than it was trained with), no active slot at all, or an absolute
            target in a slot that was never trained (it would be driven to 0).
    """
    slots = [d.slot for d in embodiment.actions if d.slot is not None]
    try:
        means, stds = np.asarray(mean, dtype=np.float32), np.asarray(std, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"released statistics of {embodiment.name!r} must be arrays of numbers: {error}") from error
    if means.ndim != 2 or means.shape != stds.shape or not means.size or means.shape[1] <= max(slots):
        raise ValueError(
            f"released statistics of {embodiment.name!r} must be two arrays [H, A] with A above the slot {max(slots)}; "
            f"got mean {list(means.shape)} and std {list(stds.shape)}"
        )
    unknown = sorted(set(np.flatnonzero((stds > ACTIVE_STD).any(axis=0)).tolist()) - set(slots))
    if unknown:
        raise ValueError(
            f"the released statistics are active in the slots {unknown}, which the embodiment {embodiment.name!r} does not "
            f"have; it has the slots {sorted(slots)}"
        )
    is_known = np.any((stds > ACTIVE_STD) | (means != 0), axis=0)
    if not is_known.any():
        raise ValueError(
            f"the released statistics of {embodiment.name!r} have no active slot: there is nothing to decode"
        )
    for action in embodiment.actions:
        if not is_known[action.slot] and not action.relative and action.kind != "velocity":
            raise ValueError(
                f"embodiment {embodiment.name!r}: the checkpoint never trained slot {action.slot}, and {action.name!r} is an "
                f"absolute target there: it would be driven to 0 {action.unit}. Leave it out, or declare it relative"
            )
    return Statistics(
        robot_type=embodiment.name,
        control_mode=embodiment.control_mode,
        action_mean=means[:, slots],
        action_std=stds[:, slots],
        state_mean=np.zeros(embodiment.state_dim, dtype=np.float32),
        state_std=np.ones(embodiment.state_dim, dtype=np.float32),
        epsilon=epsilon,
    )


def _shortest(values: FloatArray) -> NDArray[np.float64]:
    """Eight decimals where these give back the same float32, else the exact number."""
    exact = values.astype(np.float64)
    rounded = exact.round(8)
    return np.where(rounded.astype(np.float32) == values, rounded, exact)
