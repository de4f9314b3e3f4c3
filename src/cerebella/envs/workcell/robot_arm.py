"""One arm of a compiled cell: what is measured, and where it is told to be."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import mujoco
import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.arm_kinematics import forward, inverse
from cerebella.envs.workcell.arm_model import MAX_OPENING_M, joint_names, pad_names
from cerebella.geometry import Array, so3_exp, transform
from cerebella.geometry import inverse as inverse_transform

POINTING_DOWN: Array = so3_exp([0.0, np.pi / 2, 0.0])
"""`R_world_tool` of a gripper that points straight down, its fingers apart along the world's y."""
BENT_RAD: Array = np.array([0.0, -1.2, 1.9, 0.0, 0.9, 0.0])
"""float64[6]: an ordinary posture, to look for solutions near it."""


class RobotArm:
    """Reads and places one arm of a simulation. Commands go through `Cell.command`.

    Attributes:
        side: left or right.
        T_world_base: float64[4, 4], constant.
        home_rad: float64[6], joints at the start of an episode, the gripper pointing down.
        requested_rad, requested_opening: the newest command, float64[6] and 0..1.
        pads: int64[2], ids of the geoms `pad_names(side)`.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, side: Side) -> None:
        """See the class."""
        self.side: Side = side
        self._data = data
        names = joint_names(side)
        self._qpos = np.array([model.joint(name).qposadr[0] for name in names])
        fingers = [pad.replace("pad", "finger") for pad in pad_names(side)]
        self._finger_qpos = np.array([model.joint(name).qposadr[0] for name in fingers])
        self.actuators = np.array([model.actuator(name).id for name in (*names, f"{side}_gripper")])
        self.pads = np.array([model.geom(name).id for name in pad_names(side)])
        self._model = model
        base = model.body(f"{side}_base")
        self.T_world_base: Array = transform(np.eye(3), base.pos)
        sign = np.sign(self.T_world_base[1, 3])
        home = transform(POINTING_DOWN, [0.22, sign * 0.20, 0.22])
        self.home_rad, is_reached = self.joints_at(home, BENT_RAD)
        assert is_reached
        self.requested_rad: Array = self.home_rad
        self.requested_opening = 1.0

    @property
    def joints_rad(self) -> Array:
        """Measured, float64[6]."""
        return self._data.qpos[self._qpos].copy()

    @property
    def T_base_tool(self) -> Array:
        """Measured, float64[4, 4]."""
        return forward(self.joints_rad)

    @property
    def T_world_tool(self) -> Array:
        """Measured, float64[4, 4]: x where the fingers point, y where they open, the origin between the pads."""
        return self.T_world_base @ self.T_base_tool

    @property
    def T_world_requested(self) -> Array:
        """Where the newest command brings the tool, float64[4, 4]. Motions start here, not at what is measured."""
        return self.T_world_base @ forward(self.requested_rad)

    @property
    def opening(self) -> float:
        """Measured, 0 closed .. 1 open."""
        return float(np.clip(self._data.qpos[self._finger_qpos].sum() / MAX_OPENING_M, 0.0, 1.0))

    @property
    def pad_forces_n(self) -> Array:
        """What presses on each pad, float64[2] newtons, summed over its contacts."""
        return np.array([pressing_force_n(self._model, self._data, pad) for pad in self.pads])

    @property
    def grip_force_n(self) -> float:
        """What presses on the pad that feels less: above 0 only if something (or nothing but pads) is between them."""
        return float(self.pad_forces_n.min())

    def joints_at(self, T_world_tool: Array, near_rad: Array | None = None) -> tuple[Array, bool]:
        """Joints (rad, float64[6]) that bring the tool to a pose or as near as they can, and whether they reach it.

        Args:
            near_rad: choose the solution nearest to these; to the newest command if not given.
        """
        near_rad = self.requested_rad if near_rad is None else near_rad
        joints, is_reached = inverse(inverse_transform(self.T_world_base) @ T_world_tool, near_rad)
        return joints, bool(is_reached)

    def place(self, joints_rad: Array, opening: float) -> None:
        """Put the arm there at once, at rest, and ask it to stay; only while an episode is reset."""
        self._data.qpos[self._qpos] = joints_rad
        self._data.qpos[self._finger_qpos] = opening * MAX_OPENING_M / 2
        self._data.ctrl[self.actuators] = [*joints_rad, opening * MAX_OPENING_M]
        self.requested_rad, self.requested_opening = np.array(joints_rad, dtype=np.float64), float(opening)


def pressing_force_n(model: mujoco.MjModel, data: mujoco.MjData, geom: int, other: int | None = None) -> float:
    """Sum of the normal forces at a geom's contacts (with one other geom), newtons, in the last physics step."""
    pairs = data.contact.geom
    is_meant = (pairs == geom).any(axis=1) & (data.contact.efc_address >= 0)
    if other is not None:
        is_meant &= (pairs == other).any(axis=1)
    force = np.zeros(6)
    total = 0.0
    for contact in np.flatnonzero(is_meant):
        mujoco.mj_contactForce(model, data, int(contact), force)
        total += float(force[0])
    return total
