"""`MotionProcessor`: states, actions and committed actions to the model's numbers, and its numbers back to targets.

All of a robot that is neither picture nor word: normalised, relative, in the padded slots of the model.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.embodiment import Embodiment
from cerebella.processing.actions import (
    action_slots,
    model_states,
    state_slots,
    to_absolute,
    to_relative,
    to_slots,
)
from cerebella.processing.statistics import Statistics
from cerebella.types import BoolArray, FloatArray, Observation


class Motion(NamedTuple):
    """The part of an observation that the brain does not see: what an action on an already encoded scene still needs.

    Tensors as in `Batch`: state float32[B, 1, S], action_mask and action_prefix float32[B, H, A], prefix_length int64[B].
    """

    state: Tensor
    action_mask: Tensor
    action_prefix: Tensor
    prefix_length: Tensor


class Targets(NamedTuple):
    """What training wants to be predicted: state float32[B, 1, S], actions and action_mask float32[B, H, A]."""

    state: Tensor
    actions: Tensor
    action_mask: Tensor


class MotionProcessor:
    """See the module.

    Args:
        embodiment: what the raw numbers mean. statistics: their mean and spread.
        horizon: H. model_state_dim, model_action_dim: padded widths S and A.

    Raises:
        ValueError: statistics of another shape or robot, or slots beyond the model's width.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        statistics: Statistics,
        horizon: int,
        model_state_dim: int,
        model_action_dim: int,
    ) -> None:
        wanted = (horizon, embodiment.action_dim)
        if statistics.action_mean.shape != wanted or statistics.state_mean.shape != (embodiment.state_dim,):
            raise ValueError(
                f"statistics do not fit {embodiment.name!r} at horizon {horizon}: action statistics "
                f"{list(statistics.action_mean.shape)} (expected {list(wanted)}), state statistics "
                f"{list(statistics.state_mean.shape)} (expected [{embodiment.state_dim}])"
            )
        self.embodiment, self.statistics, self.horizon = embodiment, statistics, horizon
        self.model_state_dim, self.model_action_dim = model_state_dim, model_action_dim
        self.action_slots = action_slots(embodiment, model_action_dim)
        self.state_slots = state_slots(embodiment, model_state_dim)
        self._model_states = model_states(embodiment)

    def encode_targets(self, states: FloatArray, actions: FloatArray, is_valid: BoolArray) -> Targets:
        """Training windows as the model sees them.

        Args:
            states: float32[n, state_dim]. actions: float32[n, H, action_dim], absolute, raw units.
            is_valid: bool[n, H, action_dim], which of them are real targets.
        """
        counts = (is_valid & self.statistics.is_active).astype(np.float32)
        action_mask = to_slots(self.embodiment, counts, self.model_action_dim)
        encoded = self._encode_actions(actions, states) * action_mask
        return Targets(self._encode_states(states), torch.from_numpy(encoded), torch.from_numpy(action_mask))

    def encode_motion(self, observations: Sequence[Observation], action_prefixes: Sequence[FloatArray]) -> Motion:
        """State and committed actions of observations; looks at no image and no prompt.

        Args:
            action_prefixes: one float32[p, action_dim] per observation, absolute, raw units; p may differ, 0 <= p < H.

        Raises:
            ValueError: wrong widths, p >= H, a prefix that is not finite, or not one prefix for each.
        """
        if not observations or len(action_prefixes) != len(observations):
            raise ValueError(
                f"need one action_prefix per observation, and at least one observation; got {len(observations)} "
                f"observations and {len(action_prefixes)} prefixes"
            )
        for observation in observations:
            self.embodiment.check_state(observation.state)
        states = np.stack([observation.state for observation in observations])
        shape = (len(observations), self.horizon, self.model_action_dim)
        prefix = np.zeros(shape, dtype=np.float32)
        lengths = np.zeros(len(observations), dtype=np.int64)
        for i, rows in enumerate(action_prefixes):
            self.check_prefix(rows)
            lengths[i] = len(rows)
            if len(rows):
                prefix[i, : len(rows)] = self._encode_actions(rows[None], states[i : i + 1])[0]
        mask = np.zeros(shape, dtype=np.float32)
        mask[..., self.action_slots] = self.statistics.is_active
        return Motion(
            state=self._encode_states(states),
            action_mask=torch.from_numpy(mask),
            action_prefix=torch.from_numpy(prefix),
            prefix_length=torch.from_numpy(lengths),
        )

    def encode_plans(self, observations: Sequence[Observation], plans: Sequence[FloatArray]) -> Tensor:
        """What a running chunk has for the ticks from each observation on, as the model sees it: float32[n, H, A].

        Each plan is expressed in the frame of its observation, like a prefix; rows beyond its end are 0.

        Args:
            plans: one float32[k, action_dim] per observation, absolute, raw units; k may differ, 0 <= k <= H.

        Raises:
            ValueError: wrong widths, k > H, numbers that are not finite, or not one plan for each.
        """
        if len(plans) != len(observations):
            raise ValueError(f"need one plan per observation; got {len(observations)} observations, {len(plans)} plans")
        encoded = np.zeros((len(plans), self.horizon, self.model_action_dim), dtype=np.float32)
        for i, (observation, rows) in enumerate(zip(observations, plans, strict=True)):
            self._check_rows("plan", rows)
            if len(rows) > self.horizon:
                raise ValueError(f"plan must have at most {self.horizon} rows (the horizon); got {len(rows)}")
            if len(rows):
                encoded[i, : len(rows)] = self._encode_actions(rows[None], observation.state[None])[0]
        return torch.from_numpy(encoded)

    def decode(self, actions: Tensor, states: FloatArray) -> FloatArray:
        """Model actions float32[n, H, A] to absolute raw targets float32[n, H, action_dim].

        `states`: float32[n, state_dim], those of the observations that were encoded.

        Raises:
            ValueError: a wrong shape.
        """
        wanted = (len(states), self.horizon, self.model_action_dim)
        if actions.shape != wanted:
            raise ValueError(f"actions must be float{list(wanted)}; got {list(actions.shape)}")
        normalized = actions.detach().float().cpu().numpy()[..., self.action_slots]
        return to_absolute(self.embodiment, self.statistics.denormalize_actions(normalized), states)

    def check_prefix(self, rows: FloatArray) -> None:
        """Raise a ValueError unless `rows` is a finite float32[p, action_dim], shorter than a chunk."""
        self._check_rows("action_prefix", rows)
        if len(rows) >= self.horizon:
            raise ValueError(f"action_prefix must be shorter than the horizon {self.horizon}; got {len(rows)} rows")

    def _encode_actions(self, absolute: FloatArray, states: FloatArray) -> FloatArray:
        relative = to_relative(self.embodiment, absolute, states)
        return to_slots(self.embodiment, self.statistics.normalize_actions(relative), self.model_action_dim)

    def _encode_states(self, states: FloatArray) -> Tensor:
        padded = np.zeros((len(states), 1, self.model_state_dim), dtype=np.float32)
        padded[:, 0, self.state_slots] = self.statistics.normalize_states(states)[:, self._model_states]
        return torch.from_numpy(padded)

    def _check_rows(self, name: str, rows: FloatArray) -> None:
        """Raise a ValueError unless `rows` is a finite float32[p, action_dim]."""
        wanted = f"{name} must be float32[p, {self.embodiment.action_dim}]"
        if not isinstance(rows, np.ndarray):
            raise ValueError(f"{wanted} (p = 0 is an empty array); got {rows!r}")
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.embodiment.action_dim:
            raise ValueError(
                f"{wanted} (absolute, raw units; p = 0 is an empty array); got {rows.dtype}{list(rows.shape)}"
            )
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} must be finite; it holds NaN or infinity")


def batch_without_scene(state: Tensor, action_mask: Tensor, **tensors: Tensor) -> Batch:
    """A batch in which there is nothing to see and nothing to read (L = 0), for a model without a brain.

    Args:
        state, action_mask, tensors: fields of `Batch`.
    """
    nothing = torch.zeros(len(state), 0, dtype=torch.int64, device=state.device)
    return Batch(nothing, nothing, nothing, None, None, state=state, action_mask=action_mask, **tensors)
