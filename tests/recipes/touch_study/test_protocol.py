"""Trials are a function of their seed, start and goal lie where they should, and faults come after the goal."""

from typing import Any

import numpy as np
import pytest

from cerebella.geometry import inverse
from cerebella.recipes.touch_study.protocol import FAULTS, SENSOR_OF, Protocol, draw_trial
from cerebella.recipes.touch_study.summary import GRADES
from cerebella.touch.grasp import pose_error
from cerebella.touch.objects import SEEN
from cerebella.touch.sampling import nominal_goal

pytest.importorskip("mujoco")
ROD = next(shape for shape in SEEN if shape.kind == "rod")


def test_a_trial_is_a_function_of_its_seed() -> None:
    first, again = (draw_trial(Protocol(goal="random"), ROD.name, 1) for _ in range(2))
    assert np.array_equal(first.goal.reading.counts, again.goal.reading.counts)
    assert np.array_equal(first.hand.read().counts, again.hand.read().counts)
    other = draw_trial(Protocol(goal="random"), ROD.name, 2)
    assert not np.array_equal(first.T_wrist_object_goal, other.T_wrist_object_goal)
    assert not np.array_equal(first.hand.T_wrist_object, other.hand.T_wrist_object)


def test_goals_and_starts_lie_in_their_ranges() -> None:
    trials = [draw_trial(Protocol(goal="random"), ROD.name, number) for number in range(6)]
    for trial in trials:
        for pose in (trial.hand.T_wrist_object, trial.T_wrist_object_goal):
            distance_m, angle_rad = pose_error(pose, nominal_goal(ROD))
            assert distance_m <= 5e-3 + 1e-9
            assert np.degrees(angle_rad) <= 12 + 1e-6
        assert np.allclose(trial.goal.T_world_wrist, inverse(trial.T_wrist_object_goal)), (
            "the world is the object's frame"
        )
        assert trial.hand.read().counts.any()
    assert len({trial.T_wrist_object_goal[2, 3] for trial in trials}) == 6


def test_a_fixed_goal_is_the_middle_and_meets_the_same_hand_and_start() -> None:
    fixed, free = (draw_trial(Protocol(goal=goal), ROD.name, 3) for goal in ("fixed", "random"))
    assert np.array_equal(fixed.T_wrist_object_goal, nominal_goal(ROD))
    assert np.array_equal(fixed.hand.T_wrist_object, free.hand.T_wrist_object)
    assert pose_error(free.T_wrist_object_goal, nominal_goal(ROD))[0] > 1e-4


def test_joints_err_by_the_same_bias_and_by_fresh_noise() -> None:
    wild = draw_trial(Protocol(sensor="wild"), ROD.name, 0).hand
    exact = draw_trial(Protocol(sensor="nominal"), ROD.name, 0).hand
    readings = np.stack([wild.read().joints for _ in range(40)])
    error = readings.mean(axis=0) - exact.read().joints
    assert 0.2 < np.degrees(error.std()) < 2.5, "0.8 degrees of bias"
    assert 0.3 < np.degrees(readings.std(axis=0).mean()) < 0.7, "0.5 degrees of noise"
    assert np.array_equal(exact.read().joints, exact.read().joints)


def test_the_fault_comes_after_the_goal() -> None:
    dead = draw_trial(Protocol(fault="dead_ring"), ROD.name, 0)
    assert dead.goal.reading.counts[3].any()
    assert not dead.hand.read().counts[3].any()
    empty = draw_trial(Protocol(fault="no_object"), ROD.name, 0)
    assert empty.goal.reading.finger_counts.max() > 1000 > empty.hand.read().finger_counts.max()
    assert (draw_trial(Protocol(fault="gain_10"), ROD.name, 0).hand.read().counts == 255).sum() > 20
    other = draw_trial(Protocol(fault="other_object"), ROD.name, 0)
    assert other.goal.object_name.startswith("disk")
    assert other.shape == ROD


def test_presets_and_limits() -> None:
    assert Protocol("skin").sensor_name == "trained"
    assert Protocol("spheres").sensor_name == SENSOR_OF["spheres"] == "wild"
    assert Protocol(handling="mask").refiner_config.on_dead_finger == "mask"
    assert Protocol(handling="lenient").refiner_config.limits.max_distance > 1e6
    assert Protocol(max_steps=10).refiner_config.max_steps == 10
    assert Protocol(seed=1).to_json() != Protocol().to_json()
    assert {"none", "dead_thumb", "gain_5", "other_object"} <= set(FAULTS)
    assert list(GRADES.values()) == [(10, 10), (5, 10), (5, 5), (1, 1)]
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"world": "gel"}, "unknown world 'gel'"),
        ({"goal": "near"}, "unknown goal 'near'; known: fixed, random"),
        ({"fault": "rain"}, "unknown fault 'rain'; known: none, dead_thumb"),
        ({"sensor": "perfect"}, "unknown sensor 'perfect'"),
        ({"max_steps": 0}, "max_steps must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or above"),
    )
    for fields, message in wrong:
        with pytest.raises(ValueError, match=message):
            Protocol(**fields)
    with pytest.raises(ValueError, match="unknown object 'ball'"):
        draw_trial(Protocol(), "ball", 0)
