"""The loop with an oracle instead of a network: it converges, damps, backs off, stops, and never leaves its bounds."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.geometry import Array, compose, inverse, se3_exp, so3_exp, transform
from cerebella.touch.grasp import wrist_increment
from cerebella.touch.objects import SEEN
from cerebella.touch.reading import CountArray
from cerebella.touch.refinement import Refinement, Step, describe, errors_by_step, size_of
from cerebella.touch.refinement_steps import End, Move, RefinementSteps, RefinerConfig
from cerebella.touch.refiner import refine
from cerebella.touch.sensor import sensor_ranges
from cerebella.touch.simulated_hand import SimulatedHand
from cerebella.types import FloatArray

from .tiny_world import Fixed, Oracle, make_goal, make_hand, make_reading, pose

GOAL = pose()
READING, FELT_GOAL = make_reading(GOAL), make_goal(GOAL)


class Scaled(Oracle):
    """Says `scale` times what is right: above 2 every full step makes it worse."""

    def __init__(self, hand: SimulatedHand, scale: float) -> None:
        super().__init__(lambda: hand.T_wrist_object, GOAL)
        self._hand, self._scale = hand, scale

    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        true = wrist_increment(self._hand.T_wrist_object, GOAL)
        return transform(true[:3, :3], self._scale * true[:3, 3])


def run(
    start: Array, scale: float | None = None, config: RefinerConfig | None = None, noise: float = 0.0
) -> Refinement:
    hand = make_hand(start)
    oracle = Oracle(lambda: hand.T_wrist_object, GOAL, noise, 10 * noise)
    predictor = oracle if scale is None else Scaled(hand, scale)
    return refine(hand, predictor, make_goal(GOAL), config, lambda: hand.error_to(GOAL))


def test_one_step_is_enough_for_a_perfect_predictor() -> None:
    refinement = run(pose(y_mm=3, z_mm=4, roll_deg=8))
    assert (refinement.outcome, refinement.num_moves, refinement.went_back) == ("converged", 1, False)
    assert refinement.true_error_end == pytest.approx((0, 0), abs=1e-9)
    assert refinement.steps[0].true_error == pytest.approx((5e-3, math.radians(8)))
    assert "0.00 mm and 0.00 deg" in refinement.reason


def test_noise_leaves_an_error_of_its_size_for_every_object_and_sensor() -> None:
    for seed, shape in enumerate(SEEN):
        rng = np.random.default_rng(seed)
        start, goal = (pose(z_mm=z, roll_deg=2 * z) for z in rng.uniform(-2, 2, 2))
        hand = make_hand(start, shape, sensor_ranges("trained").draw(rng), seed=seed)
        oracle = Oracle(lambda hand=hand: hand.T_wrist_object, goal, 1e-4, 1e-3, seed)
        refinement = refine(hand, oracle, make_goal(goal, shape), None, lambda hand=hand, g=goal: hand.error_to(g))
        assert refinement.outcome == "converged", describe(refinement)
        assert refinement.true_error_end is not None
        assert refinement.true_error_end[0] < 5e-4
        assert refinement.true_error_end[1] < math.radians(0.5)


def test_a_far_goal_takes_several_bounded_steps() -> None:
    refinement = run(pose(z_mm=5, pitch_deg=20))
    turns = [size_of(compose(inverse(a.T_world_wrist), b.T_world_wrist))[1] for a, b in _pairs(refinement)]
    assert refinement.outcome == "converged"
    assert max(turns) == pytest.approx(math.radians(15))


def _pairs(refinement: Refinement) -> list[tuple[Step, Step]]:
    return list(zip(refinement.steps[:-1], refinement.steps[1:], strict=True))


def test_the_budget_is_kept_and_can_be_ten() -> None:
    five = run(pose(z_mm=3), config=RefinerConfig(stop_m=1e-6, stop_rad=1e-6), noise=2e-4)
    assert len(five.steps) - 1 <= 5
    shrinking = [transform(np.eye(3), [0, 0, 1e-3 * 0.9**k]) for k in range(20)]
    for max_steps in (5, 10):
        hand = make_hand(pose(z_mm=3))
        refinement = refine(hand, Fixed(*shrinking), make_goal(GOAL), RefinerConfig(max_steps=max_steps, stop_m=1e-4))
        assert (refinement.outcome, refinement.num_moves) == ("budget", max_steps)
        assert f"{max_steps} steps are used up" in refinement.reason
        assert hand.num_grasps == 1 + max_steps


def test_steps_are_damped_when_the_increment_grows() -> None:
    """Overshoot by a factor 2.3 makes the error grow by 1.3 a step; 0.7 of it converges."""
    refinement = run(pose(z_mm=2), scale=2.3, config=RefinerConfig(max_steps=10))
    assert [round(step.damping, 3) for step in refinement.steps[:3]] == [1.0, 0.7, 0.7]
    errors = [step.true_error[0] for step in refinement.steps if step.true_error is not None]
    assert errors[1] > errors[0]
    assert errors[-1] < 0.3 * errors[0]
    assert refinement.outcome == "converged"
    undamped = run(pose(z_mm=2), scale=2.3, config=RefinerConfig(max_steps=10, damping=1.0))
    assert undamped.outcome == "stopped_growing"


def test_it_goes_back_to_the_best_pose_when_the_increment_keeps_growing() -> None:
    hand = make_hand(pose(z_mm=2))
    start = hand.wrist_pose()
    increments = [transform(np.eye(3), [0, 0, z]) for z in (2e-3, 1e-3, 2e-3, 3e-3, 4e-3)]
    refinement = refine(hand, Fixed(*increments), make_goal(GOAL), None, lambda: hand.error_to(GOAL))
    assert (refinement.outcome, refinement.went_back, refinement.num_moves) == ("stopped_growing", True, 3)
    assert "grew 2 times in a row, to 3.00 mm" in refinement.reason
    assert refinement.T_world_wrist_end == pytest.approx(refinement.steps[1].T_world_wrist)
    assert size_of(compose(inverse(start), hand.wrist_pose()))[0] == pytest.approx(2e-3)
    hand.read()  # closed


def test_the_budget_ends_at_the_best_pose_if_the_last_increment_had_grown() -> None:
    increments = [transform(np.eye(3), [0, 0, z]) for z in (3e-3, 2e-3, 1e-3, 2e-3)]
    hand = make_hand(pose(z_mm=4))
    refinement = refine(hand, Fixed(*increments), make_goal(GOAL), RefinerConfig(max_steps=3))
    assert (refinement.outcome, refinement.went_back) == ("budget", True)
    assert np.array_equal(refinement.T_world_wrist_end, refinement.steps[2].T_world_wrist)


def test_contact_lost_by_a_move_is_sought_where_it_was() -> None:
    hand = make_hand(pose(z_mm=-3))
    refinement = refine(
        hand, Fixed(transform(np.eye(3), [0, 0, 11e-3])), make_goal(GOAL), RefinerConfig(max_way_m=0.03)
    )
    assert (refinement.outcome, refinement.went_back) == ("refused", True)
    assert "contact is missing" in refinement.reason
    assert refinement.steps[-1].increment is None
    assert hand.read().counts.max() > 50


def test_a_goal_beyond_the_bound_is_said_to_be_so() -> None:
    hand = make_hand(pose())
    config = RefinerConfig(max_way_m=2e-3)
    refinement = refine(hand, Fixed(transform(np.eye(3), [0, 0, 3e-3])), make_goal(GOAL), config)
    assert (refinement.outcome, refinement.num_moves) == ("refused", 1)
    assert "the goal lies beyond the bound: the predicted increment is 3.00 mm" in refinement.reason


def test_a_wrist_that_others_moved_is_refused() -> None:
    steps = RefinementSteps(Fixed(transform(np.eye(3), [0, 0, 2e-3])), make_goal(GOAL), RefinerConfig())
    reading, start = make_reading(GOAL), np.eye(4)
    assert isinstance(steps.take(reading, start), Move)
    end = steps.take(reading, transform(np.eye(3), [0.05, 0, 0]))
    assert isinstance(end, End)
    assert (end.outcome, "something else has moved it" in end.reason) == ("refused", True)


NONSENSE = {
    "NaN": np.full((4, 4), np.nan),
    "infinity": np.diag([1.0, 1.0, 1.0, np.inf]),
    "zeros": np.zeros((4, 4)),
    "scaled": np.diag([0.9, 0.9, 0.9, 1.0]),
    "mirrored": np.diag([1.0, 1.0, -1.0, 1.0]),
    "huge": 1e300 * np.ones((4, 4)),
    "metres": transform(np.eye(3), [0.0, 0.0, 5.0]),
    "no last row": np.vstack([np.eye(4)[:3], np.ones((1, 4))]),
    "numbers": np.zeros(12),
    "integers": np.eye(4, dtype=np.int64),
    "nothing": None,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_senseless_prediction_is_refused_and_moves_nothing(name: str) -> None:
    hand = make_hand(pose(z_mm=2))
    start = hand.wrist_pose()
    refinement = refine(hand, Fixed(NONSENSE[name]), make_goal(GOAL))
    assert (refinement.outcome, refinement.num_moves, hand.num_grasps) == ("refused", 0, 1)
    assert "the prediction is no wrist increment" in refinement.reason
    assert np.array_equal(hand.wrist_pose(), start)


rigid = st.lists(st.floats(-3, 3), min_size=6, max_size=6).map(
    lambda v: transform(so3_exp(v[3:]), np.array(v[:3]) * 0.3)
)
small = st.lists(st.floats(-0.03, 0.03), min_size=6, max_size=6).map(se3_exp)
answers = st.lists(st.one_of(rigid, small, st.sampled_from(list(NONSENSE.values()))), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(answers, st.sampled_from([0.3, 0.7, 1.0]), st.floats(1e-3, 0.02), st.floats(1e-3, 0.05))
def test_no_predictor_moves_the_wrist_beyond_its_bounds(
    predicted: list[object], damping: float, max_step_m: float, max_way_m: float
) -> None:
    config = RefinerConfig(12, damping=damping, max_growths=20, max_step_m=max_step_m, max_way_m=max_way_m)
    steps = RefinementSteps(Fixed(*predicted), FELT_GOAL, config)
    start = T_world_wrist = transform(so3_exp([0.4, 1.0, -2.0]), [0.3, 0.1, 0.5])
    while not isinstance(decision := steps.take(READING, T_world_wrist), End):
        target = decision.T_world_wrist
        distance, angle = size_of(compose(inverse(T_world_wrist), target))
        assert distance <= max_step_m + 1e-9
        assert angle <= config.max_step_rad + 1e-7
        distance, angle = size_of(compose(inverse(start), target))
        assert distance <= max_way_m + 1e-9
        assert angle <= config.max_way_rad + 1e-7
        T_world_wrist = target
    assert len(steps.steps) <= config.max_steps + 1
    if decision.T_world_wrist_back is not None:
        assert any(np.array_equal(decision.T_world_wrist_back, step.T_world_wrist) for step in steps.steps)


@settings(max_examples=25, deadline=None)
@given(answers)
def test_a_whole_hand_stays_in_its_ball_under_any_predictor(predicted: list[object]) -> None:
    hand = make_hand(pose(z_mm=1))
    start = hand.wrist_pose()
    refinement = refine(hand, Fixed(*predicted), FELT_GOAL)
    for pose_of in (*(step.T_world_wrist for step in refinement.steps), hand.wrist_pose()):
        distance, angle = size_of(compose(inverse(start), pose_of))
        assert distance <= 20e-3 + 1e-9
        assert angle <= RefinerConfig().max_way_rad + 1e-7
    hand.read()  # always left closed
    assert refinement.reason


def test_an_oscillating_predictor_ends() -> None:
    there, back = (transform(np.eye(3), [0, 0, z]) for z in (3e-3, -3.2e-3))
    refinement = refine(make_hand(pose()), Fixed(*[there, back] * 6), make_goal(GOAL), RefinerConfig(max_steps=10))
    assert refinement.outcome in ("budget", "stopped_growing")
    assert refinement.steps[-1].damping < 0.2


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    refinement = run(pose(z_mm=4, roll_deg=5), noise=2e-4)
    refinement.save(tmp_path / "run.json")
    back = Refinement.load(tmp_path / "run.json")
    assert back.to_dict() == refinement.to_dict()
    assert back.steps[0].confidence == refinement.steps[0].confidence
    assert np.array_equal(back.steps[1].reading.counts, refinement.steps[1].reading.counts)
    refused = refine(make_hand(pose()), Fixed(np.eye(4), embedding=np.full(3, np.nan, np.float32)), make_goal(GOAL))
    refused.save(tmp_path / "refused.json")
    assert Refinement.load(tmp_path / "refused.json").steps[0].confidence.distance is None
    for change, message in (
        ({"outcome": "fine"}, "unknown outcome 'fine'"),
        ({"schema_version": 7}, "version 7; this reads"),
        ({"steps": [{}]}, "the field 'confidence' is missing"),
        ({"T_world_wrist_end": [1]}, "T_world_wrist_end must be numbers of the shape"),
    ):
        (tmp_path / "wrong.json").write_text(json.dumps(refinement.to_dict() | change))
        with pytest.raises(ValueError, match=message):
            Refinement.load(tmp_path / "wrong.json")


def test_errors_by_step_keep_the_last_one() -> None:
    runs = [run(pose(z_mm=4)), run(pose(y_mm=3, roll_deg=20))]
    errors = errors_by_step(runs, 5)
    assert errors.shape == (2, 6, 2)
    assert errors[0, 0] == pytest.approx([4e-3, 0])
    assert errors[:, -1] == pytest.approx(0, abs=1e-9)
    assert errors[1, 1, 1] == pytest.approx(math.radians(5))  # one bounded step, 5 degrees left
    with pytest.raises(ValueError, match="true errors at every step"):
        errors_by_step([refine(make_hand(pose()), Fixed(np.eye(4)), make_goal(GOAL))], 5)


@pytest.mark.parametrize(
    "wrong", [{"max_steps": 0}, {"damping": 0}, {"max_step_m": 0.5}, {"max_way_rad": 2}, {"on_dead_finger": "ignore"}]
)
def test_a_config_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RefinerConfig(**wrong)  # pyright: ignore[reportArgumentType]
