"""Grasps of the skin world: forces, footprints, repeats."""

import numpy as np
import pytest

from cerebella.geometry import Array, so3_exp, transform
from cerebella.touch.grasp import FINGERS, Grasp, pose_error
from cerebella.touch.hand_model import PAD_FORCE_N
from cerebella.touch.objects import SEEN, shape_of
from cerebella.touch.sampling import sample_poses
from cerebella.touch.skin_world import SkinWorld

PLATE, DISK, ROD = shape_of("plate_5x110x50"), shape_of("disk_8x110"), shape_of("rod_8x120")
THUMB, INDEX, MIDDLE, RING, LITTLE = range(5)
WORLD = SkinWorld()


def pose(y_m: float = 0.0, z_m: float = 0.0, roll_rad: float = 0.0) -> Array:
    return transform(so3_exp([roll_rad, 0.0, 0.0]), [0.0, y_m, z_m])


def rows(grasp: Grasp) -> Array:
    """float64[5]: the mean row of every finger's image."""
    total = grasp.forces.sum(axis=(1, 2))
    return (grasp.forces.sum(axis=2) @ np.arange(11.0)) / total


@pytest.mark.parametrize("shape", SEEN, ids=lambda shape: shape.name)
def test_in_the_nominal_grasp_all_five_pads_press(shape) -> None:
    grasp = WORLD.grasp(shape, np.eye(4))
    assert grasp.in_contact.all()
    np.testing.assert_allclose(grasp.tip_forces, [PAD_FORCE_N[finger] for finger in FINGERS], rtol=0.05)
    if shape.kind != "disk":  # the outer fingers hold a disk near the border of their arrays
        np.testing.assert_allclose(grasp.forces.sum(axis=(1, 2)), grasp.tip_forces, rtol=1e-5)


def test_only_taxels_on_the_plate_are_pressed() -> None:
    forces = WORLD.grasp(PLATE, pose()).forces
    assert (forces[:, 2:5].max(axis=(1, 2)) > 0.05).all()
    assert forces[:, 7:].max() == 0.0  # the edge crosses the middle, row 5; row 0 is at the finger's end, on the plate


def test_a_rod_is_where_it_is() -> None:
    for z_m in (-2e-3, 0.0, 2e-3):
        np.testing.assert_allclose(rows(WORLD.grasp(ROD, pose(z_m=z_m))), 5.0 - 0.7 * z_m / 1e-3, atol=0.35)


def test_a_turned_edge_is_felt_across_the_fingers_and_within_the_thumb() -> None:
    # a positive turn about x lifts the little finger's side; 0.6 mm up the edge crosses a row of the thumb's taxels
    grasp = WORLD.grasp(PLATE, pose(z_m=0.6e-3, roll_rad=0.1))
    assert rows(grasp)[INDEX] > rows(grasp)[MIDDLE] > rows(grasp)[RING] > rows(grasp)[LITTLE]
    sides = [grasp.forces[THUMB, :, columns].sum(axis=1) for columns in (slice(0, 4), slice(5, 9))]
    towards_index, towards_little = (side @ np.arange(11.0) / side.sum() for side in sides)
    assert towards_index > towards_little + 0.2


def test_a_disk_that_moves_sideways_is_felt_mirrored() -> None:
    right, left = WORLD.grasp(DISK, pose(y_m=2e-3)).forces, WORLD.grasp(DISK, pose(y_m=-2e-3)).forces
    for finger, opposite in ((THUMB, THUMB), (INDEX, LITTLE), (MIDDLE, RING)):
        image, mirrored = right[finger], left[opposite][:, ::-1]
        weight = np.arange(11.0) @ image.sum(axis=1) / image.sum()
        assert weight == pytest.approx(np.arange(11.0) @ mirrored.sum(axis=1) / mirrored.sum(), abs=0.15)
        across = np.arange(9.0) @ image.sum(axis=0) / image.sum()
        assert across == pytest.approx(np.arange(9.0) @ mirrored.sum(axis=0) / mirrored.sum(), abs=0.15)


def test_what_lies_beside_the_array_is_not_felt() -> None:
    partly = WORLD.grasp(PLATE, pose(z_m=5e-3))
    assert (partly.forces.sum(axis=(1, 2)) < 0.8 * partly.tip_forces).all()
    assert partly.in_contact.all()
    beside = WORLD.grasp(PLATE, pose(z_m=8e-3))
    assert (beside.tip_forces > 1.0).all()
    assert not beside.in_contact.any()


