"""The loop that turns touch into wrist motion: read, predict, open, move, close, again (TacRefineNet, arXiv 2509.25746).

The decisions are in `refinement_steps`; this drives a hand that waits until it is done. `takeover` drives one tick by tick.
"""

from collections.abc import Callable
from typing import Protocol

from cerebella.geometry import Array
from cerebella.touch.goal import Goal
from cerebella.touch.reading import Reading
from cerebella.touch.refinement import Error, Refinement
from cerebella.touch.refinement_steps import End, Predictor, RefinementSteps, RefinerConfig


class Hand(Protocol):
    """A hand on a wrist. Every call returns when the motion is over and nothing moves any more."""

    def close(self) -> None:
        """Close the fingers around the object, until they hold it."""
        ...

    def open(self) -> None:
        """Let go, far enough for the wrist to move."""
        ...

    def read(self) -> Reading:
        """What the closed hand feels now."""
        ...

    def wrist_pose(self) -> Array:
        """`T_world_wrist` as measured, float64[4, 4] metres. The world may be any frame that stands still."""
        ...

    def move_wrist(self, T_world_wrist: Array) -> None:
        """Bring the open hand there."""
        ...


def refine(
    hand: Hand,
    predictor: Predictor,
    goal: Goal,
    config: RefinerConfig | None = None,
    true_error: Callable[[], Error] | None = None,
) -> Refinement:
    """Refine a grasp until the hand feels what it felt in the goal.

    How it ends (`Refinement.outcome`), and where the hand is closed then:

    | outcome           | when                                                    | the hand is closed                     |
    |-------------------|---------------------------------------------------------|----------------------------------------|
    | `converged`       | the predicted increment is small                        | where it is                            |
    | `budget`          | all steps are used up                                   | where it is; at the best pose seen if  |
    |                   |                                                         | the last increment had grown           |
    | `stopped_growing` | the increment kept growing                              | at the best pose seen                  |
    | `refused`         | contact is missing                                      | at the best pose seen, if there is one |
    | `refused`         | a broken sensor, a strange grasp, a senseless           | where it is                            |
    |                   | prediction, a goal beyond the bound                     |                                        |

    The best pose is the one with the smallest predicted increment.

    Args:
        hand: closed around the object.
        config: None is `RefinerConfig()`.
        true_error: distance to the goal now, for the record; only a simulator knows it.

    Raises:
        ValueError: a predictor without calibration. Whatever the hand or the predictor raise passes through.
    """
    steps = RefinementSteps(predictor, goal, config or RefinerConfig())

    def error_now() -> Error | None:
        return None if true_error is None else true_error()

    while not isinstance(decision := steps.take(hand.read(), hand.wrist_pose(), error_now()), End):
        _regrasp(hand, decision.T_world_wrist)
    if decision.T_world_wrist_back is not None:
        _regrasp(hand, decision.T_world_wrist_back)
    return steps.refinement(decision, hand.wrist_pose(), error_now())


def _regrasp(hand: Hand, T_world_wrist: Array) -> None:
    hand.open()
    hand.move_wrist(T_world_wrist)
    hand.close()
