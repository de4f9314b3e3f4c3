"""The sprung pad: where the spheres are, and which loads its springs and its core carry."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco
import numpy as np
import pytest

from cerebella.touch.fingertip import TIP_SEMI_AXES_M, taxel_positions
from cerebella.touch.press import Indenter, press
from cerebella.touch.sphere_pad import SphereParameters, add_pad, set_options, spring_addresses, spring_forces


def pad_spec() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    set_options(spec)
    spec.worldbody.add_body(name="thumb_tip")
    ball = spec.worldbody.add_body(pos=[0.1, 0.0, 0.0]).add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0.0, 0.0]
    )
    ball.name = "object"
    return spec


def test_every_taxel_is_a_sphere_that_touches_the_surface_from_inside():
    spec = pad_spec()
    add_pad(spec, "thumb", SphereParameters(radius_m=0.3e-3), touching=1)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    points, _ = taxel_positions("thumb")
    centres = np.array([[data.geom(f"thumb_{row}_{column}").xpos for column in range(9)] for row in range(11)])
    assert np.allclose(np.linalg.norm(points - centres, axis=-1), 0.3e-3)
    around = np.random.default_rng(0).normal(size=(300, 3))
    around /= np.linalg.norm(around, axis=-1, keepdims=True)
    surface = (centres[..., None, :] + 0.3e-3 * around) / np.array(TIP_SEMI_AXES_M)
    assert (np.linalg.norm(surface, axis=-1) <= 1.0 + 1e-9).all()
    assert len(np.unique(spring_addresses(model, "thumb"))) == 99


def test_a_spring_that_is_pushed_in_reads_positive():
    spec = pad_spec()
    add_pad(spec, "thumb", SphereParameters(), touching=1)
    model = spec.compile()
    data = mujoco.MjData(model)
    addresses = spring_addresses(model, "thumb")
    data.qpos[addresses[3, 7]] = -0.5e-3
    forces = spring_forces(data, addresses, 600.0)
    assert forces[3, 7] == pytest.approx(0.3)
    assert np.count_nonzero(forces) == 1


def test_the_core_carries_what_the_springs_cannot():
    forces = press("spheres", Indenter("sphere", 8e-3), 30.0)
    assert 10.0 < forces.sum() < 16.0  # the sphere is 1.2 mm deep, however hard it is pressed
    assert press("spheres", Indenter("sphere", 8e-3), 60.0).sum() == pytest.approx(forces.sum(), rel=0.05)


def test_a_stiffer_skin_has_a_smaller_footprint():
    soft, stiff = (
        press("spheres", Indenter("flat"), 2.0, parameters=SphereParameters(stiffness_n_per_m=stiffness))
        for stiffness in (300.0, 1200.0)
    )
    assert (soft > 1e-3).sum() > 1.5 * (stiff > 1e-3).sum()
    assert soft.sum() == pytest.approx(stiff.sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stiffness_n_per_m": 0.0}, "stiffness_n_per_m must be positive"),
        ({"damping_ratio": -1.0}, "damping_ratio must be positive"),
        ({"friction": float("nan")}, "friction must be positive"),
        ({"radius_m": 2e-3}, "radius_m must be below"),
    ],
)
def test_wrong_parameters_are_named(wrong: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        SphereParameters(**wrong)


def test_an_array_beside_the_tip_is_refused():
    with pytest.raises(ValueError, match="does not fit on the fingertip"):
        add_pad(pad_spec(), "thumb", SphereParameters(), touching=1, offset_m=(5e-3, 0.0))
