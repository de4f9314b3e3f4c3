"""One refinement as a row of numbers: what the tables and figures of the study are made from.

    object, number        which trial
    start, end            error before the first move, and where the hand is closed at the end
    errors                error at every closed hand of the loop, the first one is `start`
    outcome, problem      how it ended; why it was refused: a check of `confidence`, `prediction` or `bound`
    reason                the refusal in words; empty otherwise
    moves, went_back      wrist moves; whether it returned to the best pose
    way                   farthest from the first wrist pose
    redrawn               goals, starts and hands that were no grasp

Errors and ways are [micrometres, millidegrees], whole numbers. An outcome `unstable` is a simulation that failed.
"""

import math
from typing import Any

from cerebella.geometry import compose, inverse
from cerebella.recipes.touch_study.protocol import Protocol, Trial, draw_trial
from cerebella.touch.refinement import Refinement, size_of
from cerebella.touch.refinement_steps import Predictor
from cerebella.touch.refiner import refine

Row = dict[str, Any]
UNSTABLE = "unstable"


def measure_trial(predictor: Predictor, protocol: Protocol, object_name: str, number: int) -> Row:
    """Draw a trial, refine it, and say how it went.

    Raises:
        ValueError: see `protocol.draw_trial`.
    """
    trial = draw_trial(protocol, object_name, number)
    row = measure(predictor, protocol, trial)
    return {"object": object_name, "number": number, **row, "redrawn": trial.num_redrawn}


def measure(predictor: Predictor, protocol: Protocol, trial: Trial) -> Row:
    """The row of one refinement from where the hand is closed now."""
    hand, T_goal, start = trial.hand, trial.T_wrist_object_goal, trial.hand.wrist_pose()
    before = _units(hand.error_to(T_goal))
    try:
        refinement = refine_trial(predictor, protocol, trial)
    except RuntimeError as error:  # the world's word for a simulation that became unstable
        way = _units(size_of(compose(inverse(start), hand.wrist_pose())))
        ended = {"end": _units(hand.error_to(T_goal)), "outcome": UNSTABLE, "problem": "", "reason": str(error)}
        return {"start": before, "errors": [before], **ended, "moves": 0, "went_back": False, "way": way}
    return {"start": before, **row_of(refinement)}


def refine_trial(predictor: Predictor, protocol: Protocol, trial: Trial) -> Refinement:
    """The refinement with its true errors.

    Raises:
        RuntimeError: the simulation became unstable.
    """
    return refine(
        trial.hand,
        predictor,
        trial.goal,
        protocol.refiner_config,
        lambda: trial.hand.error_to(trial.T_wrist_object_goal),
    )


def row_of(refinement: Refinement) -> Row:
    """Numbers of a refinement with true errors; see the module."""
    errors = [_units(step.true_error) for step in refinement.steps if step.true_error is not None]
    assert refinement.true_error_end is not None
    assert len(errors) == len(refinement.steps)
    start = refinement.steps[0].T_world_wrist
    poses = [*(step.T_world_wrist for step in refinement.steps), refinement.T_world_wrist_end]
    ways = [size_of(compose(inverse(start), pose)) for pose in poses]
    is_refused = refinement.outcome == "refused"
    return {
        "errors": errors,
        "end": _units(refinement.true_error_end),
        "outcome": refinement.outcome,
        "problem": _problem(refinement) if is_refused else "",
        "reason": refinement.reason if is_refused else "",
        "moves": refinement.num_moves,
        "went_back": refinement.went_back,
        "way": _units((max(way[0] for way in ways), max(way[1] for way in ways))),
    }


def _problem(refinement: Refinement) -> str:
    last = refinement.steps[-1]
    return last.confidence.problem or ("prediction" if last.increment is None else "bound")


def _units(error: tuple[float, float]) -> list[int]:
    """(metres, radians) -> [micrometres, millidegrees]."""
    return [round(1e6 * error[0]), round(1e3 * math.degrees(error[1]))]
