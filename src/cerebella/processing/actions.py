"""Absolute targets to what the model predicts, and back: the relative transform and the padded slots.

Every row of a chunk is expressed relative to the same measured pose, that of the observation (not to the row before),
so an error in one row does not add up over the others. A prefix is re-expressed in the frame of the *new* observation.
"""

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.types import FloatArray


def to_relative(embodiment: Embodiment, actions: FloatArray, states: FloatArray) -> FloatArray:
    """Subtract the measured reference from the relative dimensions.

    Args:
        actions: float32[n, p, action_dim] absolute, raw units. states: float32[n, state_dim] at the observation.

    Raises:
        ValueError: wrong widths, or a relative rotation (these do not subtract).
    """
    embodiment.check_actions(actions)
    return actions - _references(embodiment, actions, states)


def to_absolute(embodiment: Embodiment, relative: FloatArray, states: FloatArray) -> FloatArray:
    """The inverse of `to_relative`."""
    embodiment.check_actions(relative)
    return relative + _references(embodiment, relative, states)


def to_slots(embodiment: Embodiment, actions: FloatArray, model_action_dim: int) -> FloatArray:
    """float32[..., action_dim] -> float32[..., model_action_dim], zeros in unused slots."""
    slots = action_slots(embodiment, model_action_dim)
    padded = np.zeros((*actions.shape[:-1], model_action_dim), dtype=np.float32)
    padded[..., slots] = actions
    return padded


def action_slots(embodiment: Embodiment, model_action_dim: int) -> list[int]:
    """Slot of every action dimension, checked against the model's width."""
    return _check_slots("action", [d.slot for d in embodiment.actions], model_action_dim, embodiment.name)


def state_slots(embodiment: Embodiment, model_state_dim: int) -> list[int]:
    """Slot of every state dimension, checked against the model's width."""
    return _check_slots("state", [d.slot for d in embodiment.states], model_state_dim, embodiment.name)


def _check_slots(what: str, slots: list[int], width: int, name: str) -> list[int]:
    if max(slots) >= width:
        raise ValueError(
            f"embodiment {name!r} uses the {what} slot {max(slots)}; the model has {width} (0..{width - 1})"
        )
    return slots


def _references(embodiment: Embodiment, actions: FloatArray, states: FloatArray) -> FloatArray:
    """float32[n, 1, action_dim]: the measured pose where a dimension is relative, 0 elsewhere."""
    wanted = (len(actions), embodiment.state_dim)
    if states.shape != wanted:
        raise ValueError(f"states must be float32{list(wanted)}, one for each chunk; got {list(states.shape)}")
    references = np.zeros((len(states), 1, embodiment.action_dim), dtype=np.float32)
    for j, dimension in enumerate(embodiment.actions):
        if not dimension.relative:
            continue
        if dimension.kind == "rotation":
            raise ValueError(
                f"embodiment {embodiment.name!r}: {dimension.name!r} is a relative rotation; rotations compose, they "
                "do not subtract. Declare it absolute"
            )
        assert dimension.reference is not None
        references[:, 0, j] = states[:, embodiment.state_index(dimension.reference)]
    return references
