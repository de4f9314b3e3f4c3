"""One refinement in full: every tactile image, where the wrist was, and the goal. What pictures and films are made from."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cerebella.geometry import Array, inverse
from cerebella.recipes.touch_study.protocol import Protocol, Trial, draw_trial
from cerebella.recipes.touch_study.trials import Row, refine_trial
from cerebella.touch.goal import Goal, read_reading
from cerebella.touch.objects import Shape, shape_of
from cerebella.touch.reading import Reading
from cerebella.touch.refinement import Refinement
from cerebella.touch.refinement_steps import Predictor

REACH_M = 0.05
"""An object that is farther from the wrist's origin is in no hand."""


@dataclass(frozen=True, eq=False)
class Example:
    """One refinement of an object that stands still in the world's origin.

    Args:
        shape: the object. world: the contact model.
        goal: what the hand felt in the goal. T_world_wrist_goal: float64[4, 4] metres, where the wrist was then.
        refinement: every step. end: what the hand feels at the end.
    """

    shape: Shape
    world: str
    goal: Reading
    T_world_wrist_goal: Array
    refinement: Refinement
    end: Reading


def refine_example(predictor: Predictor, protocol: Protocol, trial: Trial) -> Example:
    """Refine a trial and keep everything.

    Raises:
        RuntimeError: the simulation became unstable.
    """
    refinement = refine_trial(predictor, protocol, trial)
    goal = trial.goal
    return Example(trial.shape, protocol.world, goal.reading, goal.T_world_wrist, refinement, trial.hand.read())


def with_goal(trial: Trial, goal: Goal, source: str) -> Trial:
    """The same hand at the same start, with a goal that another run has shown; the world's frame is that of the object.

    Raises:
        ValueError: it is of another object, or of another world, where the object was not in the world's origin.
    """
    if goal.object_name != trial.shape.name:
        raise ValueError(f"{source} is a goal of {goal.object_name}, not of {trial.shape.name}")
    T_wrist_object_goal = inverse(goal.T_world_wrist)
    distance_m = float(np.linalg.norm(T_wrist_object_goal[:3, 3]))
    if distance_m > REACH_M:
        raise ValueError(
            f"{source} is no goal of this simulation: the wrist was {1e3 * distance_m:.0f} mm from the origin of its frame, "
            f"where the object should be (at most {1e3 * REACH_M:.0f} mm)"
        )
    return replace(trial, goal=goal, T_wrist_object_goal=T_wrist_object_goal)


def measure_example(predictor: Predictor, protocol: Protocol, object_name: str, number: int) -> Row:
    """The row of a cell."""
    return {"number": number, **to_row(refine_example(predictor, protocol, draw_trial(protocol, object_name, number)))}


def to_row(example: Example) -> Row:
    """Plain JSON types; `from_row` reads them back."""
    return {
        "object": example.shape.name,
        "world": example.world,
        "goal": _reading_fields(example.goal),
        "T_world_wrist_goal": example.T_world_wrist_goal.tolist(),
        "refinement": example.refinement.to_dict(),
        "end": _reading_fields(example.end),
    }


def from_row(row: Row) -> Example:
    """What `to_row` gave."""
    return Example(
        shape_of(row["object"]),
        row["world"],
        read_reading(**row["goal"]),
        np.array(row["T_world_wrist_goal"]),
        Refinement.from_dict(row["refinement"], f"the example of {row['object']}"),
        read_reading(**row["end"]),
    )


def _reading_fields(reading: Reading) -> dict[str, Any]:
    return {"counts": reading.counts.tolist(), "joints_rad": reading.joints.tolist()}
