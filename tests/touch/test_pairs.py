"""Which pairs are drawn, what their labels mean, and how they are normalised."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cerebella.geometry import compose, inverse
from cerebella.touch.grasp_data import GraspPlan, generate
from cerebella.touch.grasp_shards import GraspSet, load_grasps
from cerebella.touch.increments import SMALLEST_STD, IncrementNormalizer
from cerebella.touch.objects import SEEN, shape_of
from cerebella.touch.pairs import PairSource, measure_normalizer
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


def test_the_normalizer_centres_scales_and_leaves_constants_alone(grasps: GraspSet, tmp_path: Path) -> None:
    source = PairSource(grasps, **EXACT)
    normalizer = measure_normalizer(source, RNG(0))
    increments = source.draw(5000, RNG(1)).increments
    normalized = normalizer.normalize(increments)
    np.testing.assert_allclose(normalizer.denormalize(normalized), increments, atol=1e-7)
    spread = normalizer.std > SMALLEST_STD
    assert spread.sum() >= 10
    np.testing.assert_allclose(normalized.mean(axis=0)[spread], 0, atol=0.1)
    np.testing.assert_allclose(normalized.std(axis=0)[spread], 1, atol=0.1)
    rod = PairSource(replace_objects(grasps, ROD), **EXACT)
    of_rod = measure_normalizer(rod, RNG(0))
    assert of_rod.std[0] == SMALLEST_STD[0]  # R[0, 0] of a turn about x is 1
    assert of_rod.std[9] == SMALLEST_STD[9]
    assert np.abs(of_rod.normalize(rod.draw(100, RNG(0)).increments)[:, [0, 9]]).max() < 1e-3
    of_rod.save(tmp_path / "increments.json")
    again = IncrementNormalizer.load(tmp_path / "increments.json")
    np.testing.assert_array_equal(again.mean, of_rod.mean)
    np.testing.assert_array_equal(again.std, of_rod.std)


def replace_objects(grasps: GraspSet, name: str) -> GraspSet:
    """The part of a set that is one object."""
    mine = np.flatnonzero(grasps.object_index == grasps.objects.index(name))
    arrays = type(grasps.arrays)(**{key: values[mine] for key, values in vars(grasps.arrays).items()})
    return GraspSet((name,), np.array([0, 20, 40]), np.array([0, 0]), arrays)


def test_mistakes_are_explained(grasps: GraspSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown goal 'nearest' of pairs; known: random, fixed"):
        PairSource(grasps, "nearest")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"must be 0 rad or more"):
        PairSource(grasps, joint_noise_rad=-1)
    with pytest.raises(ValueError, match=r"2 or more grasps in every shard"):
        PairSource(replace(grasps, starts=np.array([0, 1, 40, 60, 80, 100, 120])))
    with pytest.raises(ValueError, match=r"std must be .* or more"):
        IncrementNormalizer(np.zeros(12, np.float32), np.zeros(12, np.float32))
    path = tmp_path / "increments.json"
    path.write_text(json.dumps({"names": ["x"], "mean": [0], "std": [1]}))
    with pytest.raises(ValueError, match=r"names must be r00, r01"):
        IncrementNormalizer.load(path)
