"""Every fault of the sensor and the scene in the loop: refused or degraded as documented, and never beyond the bound."""

import numpy as np
import pytest

from cerebella.geometry import Array, compose, inverse
from cerebella.touch.grasp import FINGERS
from cerebella.touch.reading import CountArray
from cerebella.touch.refinement import Refinement, size_of
from cerebella.touch.refinement_steps import RefinerConfig
from cerebella.touch.refiner import refine
from cerebella.touch.simulated_hand import Faults, SimulatedHand, WristErrors
from cerebella.types import FloatArray

from .tiny_world import Fixed, Oracle, make_goal, make_hand, pose

GOAL = pose()
CALIBRATION = {"distance_limit": 1.0}


def run(
    hand: SimulatedHand, config: RefinerConfig | None = None, max_dead_fingers: int = 0
) -> tuple[Refinement, Oracle]:
    oracle = Oracle(
        lambda: hand.T_wrist_object, GOAL, calibration={**CALIBRATION, "max_dead_fingers": max_dead_fingers}
    )
    return refine(hand, oracle, make_goal(GOAL), config, lambda: hand.error_to(GOAL)), oracle


def assert_refused_on_the_spot(hand: SimulatedHand, refinement: Refinement, reason: str) -> None:
    assert (refinement.outcome, refinement.num_moves, hand.num_grasps) == ("refused", 0, 1)
    assert reason in refinement.reason
    hand.read()  # still closed


@pytest.mark.parametrize("finger", FINGERS)
def test_a_dead_finger_is_refused(finger: str) -> None:
    hand = make_hand(pose(z_mm=2), faults=Faults(dead_fingers=(finger,)))
    refinement, oracle = run(hand)
    assert_refused_on_the_spot(hand, refinement, "no thumb" if finger == "thumb" else f"{finger} feels nothing")
    assert oracle.num_calls == 0


def test_a_dead_finger_is_masked_if_the_predictor_was_trained_for_it() -> None:
    hand = make_hand(pose(z_mm=2), faults=Faults(dead_fingers=("ring",)))
    refinement, oracle = run(hand, RefinerConfig(on_dead_finger="mask"), max_dead_fingers=1)
    assert refinement.outcome == "converged"
    assert refinement.steps[0].confidence.dead_fingers == ("ring",)
    for counts, goal_counts in oracle.seen:
        assert not counts[3].any()
        assert not goal_counts[3].any()  # blanked as well, or the difference would be read as motion
        assert goal_counts[2].any()


def test_a_dead_finger_is_not_masked_for_a_predictor_that_was_not() -> None:
    hand = make_hand(pose(z_mm=2), faults=Faults(dead_fingers=("ring",)))
    refinement, _ = run(hand, RefinerConfig(on_dead_finger="mask"))
    assert_refused_on_the_spot(hand, refinement, "ring feels nothing")


def test_some_dead_taxels_are_left_to_the_network_and_many_are_refused() -> None:
    outcomes = [
        run(make_hand(pose(z_mm=2), faults=Faults(dead_taxel_share=0.03), seed=i))[0].outcome for i in range(10)
    ]
    assert outcomes.count("converged") == 10
    runs = [run(make_hand(pose(z_mm=2), faults=Faults(dead_taxel_share=0.4), seed=i))[0] for i in range(10)]
    assert sum("are dead" in r.reason or "feels nothing" in r.reason for r in runs) >= 9


def test_a_saturated_gain_is_refused() -> None:
    hand = make_hand(pose(z_mm=2), faults=Faults(gain=20.0))
    assert_refused_on_the_spot(hand, run(hand)[0], "loaded taxels say 255")


def test_no_contact_is_refused() -> None:
    hand = make_hand(pose(z_mm=2), faults=Faults(is_object_removed=True))
    assert_refused_on_the_spot(hand, run(hand)[0], "contact is missing")


class Taker(Oracle):
    """The object is taken away after the first prediction."""

    def __init__(self, hand: SimulatedHand) -> None:
        super().__init__(lambda: hand.T_wrist_object, GOAL, noise_m=1e-3)
        self._hand = hand

    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        answer = super().predict(counts, joints, goal_counts, goal_joints)
        self._hand.faults = Faults(is_object_removed=True)
        return answer


def test_an_object_that_disappears_is_refused_where_it_was_felt_last() -> None:
    hand = make_hand(pose(z_mm=4))
    start = hand.wrist_pose()
    refinement = refine(hand, Taker(hand), make_goal(GOAL))
    assert (refinement.outcome, refinement.num_moves, refinement.went_back) == ("refused", 1, True)
    assert "contact is missing" in refinement.reason
    assert np.array_equal(hand.wrist_pose(), start)


def test_an_unknown_object_is_refused_by_its_embedding() -> None:
    hand = make_hand(pose(z_mm=2))
    strange = Fixed(np.eye(4), embedding=np.full(4, 0.9, dtype=np.float32))
    refinement = refine(hand, strange, make_goal(GOAL))
    assert_refused_on_the_spot(hand, refinement, "outside the trained distribution: the embedding lies at 1.80")
    assert refinement.steps[0].confidence.problem == "distribution"
    assert strange.num_calls == 0


@pytest.mark.parametrize(
    "faults",
    [
        Faults(dead_fingers=("index",)),
        Faults(dead_taxel_share=0.2),
        Faults(gain=20.0),
        Faults(gain=0.05),
        Faults(is_object_removed=True),
    ],
    ids=["dead finger", "dead taxels", "saturated", "numb", "no object"],
)
def test_no_fault_with_a_bad_wrist_and_a_wild_predictor_leaves_the_ball(faults: Faults) -> None:
    for seed in range(6):
        hand = make_hand(pose(z_mm=2), faults=faults, errors=WristErrors(5e-4, 5e-3), seed=seed)
        start = hand.wrist_pose()
        wild = Oracle(lambda hand=hand: hand.T_wrist_object, GOAL, noise_m=0.02, noise_rad=0.3, seed=seed)
        refinement = refine(hand, wild, make_goal(GOAL))
        for T_world_wrist in (*(step.T_world_wrist for step in refinement.steps), hand.wrist_pose()):
            distance, angle = size_of(compose(inverse(start), T_world_wrist))
            assert distance <= 20e-3 + 1e-9
            assert angle <= RefinerConfig().max_way_rad + 1e-7
        assert refinement.reason
        hand.read()
