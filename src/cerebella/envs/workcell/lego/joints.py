"""What holds two bricks together: a weld that breaks for good when it is pulled or bent too hard.

A joint sits in the middle of the studs that two bricks share, on the face between them. It breaks when

    (force / force_limit)^2 + (torque / torque_limit)^2 > 1

so a straight pull, a peel, and any mixture of them work. The model has a pool of joints; an episode uses the first of them.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.lego.bricks import brick_name
from cerebella.geometry import Array, inverse

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

GRACE_S = 0.1
"""At the start of an episode nothing breaks: the assembly settles."""

_TORQUE_PER_ROW = 0.5
"""N m per unit of a weld's rotational constraint force: half, because its residual is that of a quaternion."""


@dataclass(frozen=True)
class JointLimits:
    """Ranges from which an episode draws the limits of each joint: (low, high).

    Args:
        force_n: above 5 N, which two grippers that only squeeze can reach. torque_nm: of bending and twisting.

    Raises:
        ValueError: a range that is empty or not positive.
    """

    force_n: tuple[float, float] = (6.0, 9.0)
    torque_nm: tuple[float, float] = (0.15, 0.22)

    def __post_init__(self) -> None:
        for name, (low, high) in vars(self).items():
            if not 0.0 < low <= high:
                raise ValueError(f"JointLimits.{name} must be (low, high) with 0 < low <= high; got {(low, high)}")


@dataclass(frozen=True, eq=False)
class Joints:
    """Those of one episode, in order; whether they still hold is in `data.eq_active`.

    Args:
        pairs: int64[j, 2], numbers of the bricks, the lower one first.
        equalities: int64[j], ids in the model, one after the other.
        force_limit_n, torque_limit_nm: float64[j].
    """

    pairs: Numbers
    equalities: Numbers
    force_limit_n: Array
    torque_limit_nm: Array

    def is_joined(self, cell: Cell) -> Flags:
        """Which still hold, bool[j]."""
        return cell.data.eq_active[self.equalities] != 0


def add_joints(spec: mujoco.MjSpec, num_joints: int) -> None:
    """The pool: equalities `joint_0`.., all switched off."""
    for i in range(num_joints):
        spec.add_equality(
            name=f"joint_{i}",
            type=mujoco.mjtEq.mjEQ_WELD,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            name1=brick_name(0),
            name2=brick_name(1),
            data=[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0],
            active=False,
            solref=[0.0045, 1.0],
            solimp=[0.99, 0.999, 0.0001, 0.5, 2.0],
        )


def join(
    cell: Cell,
    pairs: Sequence[tuple[int, int]],
    anchors_m: Sequence[Array],
    poses: Sequence[Array],
    limits: JointLimits,
    rng: np.random.Generator,
) -> Joints:
    """Switch on a joint for each pair of bricks, as they are placed.

    Args:
        pairs: numbers of bricks. anchors_m: where each joint sits, world frame. poses: `T_world_brick` of every brick; those
            of a pair are parallel.

    Raises:
        ValueError: more pairs than the pool has joints.
    """
    num_pool = sum(cell.model.eq_type == mujoco.mjtEq.mjEQ_WELD)
    if len(pairs) > num_pool:
        raise ValueError(f"the pool has {num_pool} joints; got {len(pairs)} pairs")
    ids = np.array([cell.model.equality(f"joint_{i}").id for i in range(len(pairs))], dtype=np.int64)
    for equality, (first, second), anchor_m in zip(ids, pairs, anchors_m, strict=True):
        cell.model.eq_obj1id[equality] = cell.model.body(brick_name(first)).id
        cell.model.eq_obj2id[equality] = cell.model.body(brick_name(second)).id
        cell.model.eq_data[equality, 0:3] = (inverse(poses[second]) @ [*anchor_m, 1.0])[:3]
        cell.model.eq_data[equality, 3:6] = (inverse(poses[first]) @ [*anchor_m, 1.0])[:3]
        cell.model.eq_data[equality, 6:10] = [1.0, 0.0, 0.0, 0.0]
        cell.data.eq_active[equality] = 1
    return Joints(
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
        equalities=ids,
        force_limit_n=rng.uniform(*limits.force_n, len(pairs)),
        torque_limit_nm=rng.uniform(*limits.torque_nm, len(pairs)),
    )


def loads(cell: Cell, joints: Joints) -> tuple[Array, Array]:
    """Force (N) and torque (N m) on each joint in the last physics step, float64[j] each; zero where it was broken."""
    force, torque = np.zeros(len(joints.equalities)), np.zeros(len(joints.equalities))
    num_rows = cell.data.ne
    ids = cell.data.efc_id[:num_rows]
    first = ids.searchsorted(joints.equalities[0])  # rows are in the order of the equalities, and no others follow ours
    parts = cell.data.efc_force[first:num_rows].reshape(-1, 2, 3)
    norms = np.sqrt(np.einsum("ijk,ijk->ij", parts, parts))
    numbers = ids[first::6] - joints.equalities[0]
    force[numbers], torque[numbers] = norms[:, 0], _TORQUE_PER_ROW * norms[:, 1]
    return force, torque


def break_overloaded(cell: Cell, joints: Joints) -> None:
    """Switch off for good every joint beyond its limit; to be called after each physics step."""
    if cell.data.time < GRACE_S or not joints.is_joined(cell).any():
        return
    force, torque = loads(cell, joints)
    is_over = (force / joints.force_limit_n) ** 2 + (torque / joints.torque_limit_nm) ** 2 > 1.0
    if is_over.any():
        cell.data.eq_active[joints.equalities[is_over]] = 0


def pieces(num_bricks: int, pairs: Numbers) -> list[list[int]]:
    """Bricks that hang together by pairs (int64[j, 2]), each piece in ascending order, ordered by its first brick."""
    label = np.arange(num_bricks)
    for first, second in pairs:
        label[label == label[second]] = label[first]
    by_label: dict[int, list[int]] = {}
    for number, key in enumerate(label.tolist()):
        by_label.setdefault(key, []).append(number)
    return list(by_label.values())
