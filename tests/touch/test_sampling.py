"""Only what can be felt is sampled, about the pinch point."""

import numpy as np
import pytest

from cerebella.geometry import so3_log
from cerebella.touch.objects import SEEN, Shape
from cerebella.touch.sampling import (
    FELT,
    MOTIONS,
    PoseRanges,
    nominal_goal,
    pose_ranges,
    poses_of,
    sample_motions,
    sample_poses,
)

RODS, PLATES, DISKS = (tuple(shape for shape in SEEN if shape.kind == kind) for kind in ("rod", "plate", "disk"))


@pytest.mark.parametrize("shape", [RODS[0], PLATES[0], DISKS[0]], ids=lambda shape: shape.kind)
@pytest.mark.parametrize("ranges", [None, pose_ranges("wide")], ids=("default", "wide"))
def test_motions_fill_the_ranges_of_what_is_felt(shape: Shape, ranges: PoseRanges | None) -> None:
    motions = sample_motions(shape, 4000, np.random.default_rng(0), ranges)
    for column, name in enumerate(MOTIONS):
        if name in FELT[shape.kind]:
            low, high = getattr(ranges or PoseRanges(), "edge_z_m" if name == "z_m" and shape.kind != "rod" else name)
            assert low <= motions[:, column].min() <= low + 0.01 * (high - low)
            assert high >= motions[:, column].max() >= high - 0.01 * (high - low)
            assert motions[:, column].std() == pytest.approx((high - low) / np.sqrt(12), rel=0.05)
        else:
            assert not motions[:, column].any()


def test_default_ranges_in_the_units_of_a_person() -> None:
    ranges = PoseRanges()
    np.testing.assert_allclose(np.array([ranges.y_m, ranges.z_m, ranges.edge_z_m]) * 1e3, [[-5, 5], [-5, 5], [-3, 5]])
    np.testing.assert_allclose(np.rad2deg([ranges.roll_rad, ranges.pitch_rad]), [[-12, 12], [-10, 10]])


def test_poses_repeat_and_are_rigid() -> None:
    shape = PLATES[1]
    poses = sample_poses(shape, 50, np.random.default_rng(3))
    np.testing.assert_array_equal(poses, sample_poses(shape, 50, np.random.default_rng(3)))
    np.testing.assert_array_equal(poses, poses_of(sample_motions(shape, 50, np.random.default_rng(3))))
    rotation = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, 1, 2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12
    )
    np.testing.assert_array_equal(poses[:, 3], np.broadcast_to([0, 0, 0, 1.0], (50, 4)))


def test_each_motion_is_the_turn_or_shift_that_it_is_called() -> None:
    shift = poses_of(np.array([0.003, -0.004, 0.0, 0.0]))
    np.testing.assert_array_equal(shift[:3, 3], [0, 0.003, -0.004])
    np.testing.assert_array_equal(shift[:3, :3], np.eye(3))
    np.testing.assert_allclose(so3_log(poses_of(np.array([0, 0, 0.2, 0.0]))[:3, :3]), [0.2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(so3_log(poses_of(np.array([0, 0, 0, 0.1]))[:3, :3]), [0, 0.1, 0], atol=1e-12)


def test_turns_are_about_the_pinch_point() -> None:
    """The point of the object that the shift brought to the pinch point stays there, whatever the turns."""
    rng = np.random.default_rng(0)
    motions = rng.uniform(-1, 1, (20, 4)) * [0.005, 0.005, 0.2, 0.17]
    at_pinch = np.stack([np.zeros(20), -motions[:, 0], -motions[:, 1], np.ones(20)], axis=-1)
    np.testing.assert_allclose((poses_of(motions) @ at_pinch[..., None])[:, :3, 0], 0, atol=1e-15)


def test_a_tipped_plate_keeps_its_normal_out_of_y() -> None:
    """A plate turns in its own plane, then tips about the wrist's y: it never yaws towards the fingers' row."""
    poses = sample_poses(PLATES[0], 100, np.random.default_rng(0))
    np.testing.assert_allclose(poses[:, 1, 0], 0, atol=1e-15)


def test_the_fixed_goal_is_the_middle_of_the_range() -> None:
    for shape in SEEN:
        np.testing.assert_allclose(nominal_goal(shape)[:3, 3], [0, 0, 0 if shape.kind == "rod" else 1e-3])
        np.testing.assert_array_equal(nominal_goal(shape)[:3, :3], np.eye(3))
    off = PoseRanges(z_m=(0.0, 0.004), roll_rad=(0.1, 0.3))
    np.testing.assert_allclose(nominal_goal(RODS[0], off), poses_of(np.array([0, 0.002, 0.2, 0])))


def test_mistakes_are_explained() -> None:
    with pytest.raises(ValueError, match=r"PoseRanges.z_m must be \(low, high\) in \+-0.02 m; got \(-5, 5\)"):
        PoseRanges(z_m=(-5, 5))
    with pytest.raises(ValueError, match=r"PoseRanges.roll_rad must be .* in \+-0.7854 rad; got \(0.1, -0.1\)"):
        PoseRanges(roll_rad=(0.1, -0.1))
    with pytest.raises(ValueError, match="unknown ranges 'huge'; known: default, wide"):
        pose_ranges("huge")
