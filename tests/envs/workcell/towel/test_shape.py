import numpy as np
import pytest

pytest.importorskip("mujoco")

from cerebella.envs.workcell.towel.cloth import Towel, flat_grid
from cerebella.envs.workcell.towel.shape import footprint_m2, shape_of
from cerebella.geometry import so3_exp

TOWEL = Towel("red", (0.8, 0.1, 0.1), 0.24, 0.20, 0.05, 2e-5)


def flat() -> np.ndarray:
    return flat_grid(TOWEL.length_m, TOWEL.width_m, 13, 9).reshape(13, 9, 3)


def folded() -> np.ndarray:
    """Rows 0..5 over rows 7..12, a little above them."""
    grid = flat()
    grid[:6] = grid[:6:-1] + np.array([0.0, 0.0, 0.01])
    return grid


def test_a_turned_flat_towel_is_flat() -> None:
    shape = shape_of(flat() @ so3_exp([0.0, 0.0, 0.3]).T + [0.3, 0.1, 0.0], TOWEL)
    assert shape.phase == "flat"
    assert shape.footprint_share == pytest.approx(1.0, abs=0.05)
    assert shape.pair_m == pytest.approx(0.24)


def test_a_fold_has_half_the_area_and_its_corners_together() -> None:
    shape = shape_of(folded(), TOWEL)
    assert shape.phase == "folded"
    assert shape.footprint_share == pytest.approx(0.5)
    assert shape.pair_m == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("reason", ["corner", "height", "other way"])
def test_what_is_not_folded(reason: str) -> None:
    grid = folded()
    if reason == "corner":
        grid[0, 0, 0] -= 0.08  # stays inside the footprint
    elif reason == "height":
        grid[6, 4, 2] = 0.06
    else:  # columns over columns: as small, but the rows are as far apart as before
        grid = flat()
        grid[:, :4] = grid[:, :4:-1] + np.array([0.0, 0.0, 0.01])
    assert shape_of(grid, TOWEL).phase == "crumpled"


def test_a_footprint_does_not_depend_on_the_turn_by_whole_degrees() -> None:
    points = flat().reshape(-1, 3) @ so3_exp([0.0, 0.0, np.radians(33.0)]).T
    assert footprint_m2(points) == pytest.approx(0.048)
