"""Where the taxels sit."""

import numpy as np
import pytest

from cerebella.touch.fingertip import TIP_SEMI_AXES_M, taxel_positions
from cerebella.touch.grasp import NUM_COLUMNS, NUM_ROWS, PITCH_M


@pytest.mark.parametrize("semi_axes_m", [TIP_SEMI_AXES_M, (5e-3, 8.5e-3, 12.5e-3)])
@pytest.mark.parametrize("finger", ["thumb", "ring"])
def test_the_taxels_lie_on_the_ellipsoid_and_look_outwards(
    finger: str, semi_axes_m: tuple[float, float, float]
) -> None:
    points, normals = taxel_positions(finger, semi_axes_m, offset_m=(0.4e-3, -0.5e-3))
    assert points.shape == normals.shape == (NUM_ROWS, NUM_COLUMNS, 3)
    np.testing.assert_allclose(((points / semi_axes_m) ** 2).sum(-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1.0, rtol=1e-12)
    # A step along the normal leaves the ellipsoid the fastest way: no tangent along rows or columns has a part of it.
    for axis in (0, 1):
        middle = np.delete(np.delete(normals, 0, axis), -1, axis)
        tangent = np.delete(np.delete(np.roll(points, -1, axis) - np.roll(points, 1, axis), 0, axis), -1, axis)
        assert np.abs((middle * tangent).sum(-1)).max() < 0.1 * PITCH_M
    assert (normals[..., 0] > 0.7).all()


def test_rows_run_from_the_end_and_columns_along_the_wrist_s_y() -> None:
    points, _ = taxel_positions("index")
    np.testing.assert_allclose(np.diff(points[..., 2], axis=0), -PITCH_M)
    np.testing.assert_allclose(np.diff(points[..., 1], axis=1), PITCH_M)
    np.testing.assert_allclose(points[5, 4], [TIP_SEMI_AXES_M[0], 0.0, 0.0], atol=1e-15)
    thumb, _ = taxel_positions("thumb")
    np.testing.assert_allclose(thumb, points[:, ::-1], atol=1e-15)  # its y is the wrist's -y


def test_beyond_the_array_the_skin_goes_on_and_ends_with_the_ellipsoid() -> None:
    points, normals = taxel_positions("index", num_beyond=6)
    assert points.shape == (NUM_ROWS + 12, NUM_COLUMNS + 12, 3)
    np.testing.assert_allclose(points[6:-6, 6:-6], taxel_positions("index")[0], atol=1e-15)
    ended = (points[..., 1] / TIP_SEMI_AXES_M[1]) ** 2 + (points[..., 2] / TIP_SEMI_AXES_M[2]) ** 2 >= 1.0
    assert ended[0, 0]
    assert not ended[0, 10]
    np.testing.assert_array_equal(np.isnan(points[..., 0]), ended)
    np.testing.assert_array_equal(np.isnan(normals).any(-1), ended)
