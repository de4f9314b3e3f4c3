"""Both tactile worlds against the formula for a skin of springs: total force, footprint, centre of pressure."""

from typing import get_args

import numpy as np
import pytest

from cerebella.touch.fingertip import TIP_SEMI_AXES_M
from cerebella.touch.grasp import PITCH_M
from cerebella.touch.press import Indenter, World, expected, footprint_of, press
from cerebella.touch.skin import STIFFNESS_N_PER_M

LOADS_N = (1.0, 2.0, 4.0)
PRESSES = (
    Indenter("flat"),
    Indenter("flat", tilt_rad=0.05),
    Indenter("flat", tilt_rad=-0.03),
    Indenter("sphere", 8e-3, y_m=0.7e-3, z_m=-1.2e-3),
    Indenter("sphere", 12e-3),
    Indenter("sphere", 20e-3, y_m=-1.0e-3, z_m=0.4e-3),
    Indenter("edge", 3e-3),
    Indenter("edge", 4e-3, z_m=0.55e-3),
    Indenter("edge", 5e-3, z_m=-1.1e-3),
    Indenter("edge", 8e-3, z_m=1.1e-3),
)
WORLDS: tuple[World, ...] = get_args(World)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("indenter", PRESSES, ids=lambda indenter: f"{indenter.kind}_{1e3 * indenter.size_m:g}mm")
@pytest.mark.parametrize("load_n", LOADS_N)
def test_a_press_is_as_the_formula_says(world: World, indenter: Indenter, load_n: float):
    theory = expected(indenter, load_n, stiffness_n_per_m=STIFFNESS_N_PER_M)
    felt = footprint_of(press(world, indenter, load_n))
    assert felt.force_n == pytest.approx(load_n, rel=1e-3 if world == "spheres" else 1e-2)
    assert felt.area_m2 == pytest.approx(theory.area_m2, rel=0.2)
    assert np.hypot(felt.y_m - theory.y_m, felt.z_m - theory.z_m) < PITCH_M / 2


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("thickness_m", [3e-3, 4e-3, 5e-3])
def test_an_edge_between_two_rows_is_right_on_average(world: World, thickness_m: float):
    """A counted area jumps by a row while the edge moves by a pitch. So: all places, one load; none off by more than a
    row."""
    ratios = []
    for z_m in PITCH_M * (np.arange(5) / 5 - 0.4):
        indenter = Indenter("edge", thickness_m, z_m=z_m)
        theory = expected(indenter, 2.0, stiffness_n_per_m=STIFFNESS_N_PER_M)
        felt = footprint_of(press(world, indenter, 2.0))
        assert np.hypot(felt.y_m - theory.y_m, felt.z_m - theory.z_m) < PITCH_M / 2
        ratios.append(felt.area_m2 / theory.area_m2)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.15)
    assert np.abs(np.array(ratios) - 1.0).max() < 1.1 * PITCH_M / thickness_m


@pytest.mark.parametrize("radius_m", [None, 10e-3])
def test_a_small_footprint_is_the_closed_form(radius_m: float | None):
    semi_x, semi_y, semi_z = TIP_SEMI_AXES_M
    curved = 0.0 if radius_m is None else 1.0 / radius_m
    indenter = Indenter("flat") if radius_m is None else Indenter("sphere", radius_m)
    sums = np.sqrt((semi_x / semi_y**2 + curved) * (semi_x / semi_z**2 + curved))
    area_m2 = np.sqrt(4 * np.pi * 1.0 / (STIFFNESS_N_PER_M / PITCH_M**2 * sums))
    assert expected(indenter, 1.0, stiffness_n_per_m=STIFFNESS_N_PER_M).area_m2 == pytest.approx(area_m2, rel=0.03)


def test_the_formula_carries_the_load_and_knows_its_edges():
    narrow, wide = (expected(Indenter("edge", t), 2.0, stiffness_n_per_m=STIFFNESS_N_PER_M) for t in (3e-3, 30e-3))
    flat = expected(Indenter("flat"), 2.0, stiffness_n_per_m=STIFFNESS_N_PER_M)
    assert narrow.force_n == pytest.approx(2.0)
    assert narrow.area_m2 < 0.7 * flat.area_m2
    assert wide == flat


@pytest.mark.parametrize("world", WORLDS)
def test_a_press_repeats_bit_by_bit_and_has_come_to_rest(world: World):
    indenter = Indenter("edge", 4e-3, z_m=0.5e-3)
    early, late = (press(world, indenter, 3.0, duration_s=duration_s) for duration_s in (0.5, 1.0))
    assert np.abs(late - early).max() < 1e-5
    assert (press(world, indenter, 3.0, duration_s=0.5) == early).all()


@pytest.mark.parametrize("load_n", LOADS_N)
def test_edges_of_two_millimetres_do_not_cut_through_the_spheres(load_n: float):
    for z_m in (0.0, 0.55e-3):
        assert press("spheres", Indenter("edge", 2e-3, z_m=z_m), load_n).sum() == pytest.approx(load_n, rel=1e-2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "cone"}, "unknown indenter 'cone'; known: flat, edge, sphere"),
        ({"kind": "edge"}, "size_m of an edge must be positive"),
        ({"kind": "sphere", "size_m": 5e-3, "tilt_rad": 0.1}, "only a plane tilts"),
    ],
)
def test_wrong_indenters_are_named(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Indenter(**wrong)


def test_wrong_presses_are_named():
    with pytest.raises(ValueError, match="unknown world 'rubber'; known: skin, spheres"):
        press("rubber", Indenter("flat"), 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="load must be positive, newtons; got 0"):
        press("skin", Indenter("flat"), 0.0)
