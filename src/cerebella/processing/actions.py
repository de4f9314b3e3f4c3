"""Absolute targets to what the model predicts, and back: the relative transform and the padded slots.

Every row of a chunk is expressed relative to the same measured pose, that of the observation (not to the row before),
so an error in one row does not add up over the others. A prefix is re-expressed in the frame of the *new* observation.
"""

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.geometry import nearest_axis_angle, so3_exp, so3_log
from cerebella.types import FloatArray


def to_relative(embodiment: Embodiment, actions: FloatArray, states: FloatArray) -> FloatArray:
    """Express the relative dimensions relative to what was measured; the others stay as they are.

    Single numbers subtract. A relative pose becomes [R0^T (p - p0), Log(R0^T R)] of the measured pose (p0, R0), as in
    the released post-training code (`geometry.relative_pose`, without the matrices).

    Args:
        actions: float32[n, p, action_dim] absolute, raw units. states: float32[n, state_dim] at the observation.

    Raises:
        ValueError: wrong widths, or not one state for each chunk.
    """
    references = _references(embodiment, actions, states)
    relative = actions - np.where(_is_relative(embodiment), references, 0)
    if poses := _relative_poses(embodiment):
        measured, target = references[..., poses], actions[..., poses]
        to_gripper = np.swapaxes(so3_exp(measured[..., 3:]), -1, -2)
        relative[..., poses] = np.concatenate(
            [
                (to_gripper @ (target - measured)[..., :3, None])[..., 0],
                so3_log(to_gripper @ so3_exp(target[..., 3:])),
            ],
            axis=-1,
        )
    return relative


def to_absolute(embodiment: Embodiment, relative: FloatArray, states: FloatArray) -> FloatArray:
    """The inverse of `to_relative`: `p = p0 + R0 delta`, `R = R0 Exp(delta)`.

    Of the vectors that mean one rotation, the nearest to the measured one comes back, so that the numbers of a chunk do
    not jump where an arm works near half a turn.
    """
    references = _references(embodiment, relative, states)
    actions = relative + np.where(_is_relative(embodiment), references, 0)
    if poses := _relative_poses(embodiment):
        measured, delta = references[..., poses], relative[..., poses]
        to_base = so3_exp(measured[..., 3:])
        axis_angle = so3_log(to_base @ so3_exp(delta[..., 3:]))
        actions[..., poses] = np.concatenate(
            [
                measured[..., :3] + (to_base @ delta[..., :3, None])[..., 0],
                nearest_axis_angle(axis_angle, measured[..., 3:]),
            ],
            axis=-1,
        )
    return actions


def rolled_forward(embodiment: Embodiment, states: FloatArray, rows: FloatArray) -> FloatArray:
    """The states in which a robot that follows its targets will be: what its actions refer to has arrived there.

    Every state dimension that is the `reference` of an action takes the action's value, a gripper through its opening; the
    others (the scene, velocities) stay. As in VLASH (arXiv 2512.01031).

    Args:
        states: float32[n, state_dim]. rows: float32[n, action_dim], absolute targets, raw units.

    Raises:
        ValueError: wrong widths, or not one row for each state.
    """
    embodiment.check_actions(rows)
    if states.shape != (len(rows), embodiment.state_dim):
        raise ValueError(f"states must be float32[{len(rows)}, {embodiment.state_dim}]; got {list(states.shape)}")
    rolled = states.copy()
    for j, action in enumerate(embodiment.actions):
        if action.reference is None:
            continue
        index = embodiment.state_index(action.reference)
        measured = embodiment.states[index]
        is_gripper = action.kind == measured.kind == "gripper"
        rolled[:, index] = measured.from_opening(action.opening(rows[:, j])) if is_gripper else rows[:, j]
    return rolled


def to_slots(embodiment: Embodiment, actions: FloatArray, model_action_dim: int) -> FloatArray:
    """float32[..., action_dim] -> float32[..., model_action_dim], zeros in unused slots."""
    slots = action_slots(embodiment, model_action_dim)
    padded = np.zeros((*actions.shape[:-1], model_action_dim), dtype=np.float32)
    padded[..., slots] = actions
    return padded


def action_slots(embodiment: Embodiment, model_action_dim: int) -> list[int]:
    """Slot of every action dimension, checked against the model's width."""
    slots = [d.slot for d in embodiment.actions if d.slot is not None]
    return _check_slots("action", slots, model_action_dim, embodiment.name)


def state_slots(embodiment: Embodiment, model_state_dim: int) -> list[int]:
    """Slot of every state dimension that the model is given, in vector order, checked against the model's width."""
    slots = [d.slot for d in embodiment.states if d.slot is not None]
    return _check_slots("state", slots, model_state_dim, embodiment.name)


def model_states(embodiment: Embodiment) -> list[int]:
    """Position in the state vector of every state dimension that the model is given, in the order of `state_slots`."""
    return [i for i, d in enumerate(embodiment.states) if d.slot is not None]


def _check_slots(what: str, slots: list[int], width: int, name: str) -> list[int]:
    if slots and max(slots) >= width:
        raise ValueError(
            f"embodiment {name!r} uses the {what} slot {max(slots)}; the model has {width} (0..{width - 1})"
        )
    return slots


def _references(embodiment: Embodiment, actions: FloatArray, states: FloatArray) -> FloatArray:
    """float32[n, 1, action_dim]: what was measured, in the units of the actions."""
    embodiment.check_actions(actions)
    wanted = (len(actions), embodiment.state_dim)
    if states.shape != wanted:
        raise ValueError(f"states must be float32{list(wanted)}, one for each chunk; got {list(states.shape)}")
    return embodiment.reference_of(states)[:, None]


def _is_relative(embodiment: Embodiment) -> list[bool]:
    return [dimension.relative for dimension in embodiment.actions]


def _relative_poses(embodiment: Embodiment) -> list[list[int]]:
    """Of every relative pose the six positions in the action vector: x, y, z and the three of the axis_angle."""
    poses = [[embodiment.action_index(name) for name in pose.names] for pose in embodiment.poses]
    return [indices for indices in poses if embodiment.actions[indices[0]].relative]
