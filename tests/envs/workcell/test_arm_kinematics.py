import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cerebella.envs.workcell.arm_kinematics import (
    FOREARM_M,
    JOINT_HIGH_RAD,
    JOINT_LOW_RAD,
    SHOULDER_HEIGHT_M,
    TOOL_M,
    UPPER_ARM_M,
    forward,
    inverse,
)
from cerebella.geometry import Array, so3_exp, transform

JOINTS = st.tuples(
    *(st.floats(float(low), float(high)) for low, high in zip(JOINT_LOW_RAD, JOINT_HIGH_RAD, strict=True))
).map(np.array)
POSES = st.tuples(
    st.lists(st.floats(-1.2, 1.2), min_size=3, max_size=3), st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3)
).map(lambda numbers: transform(so3_exp(numbers[1]), numbers[0]))


def test_at_zero_the_arm_is_stretched_out_and_the_tool_parallel_to_the_base() -> None:
    expected = transform(np.eye(3), [UPPER_ARM_M + FOREARM_M + TOOL_M, 0.0, SHOULDER_HEIGHT_M])
    np.testing.assert_allclose(forward(np.zeros(6)), expected, atol=1e-15)


@settings(max_examples=200, deadline=None)
@given(JOINTS, JOINTS)
def test_inverse_undoes_forward_from_anywhere(joints: Array, near: Array) -> None:
    assume(np.hypot(*_wrist(joints)[:2]) > 1e-6)  # not above the base, where any base joint would do
    assume(joints[2] > 1e-3)  # a straight elbow fixes its joints to 1e-8 rad only, too little at the end of a range
    pose = forward(joints)
    found, is_reached = inverse(pose, near)
    assert is_reached
    np.testing.assert_allclose(forward(found), pose, atol=2e-6)
    assert (found >= JOINT_LOW_RAD).all()
    assert (found <= JOINT_HIGH_RAD).all()


@settings(max_examples=200, deadline=None)
@given(JOINTS)
def test_the_branch_nearest_to_the_given_joints_is_taken(joints: Array) -> None:
    found, _ = inverse(forward(joints), joints)
    tolerance = 1e-5  # where the wrist or the arm is almost straight, a pose fixes the joints only that well
    if abs(joints[4]) > 1e-3 and joints[2] > 1e-3 and np.hypot(*_wrist(joints)[:2]) > 1e-3:
        np.testing.assert_allclose(found, joints, atol=tolerance)


@settings(max_examples=200, deadline=None)
@given(POSES, JOINTS)
def test_any_pose_gives_joints_within_their_limits_and_tells_the_truth(pose: Array, near: Array) -> None:
    found, is_reached = inverse(pose, near)
    assert (found >= JOINT_LOW_RAD).all()
    assert (found <= JOINT_HIGH_RAD).all()
    assert np.allclose(forward(found), pose, atol=5e-6 if is_reached else 1e-9) == is_reached


def test_a_pose_too_far_away_is_approached_along_the_ray_from_the_shoulder() -> None:
    pose = transform(np.eye(3), [2.0 + TOOL_M, 0.0, SHOULDER_HEIGHT_M])
    found, is_reached = inverse(pose, np.zeros(6))
    assert not is_reached
    np.testing.assert_allclose(found, 0.0, atol=1e-9)


def test_a_straight_wrist_keeps_the_forearm_where_it_was() -> None:
    joints = np.array([0.3, -0.9, 1.4, 0.7, 0.0, -0.2])
    found, is_reached = inverse(forward(joints), joints)
    assert is_reached
    np.testing.assert_allclose(found, joints, atol=1e-9)
    turned = forward(np.array([0.3, -0.9, 1.4, 1.9, 0.0, 2.8]))
    for near in (joints, np.array([0.0, 0.0, 0.0, -1.9, 0.0, -2.8])):
        found, is_reached = inverse(turned, near)
        assert is_reached
        np.testing.assert_allclose(forward(found), turned, atol=1e-9)


def test_rows_are_solved_as_one_by_one() -> None:
    joints = np.random.default_rng(0).uniform(JOINT_LOW_RAD, JOINT_HIGH_RAD, (4, 5, 6))
    poses = forward(joints)
    together, are_reached = inverse(poses, np.zeros(6))
    assert together.shape == (4, 5, 6)
    assert are_reached.all()
    for index in np.ndindex(4, 5):
        np.testing.assert_array_equal(together[index], inverse(poses[index], np.zeros(6))[0])


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"joints_rad must be float64\[\.\.\., 6\]; got \[5\]"):
        forward(np.zeros(5))
    with pytest.raises(ValueError, match="T_base_tool must be finite; got nan"):
        inverse(np.full((4, 4), np.nan), np.zeros(6))


def _wrist(joints: Array) -> Array:
    pose = forward(joints)
    return pose[:3, 3] - TOOL_M * pose[:3, 0]
