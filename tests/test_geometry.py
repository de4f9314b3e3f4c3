"""Geometry against closed forms, and the group axioms as properties, with angles near 0 and near pi."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella import geometry as g

UNIT = st.floats(-1.0, 1.0, allow_nan=False)
ANGLES = st.one_of(
    st.floats(0.0, np.pi),
    st.floats(-9.0, -3.0).map(lambda exponent: 10.0**exponent),  # near 0
    st.floats(-12.0, -3.0).map(lambda exponent: np.pi - 10.0**exponent),  # near pi
    st.sampled_from([0.0, np.pi / 2, np.pi]),
)


@st.composite
def axis_angles(draw: st.DrawFn) -> g.Array:
    axis = np.array([draw(UNIT), draw(UNIT), draw(UNIT)])
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-3 else np.array([0.0, 0.0, 1.0])
    return axis * draw(ANGLES)


@st.composite
def poses(draw: st.DrawFn) -> g.Array:
    position = np.array([draw(UNIT), draw(UNIT), draw(UNIT)])
    return g.transform(g.so3_exp(draw(axis_angles())), 2.0 * position)


@given(axis_angles())
def test_exp_is_a_rotation_and_log_undoes_it(axis_angle: g.Array) -> None:
    rotation = g.so3_exp(axis_angle)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    log = g.so3_log(rotation)
    np.testing.assert_allclose(g.so3_exp(log), rotation, atol=1.5e-6)
    angle = np.linalg.norm(axis_angle)
    if 2e-6 < angle < np.pi - 1e-7:  # at pi itself the axis has two right signs
        np.testing.assert_allclose(log, axis_angle, atol=1e-8)


@given(axis_angles())
def test_log_stays_within_pi_and_the_inverse_is_the_negative(axis_angle: g.Array) -> None:
    log = g.so3_log(g.so3_exp(axis_angle))
    assert np.linalg.norm(log) <= np.pi + 1e-12
    if np.linalg.norm(axis_angle) < np.pi - 1e-7:
        np.testing.assert_allclose(g.so3_log(g.so3_exp(axis_angle).T), -log, atol=1e-8)


@pytest.mark.parametrize(
    "axis", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.6, -0.8, 0.0], [-1.0, 2.0, 2.0]]
)
@pytest.mark.parametrize("gap_rad", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3])
def test_log_near_pi(axis: list[float], gap_rad: float) -> None:
    direction = np.array(axis) / np.linalg.norm(axis)
    log = g.so3_log(g.so3_exp(direction * (np.pi - gap_rad)))
    assert np.linalg.norm(log) == pytest.approx(np.pi - gap_rad, abs=1e-12)
    assert abs(log @ direction) == pytest.approx(np.pi - gap_rad, abs=1e-10)  # right axis, either sign at pi
    if gap_rad >= 1e-9:
        np.testing.assert_allclose(log, direction * (np.pi - gap_rad), atol=1e-10)


def test_log_below_a_microradian_is_exactly_zero() -> None:
    assert (g.so3_log(g.so3_exp([5e-7, -5e-7, 0.0])) == 0.0).all()
    assert g.so3_log(g.so3_exp([0.0, 3e-6, 0.0]))[1] == pytest.approx(3e-6)


def test_quarter_turns_go_the_right_way() -> None:
    about_z = g.so3_exp([0.0, 0.0, np.pi / 2])
    np.testing.assert_allclose(about_z @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(g.matrix_from_quat_xyzw([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)]), about_z, atol=1e-15)
    np.testing.assert_allclose(g.rot6d_from_matrix(about_z), [0.0, 1.0, 0.0, -1.0, 0.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(g.skew([1.0, 2.0, 3.0]) @ [4.0, 5.0, 6.0], np.cross([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))


@given(axis_angles())
def test_quaternion_and_rot6d_round_trips(axis_angle: g.Array) -> None:
    rotation = g.so3_exp(axis_angle)
    quat = g.quat_xyzw_from_matrix(rotation)
    assert np.linalg.norm(quat) == pytest.approx(1.0)
    assert quat[3] >= 0.0
    np.testing.assert_allclose(g.matrix_from_quat_xyzw(quat), rotation, atol=1e-12)
    np.testing.assert_allclose(g.matrix_from_rot6d(g.rot6d_from_matrix(rotation)), rotation, atol=1e-12)


def test_rot6d_orthonormalises() -> None:
    rotation = g.matrix_from_rot6d([2.0, 0.0, 0.0, 3.0, 0.5, 0.0])
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-15)


def test_the_nearest_rotation_is_one_and_none_is_nearer() -> None:
    rng = np.random.default_rng(0)
    rotations = g.so3_exp(rng.uniform(-3, 3, (50, 3)))
    np.testing.assert_allclose(g.nearest_rotation(rotations), rotations, atol=1e-12)
    np.testing.assert_allclose(g.nearest_rotation(2.5 * rotations), rotations, atol=1e-12)
    bent = rotations + rng.normal(0, 0.5, rotations.shape)
    assert (np.linalg.det(bent) < 0).any(), "a mirrored matrix has a nearest rotation, too"
    nearest = g.nearest_rotation(bent)
    g.so3_log(nearest)  # raises unless they are rotations
    distance = np.square(nearest - bent).sum(axis=(-2, -1))
    for size in (1e-3, 0.1, 1.0):
        others = nearest @ g.so3_exp(size * rng.standard_normal((50, 3)))
        assert (np.square(others - bent).sum(axis=(-2, -1)) > distance - 1e-12).all()
    g.so3_log(g.nearest_rotation(np.zeros((3, 3))))
    with pytest.raises(ValueError, match=r"matrix must have the shape \[\.\.\., 3, 3\]; got \[3\]"):
        g.nearest_rotation([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="matrix must be finite"):
        g.nearest_rotation(np.full((3, 3), np.nan))


@given(poses(), poses(), poses())
def test_transforms_form_a_group(T_a_b: g.Array, T_b_c: g.Array, T_c_d: g.Array) -> None:
    left = g.compose(g.compose(T_a_b, T_b_c), T_c_d)
    np.testing.assert_allclose(left, g.compose(T_a_b, g.compose(T_b_c, T_c_d)), atol=1e-13)
    np.testing.assert_allclose(g.compose(T_a_b, g.inverse(T_a_b)), np.eye(4), atol=1e-13)


@given(poses())
def test_se3_exp_undoes_log(T_a_b: g.Array) -> None:
    np.testing.assert_allclose(g.se3_exp(g.se3_log(T_a_b)), T_a_b, atol=1e-5)


@given(axis_angles(), st.tuples(UNIT, UNIT, UNIT))
def test_se3_log_undoes_exp(axis_angle: g.Array, translation: tuple[float, float, float]) -> None:
    angle = np.linalg.norm(axis_angle)
    tangent = np.concatenate([translation, axis_angle])
    if 2e-6 < angle < np.pi - 1e-6:
        np.testing.assert_allclose(g.se3_log(g.se3_exp(tangent)), tangent, atol=1e-8)


@pytest.mark.parametrize("angle_rad", [0.0999, 0.1001])
def test_series_and_closed_form_meet(angle_rad: float) -> None:
    """A screw motion about z has a closed form: an arc of radius v / angle."""
    pose = g.se3_exp([1.0, 0.0, 0.0, 0.0, 0.0, angle_rad])
    expected = [np.sin(angle_rad) / angle_rad, (1.0 - np.cos(angle_rad)) / angle_rad, 0.0]
    np.testing.assert_allclose(pose[:3, 3], expected, atol=1e-13)
    np.testing.assert_allclose(g.se3_log(pose), [1.0, 0.0, 0.0, 0.0, 0.0, angle_rad], atol=1e-12)


@given(poses(), poses())
def test_relative_then_absolute_comes_back(T_world_reference: g.Array, T_world_target: g.Array) -> None:
    relative = g.relative_pose(T_world_reference, T_world_target)
    error = np.abs(g.absolute_pose(T_world_reference, relative) - T_world_target).max()
    assert error < 1e-5


def test_relative_pose_by_hand() -> None:
    """The reference looks along +y; a target 1 m further along +y is 1 m ahead of it, on its own x axis."""
    reference = g.transform(g.so3_exp([0.0, 0.0, np.pi / 2]), [1.0, 1.0, 0.0])
    target = g.transform(g.so3_exp([0.0, 0.0, np.pi]), [1.0, 2.0, 0.0])
    np.testing.assert_allclose(g.relative_pose(reference, target), [1.0, 0.0, 0.0, 0.0, 0.0, np.pi / 2], atol=1e-12)


def test_leading_axes_broadcast() -> None:
    generator = np.random.default_rng(0)
    axis_angle = generator.normal(size=(4, 5, 3))
    rotations = g.so3_exp(axis_angle)
    assert rotations.shape == (4, 5, 3, 3)
    np.testing.assert_array_equal(g.so3_log(rotations)[2, 3], g.so3_log(rotations[2, 3]))
    np.testing.assert_array_equal(g.quat_xyzw_from_matrix(rotations)[1, 4], g.quat_xyzw_from_matrix(rotations[1, 4]))
    targets = g.transform(rotations, np.zeros(3))
    assert targets.shape == (4, 5, 4, 4)
    assert g.relative_pose(targets[0, 0], targets).shape == (4, 5, 6)
    assert g.so3_exp(np.zeros((0, 3))).shape == (0, 3, 3)


def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"axis_angle \(rad\) must have the shape \[..., 3\]; got \[4\]"):
        g.so3_exp([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match=r"must be finite; it holds nan at index \[1\]"):
        g.so3_exp([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="must be orthonormal"):
        g.so3_log(1.01 * np.eye(3))
    with pytest.raises(ValueError, match="reflection"):
        g.so3_log(np.diag([1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match=r"shape \[..., 3, 3\]; got \[3\]"):
        g.so3_log([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="norm 1"):
        g.matrix_from_quat_xyzw([0.0, 0.0, 0.0, 2.0])
    with pytest.raises(ValueError, match="zero"):
        g.matrix_from_rot6d([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="parallel"):
        g.matrix_from_rot6d([1.0, 0.0, 0.0, 2.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="last row"):
        g.inverse(np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"shape \[..., 4, 4\]"):
        g.compose(np.eye(3), np.eye(4))


@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-9, 9)] * 3))
def test_the_nearest_axis_angle_is_the_same_rotation_and_none_is_nearer(
    axis_angle: tuple[float, ...], reference: tuple[float, ...]
) -> None:
    vector, wanted = np.array(axis_angle), np.array(reference)
    nearest = g.nearest_axis_angle(vector, wanted)
    np.testing.assert_allclose(g.so3_exp(nearest), g.so3_exp(vector), atol=1e-9)
    angle = np.linalg.norm(vector)
    if angle > g.ZERO_ANGLE_RAD:
        others = [vector + 2 * np.pi * turns * vector / angle for turns in range(-4, 5)]
        assert np.linalg.norm(nearest - wanted) <= min(np.linalg.norm(other - wanted) for other in others) + 1e-9
