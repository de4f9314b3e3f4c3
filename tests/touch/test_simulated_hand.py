"""The simulated hand: where object and wrist are, its errors, and disturbances without end."""

import math

import numpy as np
import pytest

from cerebella.geometry import compose, inverse
from cerebella.touch.refiner import refine
from cerebella.touch.sensor import sensor_ranges
from cerebella.touch.simulated_hand import Faults, WristErrors

from .tiny_world import ROD, T_WORLD_OBJECT, Oracle, PadWorld, make_goal, make_hand, pose


def test_the_object_stays_in_the_world_while_the_wrist_moves() -> None:
    hand = make_hand(pose(z_mm=2, roll_deg=5))
    assert hand.T_wrist_object == pytest.approx(pose(z_mm=2, roll_deg=5))
    hand.open()
    hand.move_wrist(compose(hand.wrist_pose(), pose(z_mm=3)))
    assert compose(hand.wrist_pose(), hand.T_wrist_object) == pytest.approx(T_WORLD_OBJECT)
    hand.close()
    expected = PadWorld().grasp(ROD, compose(inverse(pose(z_mm=3)), pose(z_mm=2, roll_deg=5)))
    assert np.array_equal(hand.read().joints, expected.joints)


def test_a_closed_hand_does_not_drag_and_an_open_one_does_not_feel() -> None:
    hand = make_hand(pose())
    with pytest.raises(RuntimeError, match="needs an open hand"):
        hand.move_wrist(np.eye(4))
    hand.close()
    assert hand.num_grasps == 1
    hand.open()
    with pytest.raises(RuntimeError, match="needs a closed hand"):
        hand.read()


def test_wrist_errors_are_felt_and_not_reported() -> None:
    biased = make_hand(pose(), errors=WristErrors(bias_m=(0.0, 0.0, 2e-3)))
    assert biased.error_to(pose())[0] == pytest.approx(2e-3)
    assert biased.T_wrist_object[2, 3] == pytest.approx(-2e-3)
    errors = WristErrors(1e-3, 0.01)
    noisy = [make_hand(pose(), errors=errors, seed=i, is_closed=False).error_to(pose()) for i in range(200)]
    assert np.sqrt(np.mean([d**2 / 3 for d, _ in noisy])) == pytest.approx(1e-3, rel=0.2)
    assert np.sqrt(np.mean([a**2 / 3 for _, a in noisy])) == pytest.approx(0.01, rel=0.2)


def test_the_loop_feels_a_wrist_that_is_always_off() -> None:
    errors = WristErrors(1e-4, 5e-4, bias_m=(0.0, 1e-3, 2e-3), bias_rad=(0.02, 0.0, 0.0))
    hand = make_hand(pose(z_mm=3, roll_deg=-5), errors=errors)
    oracle = Oracle(lambda: hand.T_wrist_object, pose())
    refinement = refine(hand, oracle, make_goal(pose()), None, lambda: hand.error_to(pose()))
    assert refinement.outcome == "converged"
    assert refinement.true_error_end is not None
    assert refinement.true_error_end[0] < 0.5e-3


def test_it_recovers_from_one_disturbance_after_the_other() -> None:
    rng = np.random.default_rng(3)
    hand = make_hand(pose(), sensor=sensor_ranges("trained").draw(rng))
    oracle, goal = Oracle(lambda: hand.T_wrist_object, pose(), 1e-4, 1e-3), make_goal(pose())
    for _ in range(20):
        hand.disturb(rng, np.array([0, 0, 5e-3]), np.array([math.radians(12), 0, 0]))
        before = hand.error_to(pose())
        assert before[0] <= 5.1e-3
        assert before[1] <= math.radians(12.1)
        assert refine(hand, oracle, goal).outcome == "converged"
        assert hand.error_to(pose())[0] < 0.5e-3


def test_faults_are_switched_on_and_off() -> None:
    hand = make_hand(pose())
    healthy = hand.read().counts
    hand.faults = Faults(dead_fingers=("ring",))
    assert not hand.read().counts[3].any()
    assert np.array_equal(np.delete(hand.read().counts, 3, 0), np.delete(healthy, 3, 0))
    hand.faults = Faults(dead_taxel_share=0.3)
    first = hand.read().counts
    assert np.array_equal(first, hand.read().counts)  # the same ones stay dead
    assert 0.15 < 1 - np.mean(first[healthy > 0] > 0) < 0.45
    hand.faults = Faults(gain=10.0)
    assert (hand.read().counts == 255).sum() > 30
    hand.faults = Faults(is_object_removed=True)
    assert not hand.read().counts.any()
    hand.faults = Faults()
    assert np.array_equal(hand.read().counts, healthy)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dead_fingers": ("toe",)}, "unknown finger 'toe'"),
        ({"dead_taxel_share": 2.0}, "0..1"),
        ({"gain": -1.0}, "gain"),
    ],
)
def test_faults_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults(**wrong)  # pyright: ignore[reportArgumentType]
