"""Which pairs are drawn, what their labels mean, and how they are normalised."""

from dataclasses import replace

import numpy as np
import pytest

from cerebella.geometry import compose, inverse
from cerebella.touch.grasp_data import GraspPlan, generate
from cerebella.touch.grasp_shards import GraspSet, load_grasps
from cerebella.touch.objects import SEEN, shape_of
from cerebella.touch.pairs import PairSource
from cerebella.touch.sampling import middle_motion
from cerebella.touch.sensor import SENSORS, nominal_sensor
from tests.touch.flat_world import make_flat_world

RNG = np.random.default_rng
ROD, DISK, PLATE = (next(shape.name for shape in SEEN if shape.kind == kind) for kind in ("rod", "disk", "plate"))
EXACT = {"sensor": SENSORS["nominal"], "joint_bias_rad": 0.0, "joint_noise_rad": 0.0}


@pytest.fixture(scope="module")
def grasps(tmp_path_factory: pytest.TempPathFactory) -> GraspSet:
    directory = tmp_path_factory.mktemp("pairs") / "set"
    plan = GraspPlan("flat", (ROD, DISK, PLATE), 120, shard_size=20, parameters={})
    generate(directory, plan, make_flat_world, show_progress=False)
    return load_grasps(directory)


@pytest.mark.parametrize("same_hand", [True, False])
def test_every_ordered_pair_of_a_hand_or_an_object_comes_up(grasps: GraspSet, same_hand: bool) -> None:
    current, goal = PairSource(grasps, same_hand=same_hand).draw_rows(60_000, RNG(0))
    group = np.repeat(np.arange(6), 20) if same_hand else grasps.object_index
    assert (group[current] == group[goal]).all()
    assert (current != goal).all()
    size = 20 if same_hand else 40
    assert len(set(zip(current.tolist(), goal.tolist(), strict=True))) > 0.99 * 120 * (size - 1)
    np.testing.assert_allclose(np.bincount(grasps.object_index[current]) / 60_000, 1 / 3, atol=0.01)


def test_a_fixed_goal_is_the_nominal_grasp_of_the_same_hand(grasps: GraspSet) -> None:
    current, goal = PairSource(grasps, "fixed").draw_rows(500, RNG(0))
    np.testing.assert_array_equal(goal, current // 20 * 20)
    middle = [middle_motion(shape_of(grasps.objects[i])) for i in grasps.object_index[goal]]
    np.testing.assert_allclose(grasps.arrays.motions[goal], middle, atol=1e-8)


def test_the_label_moves_the_wrist_to_the_goal(grasps: GraspSet) -> None:
    """With the object fixed, `W' = W D` gives the goal's object in the hand: `inv(W') O = T_g`."""
    pairs = PairSource(grasps, **EXACT)
    current, goal = pairs.draw_rows(50, RNG(1))
    numbers = pairs.increments(current, goal).astype(np.float64)
    D = np.tile(np.eye(4), (50, 1, 1))
    D[:, :3, :3], D[:, :3, 3] = numbers[:, :9].reshape(50, 3, 3), numbers[:, 9:]
    T_world_wrist = np.eye(4)
    T_world_object = compose(T_world_wrist, grasps.arrays.T_wrist_object[current])
    in_hand = compose(inverse(compose(T_world_wrist, D)), T_world_object)
    np.testing.assert_allclose(in_hand, grasps.arrays.T_wrist_object[goal], atol=1e-6)


def test_an_exact_draw_is_the_quantised_grasps(grasps: GraspSet) -> None:
    source = PairSource(grasps, **EXACT)
    pairs = source.draw(64, RNG(2))
    current, goal = source.draw_rows(64, RNG(2))
    np.testing.assert_array_equal(pairs.counts, nominal_sensor().counts(grasps.arrays.forces[current], RNG(0)))
    np.testing.assert_array_equal(pairs.goal_counts, nominal_sensor().counts(grasps.arrays.forces[goal], RNG(0)))
    np.testing.assert_array_equal(pairs.joints, grasps.arrays.joints[current])
    np.testing.assert_array_equal(pairs.goal_joints, grasps.arrays.joints[goal])
    np.testing.assert_array_equal(pairs.increments, source.increments(current, goal))
    np.testing.assert_array_equal(pairs.object_index, grasps.object_index[current])
    np.testing.assert_array_equal(pairs.rows, current)
    np.testing.assert_array_equal(pairs.goal_rows, goal)
    assert pairs.counts.dtype == np.uint8
    assert pairs.joints.dtype == pairs.increments.dtype == np.float32


def test_a_random_draw_repeats_and_shares_its_sensor(grasps: GraspSet) -> None:
    source = PairSource(grasps)
    first, second = source.draw(32, RNG(5)), source.draw(32, RNG(5))
    for name in ("counts", "goal_counts", "joints", "goal_joints", "increments", "object_index"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    broken = PairSource(grasps, sensor=replace(SENSORS["nominal"], stuck_share=(0.3, 0.3)))
    pairs = broken.draw(40, RNG(6))
    current, goal = broken.draw_rows(40, RNG(6))
    stuck = pairs.counts != nominal_sensor().counts(grasps.arrays.forces[current], RNG(0))
    stuck_goal = pairs.goal_counts != nominal_sensor().counts(grasps.arrays.forces[goal], RNG(0))
    assert (stuck & stuck_goal).sum() > 0.95 * stuck.sum() > 0


def test_joint_errors_have_a_shared_part_and_one_of_their_own(grasps: GraspSet) -> None:
    source = PairSource(grasps, **{**EXACT, "joint_bias_rad": 0.02, "joint_noise_rad": 0.005})
    pairs, (current, goal) = source.draw(4000, RNG(3)), source.draw_rows(4000, RNG(3))
    error = pairs.joints - grasps.arrays.joints[current]
    goal_error = pairs.goal_joints - grasps.arrays.joints[goal]
    assert error.std() == pytest.approx(np.hypot(0.02, 0.005), rel=0.03)
    assert (error - goal_error).std() == pytest.approx(0.005 * np.sqrt(2), rel=0.03)


def test_mistakes_are_explained(grasps: GraspSet) -> None:
    with pytest.raises(ValueError, match=r"unknown goal 'nearest' of pairs; known: random, fixed"):
        PairSource(grasps, "nearest")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"must be 0 rad or more"):
        PairSource(grasps, joint_noise_rad=-1)
    with pytest.raises(ValueError, match=r"2 or more grasps in every shard"):
        PairSource(replace(grasps, starts=np.array([0, 1, 40, 60, 80, 100, 120])))
