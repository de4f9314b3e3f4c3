import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.environment import make_cell
from cerebella.envs.workcell.lego.bins import BIN_CENTRES_M, BIN_HALF_M, WALL_HEIGHT_M, bins_of
from cerebella.envs.workcell.lego.bricks import COLOURS, brick_name, paint
from cerebella.envs.workcell.lego.grasps import free_grips, with_walls
from cerebella.envs.workcell.lego.task import Lego
from cerebella.envs.workcell.lego.workpiece import Bricks
from cerebella.envs.workcell.moves import pointing_down


def test_there_is_a_bin_for_each_colour_and_both_arms_reach_it() -> None:
    assert len(BIN_CENTRES_M) == len(COLOURS)
    cell = make_cell(Lego(2))
    for arm in (cell.left, cell.right):
        for x, y in BIN_CENTRES_M:
            for height_m in (0.08, 0.16):
                assert arm.joints_at(pointing_down([x, y, height_m]))[1]


def test_a_point_is_in_a_bin_between_its_walls_and_not_far_above() -> None:
    x, y = BIN_CENTRES_M[2]
    points = np.array(
        [
            [x, y, 0.01],
            [x + BIN_HALF_M[0] + 0.001, y, 0.01],
            [x, y - BIN_HALF_M[1] + 0.001, 0.01],
            [x, y, WALL_HEIGHT_M + 0.05],
            [0.2, 0.0, 0.01],
        ]
    )
    assert bins_of(points).tolist() == [2, -1, 2, -1, -1]


def test_walls_are_in_the_way_of_fingers() -> None:
    """A brick beside a wall can't be gripped across its width; in the middle of the bin it can."""
    for offset_m, is_free in ((0.0, True), (BIN_HALF_M[0] - 0.016, False)):
        middle = np.array([[BIN_CENTRES_M[0, 0] + offset_m, BIN_CENTRES_M[0, 1], 0.0092]])
        along_y = np.array([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
        brick = Bricks(middle, along_y, np.array([[0.0239, 0.0119, 0.0071]]))
        across = [grip for grip in free_grips(with_walls(brick), 0) if grip.size_m < 0.03 and not grip.others]
        assert bool(across) is is_free


def test_a_brick_weighs_8_g_and_only_its_box_collides() -> None:
    model = make_cell(Lego(2)).model
    body = model.body(brick_name(0))
    assert body.mass[0] == pytest.approx(0.008)
    geoms = np.flatnonzero(model.geom_bodyid == body.id)
    assert len(geoms) == 9
    assert model.geom_contype[geoms].tolist() == [1] + [0] * 8
    paint(model, 0, "green")
    np.testing.assert_allclose(model.geom_rgba[geoms, :3], np.tile(COLOURS["green"], (9, 1)), rtol=1e-6)