def test_out_of_reach_the_hand_closes_on_nothing() -> None:
    grasp = WORLD.grasp(ROD, pose(z_m=0.045))
    assert grasp.forces.max() == 0.0
    assert grasp.tip_forces.max() == 0.0
    assert grasp.joints[3] == pytest.approx(0.6, abs=1e-3)


def test_the_same_arguments_give_the_same_numbers_whatever_came_before() -> None:
    T_wrist_object = pose(1e-3, -2e-3, 0.05)
    first = WORLD.grasp(DISK, T_wrist_object)
    WORLD.grasp(DISK, pose(z_m=3e-3))
    again, elsewhere = WORLD.grasp(DISK, T_wrist_object), SkinWorld().grasp(DISK, T_wrist_object)
    for other in (again, elsewhere):
        np.testing.assert_array_equal(first.forces, other.forces)
        np.testing.assert_array_equal(first.joints, other.joints)


def test_at_rest_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in (PLATE, DISK, ROD):
        T_wrist_object = pose(z_m=1e-3, roll_rad=0.1)
        early = WORLD.grasp(shape, T_wrist_object)
        with monkeypatch.context() as patched:
            patched.setattr("cerebella.touch.skin_world._CLOSE_STEPS", 600)
            late = WORLD.grasp(shape, T_wrist_object)
        np.testing.assert_allclose(early.joints, late.joints, atol=1e-5)
        np.testing.assert_allclose(early.forces, late.forces, atol=1e-4)


@pytest.mark.parametrize("kind", ["plate", "disk", "rod"])
def test_random_grasps_are_in_contact(kind: str) -> None:
    rng = np.random.default_rng(0)
    grasps = [
        WORLD.grasp(shape, T_wrist_object)
        for shape in SEEN
        if shape.kind == kind
        for T_wrist_object in sample_poses(shape, 8, rng)
    ]
    num_in_contact = np.array([grasp.in_contact.sum() for grasp in grasps])
    assert (num_in_contact >= 3).mean() > 0.9
    assert (num_in_contact == 5).mean() > 0.5


def test_a_random_hand_feels_something_else() -> None:
    nominal = WORLD.grasp(PLATE, pose())
    soft = SkinWorld(stiffness_n_per_m=300.0).grasp(PLATE, pose())
    assert (soft.forces > 0).sum() > 1.2 * (nominal.forces > 0).sum()
    flat = SkinWorld(curvature_factor=0.8).grasp(PLATE, pose())
    assert (flat.forces > 0).sum() > (nominal.forces > 0).sum()
    moved = SkinWorld(array_z_m=1.1e-3).grasp(PLATE, pose())
    np.testing.assert_allclose(moved.forces[:, 1:], nominal.forces[:, :-1], atol=1e-6)  # by one row
    strong = SkinWorld(force_factor=1.2).grasp(PLATE, pose())
    np.testing.assert_allclose(strong.tip_forces, 1.2 * nominal.tip_forces, rtol=0.01)


def test_a_free_object_stays_between_the_fingers_and_may_move() -> None:
    grasp = SkinWorld(held="free").grasp(shape_of("plate_7x120x70"), pose())
    distance_m, angle_rad = pose_error(grasp.T_wrist_object, pose())
    assert 1e-5 < distance_m < 1e-3
    assert angle_rad < 0.05
    assert grasp.in_contact.all()
    assert grasp.tip_forces[THUMB] == pytest.approx(grasp.tip_forces[1:].sum(), rel=0.02)  # nothing else holds it


def test_friction_decides_whether_a_free_object_slips() -> None:
    slips, stays = (
        SkinWorld(held="free", friction=friction).grasp(PLATE, pose(z_m=6e-3)).T_wrist_object
        for friction in (0.05, 1.0)
    )
    assert pose_error(slips, pose(z_m=6e-3))[0] > 3.0 * pose_error(stays, pose(z_m=6e-3))[0]


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"within 0.05 m of the pinch point; got 0.060 m"):
        WORLD.grasp(PLATE, pose(z_m=0.06))
    with pytest.raises(ValueError, match="must be orthonormal"):
        WORLD.grasp(PLATE, np.diag([2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="stiffness_n_per_m must be positive; got 0"):
        SkinWorld(stiffness_n_per_m=0.0)
    with pytest.raises(ValueError, match="force_factor must be positive; got -1"):
        SkinWorld(force_factor=-1.0)
    with pytest.raises(ValueError, match=r"0.005 m, 0.0 m off \(y, z\) does not fit"):
        SkinWorld(array_y_m=5e-3)
    with pytest.raises(ValueError, match="held must be one of fixed, free; got 'tight'"):
        SkinWorld(held="tight")  # pyright: ignore[reportArgumentType]
