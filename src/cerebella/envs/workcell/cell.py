"""The simulation of one cell: what tasks, experts and the environment read and write.

Time passes by whole control ticks. Within a tick the joint targets move on a straight line from the last command to the new
one, with the servo's lag fed forward, so that 30 commands per second make a smooth motion.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections import deque
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.arm_kinematics import JOINT_HIGH_RAD, JOINT_LOW_RAD
from cerebella.envs.workcell.arm_model import (
    DAMPING_NMS_RAD,
    MAX_GRIPPER_VELOCITY_M_S,
    MAX_OPENING_M,
    MAX_VELOCITY_RAD_S,
    STIFFNESS_NM_RAD,
)
from cerebella.envs.workcell.robot_arm import RobotArm, pressing_force_n
from cerebella.geometry import Array, quat_xyzw_from_matrix, transform

CONTROL_HZ = 30.0
MAX_STEP_RAD: Array = MAX_VELOCITY_RAD_S / CONTROL_HZ
"""float64[6]: how far a joint's target may move in one tick."""
MAX_STEP_OPENING = MAX_GRIPPER_VELOCITY_M_S / MAX_OPENING_M / CONTROL_HZ

_PARKED_M = (0.3, 0.0, -0.4)
_LAG_S: Array = DAMPING_NMS_RAD / STIFFNESS_NM_RAD
_FAULTS = {
    mujoco.mjtWarning.mjWARN_BADQPOS.value: "positions are no numbers",
    mujoco.mjtWarning.mjWARN_BADQVEL.value: "velocities are no numbers or huge",
    mujoco.mjtWarning.mjWARN_BADQACC.value: "accelerations are no numbers or huge",
    mujoco.mjtWarning.mjWARN_BADCTRL.value: "a servo was given no number",
    mujoco.mjtWarning.mjWARN_CONTACTFULL.value: "no memory is left for contacts",
    mujoco.mjtWarning.mjWARN_CNSTRFULL.value: "no memory is left for constraints",
}


