import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.lego.assemblies import draw_assembly, overlaps, stand
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M, BIN_HALF_M
from cerebella.envs.workcell.lego.bricks import HEIGHT_M, STUD_M, half_sizes_m
from cerebella.envs.workcell.lego.grasps import boxes_meet, free_grips
from cerebella.envs.workcell.lego.handling import is_reachable
from cerebella.envs.workcell.lego.joints import pieces
from cerebella.envs.workcell.lego.pairs import pair_grips
from cerebella.envs.workcell.lego.task import Lego
from cerebella.envs.workcell.lego.workpiece import bricks_now

LENGTHS = st.sampled_from([(4, 4), (4,) * 5, (4,) * 10, (4, 4, 4, 3, 3, 2)])


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 10**6))
def test_an_assembly_is_one_piece_without_overlap_in_its_room(lengths, seed: int) -> None:
    plan = draw_assembly(lengths, 16, 5, np.random.default_rng(seed))
    assert tuple(place.length for place in plan) == lengths
    studs = [(place.layer, stud) for place in plan for stud in range(place.first, place.end)]
    assert len(studs) == len(set(studs))
    assert max(place.layer for place in plan) < 5
    assert max(place.end for place in plan) - min(place.first for place in plan) <= 16
    pairs = overlaps(plan)
    assert pieces(len(plan), np.array(pairs)) == [list(range(len(plan)))]
    free_studs = [0] * len(plan)
    for lower, upper in pairs:
        low, high = plan[lower].shared(plan[upper])
        assert high - low >= 2
        free_studs[upper] = max(free_studs[upper], low - plan[lower].first, plan[lower].end - high)
    assert all(free_studs[upper] >= 2 for _, upper in pairs)


@settings(max_examples=20, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 10**6), yaw_rad=st.floats(-0.5, 0.5))
def test_standing_bricks_do_not_meet_and_joints_sit_between_them(lengths, seed: int, yaw_rad: float) -> None:
    plan = draw_assembly(lengths, 16, 5, np.random.default_rng(seed))
    poses, anchors_m = stand(plan, [0.25, 0.02], yaw_rad)
    middles = np.array([T[:3, 3] for T in poses])
    half = np.array([half_sizes_m(length) for length in lengths])
    rotations = np.array([T[:3, :3] for T in poses])
    meets = boxes_meet(middles[:, None], rotations[:, None], half[:, None], middles, rotations, half)
    np.testing.assert_array_equal(meets, np.eye(len(plan), dtype=bool))
    assert min(middles[:, 2] - half[:, 2]) == pytest.approx(0.0, abs=1e-9)
    for (i, j), anchor_m in zip(overlaps(plan), anchors_m, strict=True):
        for number, side in ((i, 1.0), (j, -1.0)):
            inside = poses[number][:3, :3].T @ (anchor_m - middles[number])
            assert inside[2] == pytest.approx(side * HEIGHT_M / 2)
            assert abs(inside[0]) < lengths[number] * STUD_M / 2


ENVIRONMENT = WorkcellEnvironment(Lego(5), with_images=False)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_both_arms_reach_a_first_pair_and_some_arm_every_free_brick(seed: int) -> None:
    ENVIRONMENT.reset(seed)
    cell, episode = ENVIRONMENT.cell, ENVIRONMENT.episode
    bricks = bricks_now(cell, episode)
    pairs = pair_grips(bricks, episode, episode.joined_pairs(cell), {})
    assert any(is_reachable(cell.left, pair.left) and is_reachable(cell.right, pair.right) for pair in pairs)
    top = int(bricks.positions_m[:, 2].argmax())
    for arm in (cell.left, cell.right):
        assert any(is_reachable(arm, grip) for grip in free_grips(bricks, top) if not grip.others)
    corners = bricks.positions_m[:, :2].max(axis=0)
    assert corners[0] < BIN_CENTRES_M[0, 0] - BIN_HALF_M[0] - 0.024


def test_the_same_seed_draws_the_same_and_others_differ() -> None:
    def draw(seed: int):
        return draw_assembly((4,) * 5, 14, 4, np.random.default_rng(seed))

    assert draw(3) == draw(3)
    assert len({draw(seed) for seed in range(30)}) > 20


def test_too_many_bricks_for_the_room_are_refused() -> None:
    with pytest.raises(ValueError, match="no assembly of 5 bricks"):
        draw_assembly((4,) * 5, 4, 2, np.random.default_rng(0))
