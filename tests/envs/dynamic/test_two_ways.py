import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.two_ways import (
    LEFT,
    RIGHT,
    TWO_WAYS,
    Scenes,
    TwoWaysConfig,
    expert_chunks,
    hits_obstacle,
    points_on_way,
    smallest_distances,
    way_lengths,
)
from cerebella.envs.dynamic.two_ways_data import LEFT_SHARE, MODE_LAWS, choose_sides, draw_scenes, two_ways_windows

TASK = TwoWaysConfig()
NUM = 2000


def sides(scenes: Scenes, side: int) -> np.ndarray:
    return np.full(len(scenes), side, dtype=np.int8)


def scene(start: tuple[float, float], goal: tuple[float, float], obstacle: tuple[float, float]) -> Scenes:
    return Scenes(*(np.array([place], dtype=np.float32) for place in (start, goal, obstacle)))


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_the_expert_passes_on_its_side_and_never_touches(side: int) -> None:
    scenes = draw_scenes(NUM, seed=0)
    chunks = expert_chunks(scenes, sides(scenes, side), horizon=16)
    assert not hits_obstacle(scenes, chunks).any()
    # Straight moves between rows cut the arc's corners by less than step^2 / (8 r).
    corner_m = (TASK.speed / TASK.policy_hz) ** 2 / (8 * TASK.clearance_m)
    assert smallest_distances(scenes, chunks).min() > TASK.clearance_m - corner_m - 1e-5
    line = scenes.goal - scenes.start
    way = points_on_way(scenes, sides(scenes, side), TASK.clearance_m, np.linspace(0.05, 0.4, 200))
    beside = way - scenes.obstacle[:, None]
    across = line[:, None, 0] * beside[..., 1] - line[:, None, 1] * beside[..., 0]  # above 0: left of the obstacle
    is_level = np.linalg.norm(beside, axis=-1) < TASK.clearance_m + 1e-4
    assert is_level.any(axis=1).all()
    assert ((across > 0) == (side == LEFT))[is_level].all()
    np.testing.assert_allclose(chunks[:, -1], scenes.goal, atol=1e-5)
    low, high = np.array([[d.low, d.high] for d in TWO_WAYS.actions]).T
    assert (low < chunks).all()
    assert (chunks < high).all()


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_the_length_is_that_of_the_drawn_way_and_the_speed_is_even(side: int) -> None:
    scenes = draw_scenes(50, seed=1)
    length_m = way_lengths(scenes, sides(scenes, side), TASK.clearance_m)
    fine = points_on_way(scenes, sides(scenes, side), TASK.clearance_m, np.linspace(0, 0.6, 6001))
    steps_m = np.linalg.norm(np.diff(fine.astype(np.float64), axis=1), axis=2)
    np.testing.assert_allclose(steps_m.sum(axis=1), length_m, rtol=2e-3)
    is_under_way = np.linspace(0, 0.6, 6001)[1:] < length_m[:, None] - 1e-3
    np.testing.assert_allclose(steps_m[is_under_way], 1e-4, atol=3e-7)
    assert (length_m > np.linalg.norm(scenes.goal - scenes.start, axis=1)).all()


def test_a_known_length() -> None:
    # Start and goal at 2 r from the centre, opposite: two tangents of sqrt(3) r, and an arc of 180 - 2 * 60 degrees.
    symmetric = scene((-0.2, 0.0), (0.2, 0.0), (0.0, 0.0))
    expected_m = 0.1 * (2 * math.sqrt(3) + math.pi / 3)
    for side in (LEFT, RIGHT):
        assert way_lengths(symmetric, sides(symmetric, side), 0.1)[0] == pytest.approx(expected_m)


def test_a_disc_that_is_not_in_the_way_leaves_the_line_straight_on_the_free_side_only() -> None:
    free = scene((0.0, 0.0), (0.4, 0.0), (0.2, -0.1))  # right of the line, farther than 0.08
    assert way_lengths(free, sides(free, LEFT), 0.08)[0] == pytest.approx(0.4)
    middle = points_on_way(free, sides(free, LEFT), 0.08, np.array([0.0, 0.1, 0.5]))
    np.testing.assert_allclose(middle[0], [[0, 0], [0.1, 0], [0.4, 0]], atol=1e-6)
    detour = points_on_way(free, sides(free, RIGHT), 0.08, np.linspace(0, 1, 200))
    assert way_lengths(free, sides(free, RIGHT), 0.08)[0] > 0.5
    assert detour[0, :, 1].min() == pytest.approx(-0.18, abs=1e-3)


@given(angle_rad=st.floats(-math.pi, math.pi), shift_m=st.floats(-1, 1), seed=st.integers(0, 1000))
def test_ways_turn_and_mirror_with_the_scene(angle_rad: float, shift_m: float, seed: int) -> None:
    scenes = draw_scenes(4, seed)
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    turn = np.array([[cosine, sine], [-sine, cosine]], dtype=np.float32)
    turned = Scenes(*(p @ turn + np.float32(shift_m) for p in (scenes.start, scenes.goal, scenes.obstacle)))
    left = expert_chunks(scenes, sides(scenes, LEFT), 16)
    np.testing.assert_allclose(expert_chunks(turned, sides(scenes, LEFT), 16), left @ turn + shift_m, atol=2e-5)
    flip = np.array([1, -1], dtype=np.float32)
    mirrored = Scenes(*(p * flip for p in (scenes.start, scenes.goal, scenes.obstacle)))
    np.testing.assert_allclose(expert_chunks(mirrored, sides(scenes, RIGHT), 16), left * flip, atol=1e-6)


