import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from cerebella.envs.workcell.arm_kinematics import JOINT_HIGH_RAD, JOINT_LOW_RAD, forward  # noqa: E402
from cerebella.envs.workcell.arm_model import MAX_TORQUE_NM, joint_names  # noqa: E402
from cerebella.envs.workcell.scene import BASE_POSITION_M, room_spec  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return room_spec().compile()


@pytest.mark.parametrize("side", ["left", "right"])
def test_forward_kinematics_is_that_of_mujoco(model, side) -> None:
    data = mujoco.MjData(model)
    addresses = [model.joint(name).qposadr[0] for name in joint_names(side)]
    for joints in np.random.default_rng(1).uniform(JOINT_LOW_RAD, JOINT_HIGH_RAD, (50, 6)):
        data.qpos[addresses] = joints
        mujoco.mj_kinematics(model, data)
        tool, pose = data.site(f"{side}_tool"), forward(joints)
        np.testing.assert_allclose(tool.xpos - BASE_POSITION_M[side], pose[:3, 3], atol=1e-12)
        np.testing.assert_allclose(tool.xmat.reshape(3, 3), pose[:3, :3], atol=1e-12)


def test_the_servos_hold_their_own_weight_and_a_payload_stretched_out(model) -> None:
    """1.5 kg at the tool bend the stretched arm by less than 1.5 cm, within the torque limits."""
    data = mujoco.MjData(model)
    data.qpos[[model.joint(f"right_joint_{i}").qposadr[0] for i in (1, 2)]] = -1.0  # out of the way
    data.ctrl[[model.actuator(f"right_joint_{i}").id for i in (1, 2)]] = -1.0
    for _ in range(300):
        mujoco.mj_step(model, data)
    unloaded = data.site("left_tool").xpos[2]
    assert abs(unloaded - 0.18) < 1e-4
    data.xfrc_applied[model.body("left_hand").id, 2] = -1.5 * 9.81
    for _ in range(300):
        mujoco.mj_step(model, data)
    assert 0.0 < unloaded - data.site("left_tool").xpos[2] < 0.015
    servos = [model.joint(name).dofadr[0] for name in joint_names("left")]
    assert (np.abs(data.qfrc_actuator[servos]) < MAX_TORQUE_NM).all()


def test_light_casts_no_shadow_and_nothing_costly_is_on(model) -> None:
    assert not model.light_castshadow.any()
    assert model.vis.quality.offsamples == 0
    assert model.ngeom < 60
    assert model.nmesh == 0