class Cell:
    """A compiled model, its data, and two arms.

    Args:
        model: of `room_spec` plus whatever a task has added.
        steps_per_tick: physics steps per control tick.

    Attributes:
        model, data: MuJoCo's own; a task reads and writes them freely.
        left, right: the arms; `arm(side)` gives one by its side.
        tick: how many ticks have passed since the reset.
        delay_ticks: how many ticks a command takes to arrive; constant within an episode.

    Raises:
        ValueError: the model's time step is not a control tick divided by `steps_per_tick`.
    """

    def __init__(self, model: mujoco.MjModel, steps_per_tick: int) -> None:
        """See the class."""
        if not isinstance(steps_per_tick, int) or steps_per_tick < 1:
            raise ValueError(f"steps_per_tick must be a whole number of 1 or more; got {steps_per_tick!r}")
        if abs(model.opt.timestep * steps_per_tick * CONTROL_HZ - 1.0) > 1e-9:
            raise ValueError(f"the time step must be 1/{CONTROL_HZ:g} s / {steps_per_tick}; got {model.opt.timestep} s")
        self.model = model
        self.data = mujoco.MjData(model)
        self.steps_per_tick = steps_per_tick
        self.left = RobotArm(model, self.data, "left")
        self.right = RobotArm(model, self.data, "right")
        self.tick = 0
        self.delay_ticks = 0
        self._as_compiled = _arrays(model)
        self._on_the_way: deque[Array] = deque()
        self._played = np.zeros(14)
        self._warnings = self.data.warning.number  # a view: it follows the simulation
        self._actuators = np.concatenate([self.left.actuators, self.right.actuators])

    def arm(self, side: Side) -> RobotArm:
        """The arm on one side."""
        return self.left if side == "left" else self.right

    def clear(self, delay_ticks: int = 0) -> None:
        """Everything as compiled, the arms at home and open, tick 0; the first part of a reset.

        Args:
            delay_ticks: of this episode, 0 or more.
        """
        for name, array in self._as_compiled.items():
            getattr(self.model, name)[...] = array
        mujoco.mj_resetData(self.model, self.data)
        self.tick = 0
        self.delay_ticks = delay_ticks
        for arm in (self.left, self.right):
            arm.place(arm.home_rad, 1.0)

    def settle(self) -> None:
        """Make derived numbers (positions of bodies, contacts) follow from what was placed; the last part of a reset."""
        self._played = self._requested()
        self._on_the_way = deque([self._played] * self.delay_ticks)
        mujoco.mj_forward(self.model, self.data)

    def command(self, side: Side, joints_rad: Array, opening: float) -> None:
        """Ask an arm to be somewhere at the end of the next tick, as far as ranges and velocities allow.

        Where one joint would be too fast, all of them move in proportion: towards the target, not so far.

        Args:
            joints_rad: float64[6]. opening: 0 closed .. 1 open.
        """
        arm = self.arm(side)
        change = np.clip(joints_rad, JOINT_LOW_RAD, JOINT_HIGH_RAD) - arm.requested_rad
        arm.requested_rad = arm.requested_rad + change / max(1.0, float((np.abs(change) / MAX_STEP_RAD).max()))
        low, high = arm.requested_opening - MAX_STEP_OPENING, arm.requested_opening + MAX_STEP_OPENING
        arm.requested_opening = float(np.clip(np.clip(opening, low, high), 0.0, 1.0))

    def step(self, after_physics_step: Callable[[], None] | None = None) -> None:
        """Let one tick pass; `after_physics_step` is called after each of its `steps_per_tick` steps.

        A `fault` cuts the tick short: after numbers that are none, MuJoCo puts everything back to how it was compiled, and
        what a task would find there is no part of the episode.
        """
        self._on_the_way.append(self._requested())
        before, after = self._played, self._on_the_way.popleft()
        change = after - before
        lead = np.zeros(14)
        lead[0:6], lead[7:13] = change[0:6] * _LAG_S * CONTROL_HZ, change[7:13] * _LAG_S * CONTROL_HZ
        for i in range(1, self.steps_per_tick + 1):
            self.data.ctrl[self._actuators] = before + change * (i / self.steps_per_tick) + lead
            mujoco.mj_step(self.model, self.data)
            if self.fault:
                break
            if after_physics_step is not None:
                after_physics_step()
        self._played = after
        self.refresh()
        self.tick += 1

    def refresh(self) -> None:
        """Make positions of bodies, cameras and cloth follow the joints (a physics step leaves those of its start)."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        if self.model.nflex:
            mujoco.mj_flex(self.model, self.data)

    @property
    def time_s(self) -> float:
        """Seconds since the reset."""
        return self.tick / CONTROL_HZ

    @property
    def fault(self) -> str:
        """What MuJoCo found wrong with the numbers since the reset; empty if nothing."""
        numbers = self._warnings.tolist()
        return ", ".join(text for kind, text in _FAULTS.items() if numbers[kind])

    def T_world_body(self, name: str) -> Array:
        """Pose of a body's frame, float64[4, 4]."""
        body = self.data.body(name)
        return transform(body.xmat.reshape(3, 3), body.xpos)

    def position_m(self, name: str) -> Array:
        """Position of a body's frame in the world, float64[3]."""
        return self.data.body(name).xpos.copy()

    def speed_m_s(self, name: str) -> float:
        """How fast a free body moves."""
        return float(np.linalg.norm(self.data.qvel[self._free_joint(name).dofadr[0] :][:3]))

    def place_body(self, name: str, T_world_body: Array) -> None:
        """Put a free or mocap body somewhere, at rest.

        Raises:
            ValueError: the body can't be placed: it hangs on joints, or is part of the room.
        """
        body = self.model.body(name)
        x, y, z, w = quat_xyzw_from_matrix(T_world_body[:3, :3])
        if body.mocapid[0] >= 0:
            self.data.mocap_pos[body.mocapid[0]] = T_world_body[:3, 3]
            self.data.mocap_quat[body.mocapid[0]] = (w, x, y, z)
            return
        joint = self._free_joint(name)
        first = joint.qposadr[0]
        self.data.qpos[first : first + 7] = [*T_world_body[:3, 3], w, x, y, z]
        self.data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0.0

    def park(self, name: str) -> None:
        """Put a free body away for this episode: under the table, weightless, at rest, touching nothing. Only in a reset."""
        self.place_body(name, transform(np.eye(3), _PARKED_M))
        body = self.model.body(name)
        self.model.body_gravcomp[body.id] = 1.0  # counted, because the arms are compensated as well
        geoms = self.model.geom_bodyid == body.id
        self.model.geom_contype[geoms] = self.model.geom_conaffinity[geoms] = 0

    def contact_force_n(self, geom: str, other: str | None = None) -> float:
        """Sum of the normal forces between a geom and one other (or everything), newtons, in the last physics step."""
        other_id = None if other is None else self.model.geom(other).id
        return pressing_force_n(self.model, self.data, self.model.geom(geom).id, other_id)

    def is_touching(self, geom: str, other: str) -> bool:
        """Whether two geoms are in contact."""
        wanted = {self.model.geom(geom).id, self.model.geom(other).id}
        return any(set(pair) == wanted for pair in self.data.contact.geom.tolist())

    def _free_joint(self, name: str) -> Any:
        body = self.model.body(name)
        joint = self.model.joint(body.jntadr[0]) if body.jntnum[0] == 1 else None
        if joint is None or joint.type[0] != mujoco.mjtJoint.mjJNT_FREE:
            raise ValueError(f"the body {name!r} is neither free nor mocap")
        return joint

    def _requested(self) -> Array:
        """Both arms' newest commands in the order of their actuators, float64[14]: rad, and openings in m."""
        parts = [[*arm.requested_rad, arm.requested_opening * MAX_OPENING_M] for arm in (self.left, self.right)]
        return np.concatenate(parts)


def _arrays(model: mujoco.MjModel) -> dict[str, Any]:
    """Copies of every number in the model that a task or a randomisation may change."""
    found = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {
        name: array.copy()
        for name, array in found.items()
        if isinstance(array, np.ndarray) and array.size and array.flags.writeable
    }
