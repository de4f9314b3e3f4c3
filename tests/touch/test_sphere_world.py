"""The sphere world as a world: grasps that repeat, rest, carry what the motors give, and look like those of the
skin."""
# pyright: reportPrivateUsage=false

import numpy as np
import pytest

from cerebella.geometry import Array
from cerebella.touch.grasp import Grasp
from cerebella.touch.hand_model import PAD_FORCE_N
from cerebella.touch.objects import shape_of
from cerebella.touch.skin_world import SkinWorld
from cerebella.touch.sphere_world import SphereWorld

ROD, THIN_PLATE, DISK = (shape_of(name) for name in ("rod_8x120", "plate_3x120x60", "disk_8x110"))
MOTORS_N = np.array(list(PAD_FORCE_N.values()))


@pytest.fixture(scope="module")
def world() -> SphereWorld:
    return SphereWorld()


def moved(z_m: float) -> Array:
    T_wrist_object = np.eye(4)
    T_wrist_object[2, 3] = z_m
    return T_wrist_object


def row_of_pressure(grasp: Grasp) -> Array:
    rows = grasp.forces.sum(axis=2)
    return (rows * np.arange(11)).sum(axis=1) / rows.sum(axis=1)


def test_the_same_arguments_give_the_same_numbers(world: SphereWorld):
    first = world.grasp(ROD, np.eye(4))
    world.grasp(ROD, moved(3e-3))
    for again in (world.grasp(ROD, np.eye(4)), SphereWorld().grasp(ROD, np.eye(4))):
        assert (again.forces == first.forces).all()
        assert (again.joints == first.joints).all()
        assert (again.tip_forces == first.tip_forces).all()


@pytest.mark.parametrize("shape", [ROD, THIN_PLATE, DISK], ids=lambda shape: shape.name)
def test_the_springs_carry_what_the_motors_give(world: SphereWorld, shape):
    for z_m in (0.0, -3e-3):
        grasp = world.grasp(shape, moved(z_m))
        carried_n = grasp.forces.sum(axis=(1, 2))
        on_pad = np.array([True, shape is not DISK, True, True, shape is not DISK])  # the rim leaves the outer arrays
        assert np.allclose(carried_n[on_pad], MOTORS_N[on_pad], rtol=0.15)
        assert grasp.in_contact[on_pad].all()


def test_an_object_nearer_to_the_finger_ends_is_felt_there(world: SphereWorld):
    nearer = row_of_pressure(world.grasp(ROD, moved(2e-3))) - row_of_pressure(world.grasp(ROD, moved(0.0)))
    assert np.allclose(nearer, -2.0 / 1.1, atol=0.4)  # row 0 is at the end


def test_what_is_out_of_reach_of_the_fingers_is_not_felt(world: SphereWorld):
    grasp = world.grasp(ROD, moved(45e-3))
    assert not grasp.in_contact.any()
    assert np.abs(grasp.forces).max() < 1e-3


def test_a_grasp_has_come_to_rest(world: SphereWorld):
    for shape in (ROD, THIN_PLATE):
        read = world.grasp(shape, moved(1e-3)).forces
        later = world._hands[shape].settle(600.0)
        assert np.abs(later - read).max() < 1e-3


def test_images_are_those_of_the_skin(world: SphereWorld):
    skin = SkinWorld()
    for shape, at_least in ((ROD, 0.97), (THIN_PLATE, 0.85)):
        pairs = zip(world.grasp(shape, moved(-1e-3)).forces, skin.grasp(shape, moved(-1e-3)).forces, strict=True)
        assert min(np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs) > at_least


def test_a_soft_pad_lets_the_fingers_close_more(world: SphereWorld):
    soft = SphereWorld(stiffness_n_per_m=300.0).grasp(ROD, np.eye(4))
    assert (soft.joints[3::2] > world.grasp(ROD, np.eye(4)).joints[3::2] + 1e-3).all()


def test_bad_arguments_are_named(world: SphereWorld):
    with pytest.raises(ValueError, match=r"within 0\.05 m of the pinch point; got 0\.060 m"):
        world.grasp(ROD, moved(60e-3))
    with pytest.raises(ValueError, match="last row"):
        world.grasp(ROD, 2.0 * np.eye(4))
    with pytest.raises(ValueError, match="force_factor must be positive; got 0"):
        SphereWorld(force_factor=0.0)
    with pytest.raises(ValueError, match="radius_m must be below"):
        SphereWorld(sphere_radius_m=5e-3)
