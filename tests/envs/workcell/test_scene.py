# pyright: reportAttributeAccessIssue=false
import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from cerebella.envs.workcell.arm_kinematics import inverse
from cerebella.envs.workcell.cameras import Cameras
from cerebella.envs.workcell.moves import pointing_down
from cerebella.envs.workcell.robot_arm import BENT_RAD
from cerebella.envs.workcell.scene import BASE_POSITION_M, CAMERAS, look_at, room_spec
from cerebella.geometry import so3_exp, so3_log


@pytest.mark.parametrize("yaw_rad", [-np.pi / 2, 0.0, np.pi / 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_both_arms_reach_the_work_area_pointing_down(side, yaw_rad) -> None:
    area = np.stack(np.meshgrid(np.linspace(0.15, 0.42, 7), np.linspace(-0.22, 0.22, 9), [0.02, 0.1]), axis=-1)
    poses = pointing_down(area - BASE_POSITION_M[side], yaw_rad)
    assert inverse(poses, BENT_RAD)[1].all()


def test_a_camera_looks_at_its_target() -> None:
    quat, rotation = look_at([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]), np.zeros(9)
    mujoco.mju_quat2Mat(rotation, quat)
    np.testing.assert_allclose(-rotation.reshape(3, 3)[:, 2], np.array([1, 0, -1]) / np.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(rotation.reshape(3, 3)[:, 0], [0, -1, 0], atol=1e-12)


def test_each_wrist_camera_sees_the_tips_and_the_tool_between_them() -> None:
    model = room_spec().compile()
    data = mujoco.MjData(model)
    data.qpos[model.joint("left_finger_left").qposadr[0]] = data.qpos[model.joint("left_finger_right").qposadr[0]] = (
        0.04
    )
    mujoco.mj_forward(model, data)
    camera = data.camera("left_wrist")
    half_height = np.tan(np.radians(model.camera("left_wrist").fovy[0]) / 2)
    for point in (data.site("left_tool").xpos, *(data.geom(f"left_pad_{end}").xpos for end in ("left", "right"))):
        x, y, z = camera.xmat.reshape(3, 3).T @ (point - camera.xpos)
        assert abs(x / -z) < half_height
        assert -half_height < y / -z < 0.0
        free = np.full(1, -1, dtype=np.int32)
        ray = (point - camera.xpos) / np.linalg.norm(point - camera.xpos)
        distance = mujoco.mj_ray(model, data, camera.xpos, ray, None, 1, model.body("left_hand").id, free)
        assert distance < 0 or distance > np.linalg.norm(point - camera.xpos) - 0.02


def test_pictures_are_refused_in_impossible_sizes_and_backends(monkeypatch) -> None:
    model = room_spec().compile()
    with pytest.raises(ValueError, match=r"16\.\.1024 pixels; got \(8, 224\)"):
        Cameras(model, CAMERAS, (8, 224))
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(ValueError, match="MUJOCO_GL is 'vulkan'; known: egl, osmesa, glfw"):
        Cameras(model, CAMERAS, (224, 224))


def test_a_turned_tool_is_still_far_from_the_half_turn() -> None:
    """At most 120 degrees of axis_angle within the yaws that a symmetric gripper needs."""
    for yaw_rad in np.linspace(-np.pi / 2, np.pi / 2, 9):
        angle = np.linalg.norm(so3_log(so3_exp([0, 0, yaw_rad]) @ so3_exp([0, np.pi / 2, 0])))
        assert angle <= np.radians(120) + 1e-9
