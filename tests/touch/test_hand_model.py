"""The hand as a model: what moves, what a motor gives, how the pads lie."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco
import numpy as np
import pytest

from cerebella.touch.grasp import FINGERS, JOINTS, NUM_JOINTS
from cerebella.touch.hand_model import (
    CLOSED_RAD,
    COUPLING,
    MOTORS,
    OPEN_RAD,
    PAD_FORCE_N,
    hand_spec,
    joint_addresses,
)
from cerebella.touch.objects import SEEN, Shape, shape_of

PLATES = tuple(shape for shape in SEEN if shape.kind == "plate")
AWAY_M = [0.3, 0.0, 0.0]


def closed(model: mujoco.MjModel, at_m: list[float], num_steps: int = 300) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[joint_addresses(model)] = OPEN_RAD
    data.ctrl[:] = CLOSED_RAD
    data.mocap_pos[0] = at_m
    mujoco.mj_step(model, data, num_steps)
    return data


def test_eleven_joints_behind_six_motors() -> None:
    model = hand_spec(PLATES[0]).compile()
    assert (model.nq, model.nv, model.nu) == (NUM_JOINTS, NUM_JOINTS, 6)
    assert [model.joint(name).qposadr[0] for name in JOINTS] == joint_addresses(model).tolist()
    assert [model.actuator(number).name for number in range(model.nu)] == list(MOTORS)
    assert model.neq == len(FINGERS)


@pytest.mark.parametrize("name", ["plate_5x110x50", "disk_8x110", "rod_8x120"])
def test_the_object_in_the_simulation_is_the_one_of_the_signed_distance(name: str) -> None:
    shape = shape_of(name)
    model = hand_spec(shape).compile()
    geom = model.geom("object")
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, geom.quat)
    if shape.kind == "plate":
        corners = geom.size * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    else:  # MuJoCo's cylinders: radius, half length along z
        radius, half_length = geom.size[:2]
        corners = np.array([[radius, 0, half_length], [0, -radius, half_length], [0, radius, -half_length]])
    points = geom.pos + corners @ rotation.reshape(3, 3).T
    np.testing.assert_allclose(shape.signed_distance(points), 0.0, atol=1e-9)
    assert shape.signed_distance(geom.pos[None])[0] == pytest.approx(-shape.thickness_m / 2)


def test_an_empty_hand_closes_all_the_way_and_the_distal_joints_follow() -> None:
    model = hand_spec(PLATES[0]).compile()
    joints = closed(model, AWAY_M, 600).qpos[joint_addresses(model)]
    np.testing.assert_allclose(joints[[0, 1, 3, 5, 7, 9]], CLOSED_RAD, atol=1e-3)
    np.testing.assert_allclose(joints[2::2], COUPLING * joints[1::2], atol=1e-3)


@pytest.mark.parametrize("shape", [PLATES[0], PLATES[-1]], ids=lambda shape: shape.name)
def test_the_pads_lie_flat_on_thin_and_thick_plates(shape: Shape) -> None:
    model = hand_spec(shape).compile()
    data = closed(model, [0.0, 0.0, 0.0])
    for finger in FINGERS:
        tip = data.body(f"{finger}_tip")
        out = tip.xmat.reshape(3, 3)
        facing = -1.0 if finger == "thumb" else 1.0
        np.testing.assert_allclose(np.diag(out), [facing, facing, 1.0], atol=2e-3)  # within 4 degrees
        assert abs(tip.xpos[2]) < 1e-3
        assert tip.xpos[0] * facing == pytest.approx(-(shape.thickness_m / 2 + 6e-3), abs=3e-4)


def test_a_motor_at_its_limit_gives_the_stated_pad_force() -> None:
    model = hand_spec(shape_of("rod_8x120"), force_factor=0.5).compile()
    data = closed(model, [0.0, 0.0, 0.0])
    wrench = np.zeros(6)
    assert data.ncon == len(FINGERS)
    for number in range(data.ncon):
        names = [model.geom(geom).name for geom in data.contact[number].geom]
        finger = next(name for name in names if name != "object").removesuffix("_tip")
        mujoco.mj_contactForce(model, data, number, wrench)
        assert wrench[0] == pytest.approx(0.5 * PAD_FORCE_N[finger], rel=0.01)


def test_tips_that_are_not_rigid_touch_nothing() -> None:
    model = hand_spec(PLATES[0], rigid_tips=False).compile()
    data = closed(model, [0.0, 0.0, 0.0])
    assert data.ncon == 0
    assert (data.qpos[joint_addresses(model)][[3, 5, 7, 9]] > 0.3).all()


def test_a_body_can_be_put_on_a_tip() -> None:
    spec = hand_spec(PLATES[0], rigid_tips=False)
    spec.body("index_tip").add_body(name="pad", pos=[6e-3, 0.0, 0.0])
    model = spec.compile()
    data = closed(model, AWAY_M, 1)
    assert np.linalg.norm(data.body("pad").xpos - data.body("index_tip").xpos) == pytest.approx(6e-3)


def test_a_free_object_has_six_more_degrees_of_freedom_behind_the_hand() -> None:
    model = hand_spec(PLATES[0], held="free").compile()
    assert (model.nq, model.nv, model.nmocap) == (NUM_JOINTS + 7, NUM_JOINTS + 6, 0)
    assert joint_addresses(model).max() < NUM_JOINTS


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="friction must be positive; got -1"):
        hand_spec(PLATES[0], friction=-1)
    with pytest.raises(ValueError, match="timestep_s must be positive; got nan"):
        hand_spec(PLATES[0], timestep_s=float("nan"))
    with pytest.raises(ValueError, match="held must be one of fixed, free; got 'loose'"):
        hand_spec(PLATES[0], held="loose")  # pyright: ignore[reportArgumentType]