def test_a_hit_is_the_nearest_point_of_a_move_and_not_only_of_a_row() -> None:
    passing = scene((0.0, 0.0), (0.4, 0.0), (0.2, 0.03))
    chunk = np.array([[[0.4, 0.0], [0.4, 0.1]]], dtype=np.float32)
    assert smallest_distances(passing, chunk)[0] == pytest.approx(0.03)
    assert hits_obstacle(passing, chunk)[0]
    assert not hits_obstacle(passing, chunk, TwoWaysConfig(obstacle_radius_m=0.01, gripper_radius_m=0.0))[0]
    still = np.zeros((1, 2, 2), dtype=np.float32)
    assert smallest_distances(passing, still)[0] == pytest.approx(math.hypot(0.2, 0.03))


def test_the_straight_line_always_hits() -> None:
    scenes = draw_scenes(NUM, seed=2)
    assert hits_obstacle(scenes, scenes.goal[:, None]).all()
    both = [expert_chunks(scenes, sides(scenes, side), 16) for side in (LEFT, RIGHT)]
    assert hits_obstacle(scenes, np.stack(both).mean(axis=0)).all()


def test_laws_are_exact() -> None:
    scenes = draw_scenes(NUM, seed=3)
    left, right = (way_lengths(scenes, sides(scenes, side), TASK.clearance_m) for side in (LEFT, RIGHT))
    chosen = {law: two_ways_windows(law, NUM, 16, seed=3) for law in ("even", "mostly_left", "shorter")}
    shorter = choose_sides("shorter", scenes, np.random.default_rng(0))
    np.testing.assert_array_equal(shorter == LEFT, left <= right)
    assert (shorter == LEFT).mean() == pytest.approx(0.5, abs=0.05)
    for law, share in LEFT_SHARE.items():
        windows = chosen[law]
        is_left = windows.side == LEFT
        assert abs(is_left.mean() - share) < 4 * math.sqrt(share * (1 - share) / NUM)
        own = np.where(windows.side == LEFT, *_lengths(windows.scenes))
        other = np.where(windows.side == LEFT, *_lengths(windows.scenes)[::-1])
        # Nothing in the scene foretells the coin: those who went left had no shorter way there than the others.
        assert abs((own < other)[is_left].mean() - (own > other)[~is_left].mean()) < 0.1
    for law in MODE_LAWS:
        np.testing.assert_array_equal(chosen[law].scenes.obstacle, chosen["even"].scenes.obstacle)
        expected = expert_chunks(chosen[law].scenes, chosen[law].side, 16)
        np.testing.assert_array_equal(chosen[law].actions, expected)


def _lengths(scenes: Scenes) -> tuple[np.ndarray, np.ndarray]:
    left, right = (way_lengths(scenes, sides(scenes, side), TASK.clearance_m) for side in (LEFT, RIGHT))
    return left, right


def test_the_seed_decides_and_samples_are_the_windows() -> None:
    windows, again, other = (two_ways_windows("even", 20, 8, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(windows.actions, again.actions)
    assert (windows.actions != other.actions).any()
    samples = windows.samples(np.array([3, 5]))
    np.testing.assert_array_equal(samples[1].actions, windows.actions[5])
    scenes = windows.scenes
    state = np.concatenate([scenes.start[5], scenes.goal[5], scenes.obstacle[5]])
    np.testing.assert_array_equal(samples[1].state, state)
    assert not samples[0].images
    with pytest.raises(ValueError, match="no pictures"):
        windows.truth(np.array([0]))


def test_the_embodiment_travels(tmp_path) -> None:
    TWO_WAYS.save(tmp_path / "embodiment.json")
    assert Embodiment.load(tmp_path / "embodiment.json") == TWO_WAYS


def test_mistakes_are_explained() -> None:
    inside = scene((0.0, 0.0), (0.4, 0.0), (0.05, 0.0))
    with pytest.raises(ValueError, match=r"farther than 0.065 m .* got 0.05"):
        expert_chunks(inside, sides(inside, LEFT), 4)
    with pytest.raises(ValueError, match="0 \\(left\\) and 1 \\(right\\)"):
        way_lengths(draw_scenes(1, 0), np.array([2]), TASK.clearance_m)
    with pytest.raises(ValueError, match="known laws: even, mostly_left, shorter"):
        two_ways_windows("left", 4, 4, 0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="num_scenes must be 1 or more; got 0"):
        draw_scenes(0, 0)
    with pytest.raises(ValueError, match="horizon must be 1 or more rows; got 0"):
        two_ways_windows("even", 4, 0, 0)
