# pyright: reportAttributeAccessIssue=false
import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from cerebella.envs.workcell.lego.bricks import half_sizes_m
from cerebella.envs.workcell.lego.grasps import boxes_meet, free_grips, hands_meet, is_flush
from cerebella.envs.workcell.lego.workpiece import Bricks
from cerebella.envs.workcell.moves import pointing_down
from cerebella.geometry import quat_xyzw_from_matrix, so3_exp


def bricks(*positions_m: tuple[float, float, float], rotation: np.ndarray | None = None) -> Bricks:
    count = len(positions_m)
    rotations = np.tile(np.eye(3) if rotation is None else rotation, (count, 1, 1))
    return Bricks(np.array(positions_m), rotations, np.tile(half_sizes_m(4), (count, 1)))


def test_a_brick_alone_is_gripped_across_its_width() -> None:
    grips = free_grips(bricks((0.3, 0.0, 0.0072)), 0)
    assert grips
    assert grips[0].lean_rad == 0.0
    assert grips[0].size_m == pytest.approx(0.0238)
    assert abs(grips[0].T_world_tool[1, 1]) == pytest.approx(1.0)
    for grip in grips:
        tip = grip.T_world_tool @ [0.018, 0.0, 0.0, 1.0]
        assert tip[2] > 0.001


def test_a_brick_on_its_side_is_gripped_across_its_height() -> None:
    lying = bricks((0.3, 0.0, 0.012), rotation=so3_exp([np.pi / 2, 0.0, 0.0]))
    assert free_grips(lying, 0)[0].size_m == pytest.approx(0.0142)


def test_neighbours_are_in_the_way() -> None:
    """A brick between two others, wall to wall: no finger fits beside it, but across the ends of one that stands out it does."""
    row = bricks((0.3, 0.0, 0.0072), (0.3, 0.0241, 0.0072), (0.3, -0.0241, 0.0072))
    assert all(grip.size_m > 0.03 for grip in free_grips(row, 0))


def test_what_is_between_the_fingers_is_named() -> None:
    """Half overlapping: the lower brick is held alone at its free end, and with the upper one at the other."""
    stairs = bricks((0.3, 0.0, 0.0072), (0.324, 0.0, 0.0216))
    across = [grip for grip in free_grips(stairs, 0) if grip.size_m < 0.03]
    alone = [grip for grip in across if not grip.others]
    assert any(grip.T_world_tool[0, 3] < 0.29 for grip in alone)
    assert not any(grip.T_world_tool[0, 3] > 0.302 for grip in alone)
    together = [grip for grip in across if grip.others == {1}]
    assert together
    assert all(is_flush(stairs, grip) for grip in together)
    assert all(not grip.others for grip in free_grips(stairs, 1))


def test_hands_need_room() -> None:
    def at(y: float) -> np.ndarray:
        return pointing_down([0.3, y, 0.05], np.pi / 2)

    assert hands_meet(at(0.0), at(0.05), 0.0)
    assert not hands_meet(at(0.0), at(0.06), 0.0)


def test_boxes_meet_exactly_when_mujoco_finds_contacts_between_them() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        spec = mujoco.MjSpec()
        boxes = [(rng.uniform(-1, 1, 3), so3_exp(rng.uniform(-2, 2, 3)), rng.uniform(0.2, 0.8, 3)) for _ in range(2)]
        for middle, rotation, half in boxes:
            x, y, z, w = quat_xyzw_from_matrix(rotation)
            body = spec.worldbody.add_body(pos=middle, quat=[w, x, y, z])
            body.add_freejoint()
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half)
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        found.append((bool(boxes_meet(*boxes[0], *boxes[1])), data.ncon > 0))
    assert all(ours == theirs for ours, theirs in found)
    assert 10 < sum(ours for ours, _ in found) < 50
