"""How a contact force spreads over the taxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cerebella.touch.fingertip import TIP_SEMI_AXES_M, taxel_positions
from cerebella.touch.grasp import PITCH_M
from cerebella.touch.skin import STIFFNESS_N_PER_M, distribute, press_in

DISTANCES_M = arrays(np.float64, (3, 4, 5), elements=st.floats(-2e-3, 20e-3))
FORCES_N = arrays(np.float64, 3, elements=st.floats(0.0, 50.0))


@given(DISTANCES_M, FORCES_N, st.floats(50.0, 5000.0))
def test_one_shift_carries_the_whole_force(distance_m: np.ndarray, force_n: np.ndarray, stiffness: float) -> None:
    forces = distribute(distance_m, force_n, stiffness)
    assert (forces >= 0.0).all()
    np.testing.assert_allclose(forces.sum(axis=(1, 2)), force_n, rtol=1e-9, atol=1e-9)
    for array, distance in zip(forces, distance_m, strict=True):
        shift = (distance + array / stiffness)[array > 1e-9]
        if shift.size:  # the same for all that are pressed, and short of those that are not
            np.testing.assert_allclose(shift, shift[0], atol=1e-9)
            assert (distance[array == 0.0] >= shift[0] - 1e-9).all()


def test_a_plane_on_the_ellipsoid_makes_the_footprint_of_a_winkler_foundation() -> None:
    """A paraboloid of radii R, S pressed by s has the area 2 pi s sqrt(R S), the force k / pitch^2 * pi s^2 sqrt(R S)."""
    points, _ = taxel_positions()
    force_n = 1.0
    forces = distribute(TIP_SEMI_AXES_M[0] - points[..., 0], np.array(force_n))
    radius_m = np.sqrt(np.prod(np.square(TIP_SEMI_AXES_M[1:])) / TIP_SEMI_AXES_M[0] ** 2)
    shift_m = np.sqrt(force_n * PITCH_M**2 / (STIFFNESS_N_PER_M * np.pi * radius_m))
    area_m2 = 2 * np.pi * shift_m * radius_m
    assert forces.max() / STIFFNESS_N_PER_M == pytest.approx(shift_m, rel=0.1)
    assert (forces > 0.0).sum() * PITCH_M**2 == pytest.approx(area_m2, rel=0.2)
    np.testing.assert_allclose(forces, forces[::-1, ::-1], atol=1e-12)


def test_where_there_is_no_skin_nothing_is_carried() -> None:
    distance_m = np.full((2, 2), np.inf)
    distance_m[0] = 1e-3
    np.testing.assert_allclose(distribute(distance_m, np.array(2.0)), [[1.0, 1.0], [0.0, 0.0]])


def test_a_softer_skin_touches_with_more_taxels() -> None:
    distance_m = TIP_SEMI_AXES_M[0] - taxel_positions()[0][..., 0]
    soft, stiff = (distribute(distance_m, np.array(1.5), stiffness) for stiffness in (300.0, 1200.0))
    assert (soft > 0).sum() > 1.5 * (stiff > 0).sum()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be >= 0 N; got \[-1"):
        distribute(np.zeros((1, 2, 2)), np.array([-1.0]))
    with pytest.raises(ValueError, match=r"must be >= 0 N; got nan"):
        distribute(np.zeros((2, 2)), np.array(np.nan))
    with pytest.raises(ValueError, match="stiffness of a taxel must be positive, N/m; got 0"):
        distribute(np.zeros((2, 2)), np.array(1.0), 0.0)


def test_a_moved_skin_does_not_drape_over_an_edge() -> None:
    """A step of 3 mm under a flat skin: beside it, moved skin has nothing under it, although the step is near."""
    beside_m = np.abs(np.arange(11) - 5.0)[:, None] * PITCH_M * np.ones(9) - 1.5e-3

    def distance_at(shift_m: np.ndarray) -> np.ndarray:
        below_m = 0.2e-3 - shift_m[:, None, None]
        outside_m = np.hypot(np.maximum(beside_m, 0.0), np.maximum(below_m, 0.0))
        return outside_m + np.minimum(np.maximum(beside_m, below_m), 0.0)

    force_n = np.array([20.0])
    moved, draped = press_in(distance_at, force_n), distribute(distance_at(np.zeros(1)), force_n)
    assert moved.sum() == pytest.approx(20.0)
    assert np.flatnonzero(moved[0, :, 4]).tolist() == [4, 5, 6]
    assert np.flatnonzero(draped[0, :, 4]).tolist() == [3, 4, 5, 6, 7]
