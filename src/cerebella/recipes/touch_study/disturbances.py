"""The long run: one goal, and an object that somebody pushes again and again; after every push the hand refines.

A push is uniform in half of the range of every motion that can be felt of the object's class. A push after which the hand
would feel nothing is drawn again; if nothing else is found, somebody puts the object back to the goal first, which is
counted. Nothing else puts it back: what one refinement leaves is where the next push begins.
"""

import zlib
from collections.abc import Callable

import numpy as np

from cerebella.geometry import Array
from cerebella.recipes.touch_study.protocol import Protocol, Trial, draw_trial, is_felt
from cerebella.recipes.touch_study.trials import UNSTABLE, Row, measure
from cerebella.touch.grasp_data import MOST_TRIES
from cerebella.touch.objects import Kind
from cerebella.touch.refinement_steps import Predictor
from cerebella.touch.sampling import MOTIONS, pose_ranges

_PUSH = 7


def measure_disturbances(
    predictor: Predictor, protocol: Protocol, object_name: str, num: int, done: Callable[[], None] = lambda: None
) -> Row:
    """`object`, and `disturbances`: a row of `trials` for each, with `put_back`.

    Args:
        done: called after each.

    Raises:
        ValueError: see `protocol.draw_trial`.
    """
    trial = draw_trial(protocol, object_name, 0)
    rng = np.random.default_rng([protocol.seed, zlib.crc32(object_name.encode()), _PUSH])
    shift_m, turn_rad = push_of(trial.shape.kind, protocol.ranges)
    trial.hand.place_object(trial.T_wrist_object_goal)
    rows = []
    for _ in range(num):
        is_put_back = _push(trial, rng, shift_m, turn_rad)
        rows.append({**measure(predictor, protocol, trial), "put_back": is_put_back})
        if rows[-1]["outcome"] == UNSTABLE:
            trial.hand.place_object(trial.T_wrist_object_goal)
            trial.hand.close()
        done()
    return {"object": object_name, "number": 0, "disturbances": rows}


def push_of(kind: Kind, ranges: str) -> tuple[Array, Array]:
    """Largest push along and about the wrist's x, y, z: (float64[3] metres, float64[3] radians)."""
    low, high = pose_ranges(ranges).limits(kind)
    half = dict(zip(MOTIONS, (high - low) / 2, strict=True))
    return np.array([0.0, half["y_m"], half["z_m"]]), np.array([half["roll_rad"], half["pitch_rad"], 0.0])


def _push(trial: Trial, rng: np.random.Generator, shift_m: Array, turn_rad: Array) -> bool:
    """Whether the object had to be put back."""
    for before, is_put_back in ((trial.hand.T_wrist_object, False), (trial.T_wrist_object_goal, True)):
        for _ in range(MOST_TRIES):
            trial.hand.open()
            trial.hand.place_object(before)
            trial.hand.disturb(rng, shift_m, turn_rad)
            if is_felt(trial.world, trial.shape, trial.hand.T_wrist_object):
                trial.hand.close()
                return is_put_back
    raise ValueError(
        f"none of {MOST_TRIES} pushes leaves a grasp of {trial.shape.name} in the world {trial.world.name}"
    )
