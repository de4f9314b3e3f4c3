"""A robot cell for the executor: an arm that goes where it is told, a gripper with five pads, a rod that stays where it is."""

import math
from dataclasses import replace

import numpy as np

from cerebella.arms import Arm, EndEffector, Gripper, Limits, arm_embodiment
from cerebella.embodiment import Dimension, Embodiment
from cerebella.geometry import Array, compose, inverse, nearest_axis_angle, so3_exp, so3_log, transform
from cerebella.interfaces import PolicyMetadata, Status
from cerebella.touch.grasp import FINGERS, JOINTS, Grasp
from cerebella.types import Action, ActionChunk, FloatArray, Observation

from .tiny_world import ROD, PadWorld

T_EFFECTOR_WRIST = transform(so3_exp([0.0, 0.0, 0.7]), [0.02, 0.0, 0.11])
T_BASE_OBJECT = transform(so3_exp([0.3, -0.2, 0.5]), [0.4, -0.1, 0.3])
CLOSED = 0.05
_OPEN_JOINTS = np.full(11, -0.1, dtype=np.float32)


def make_embodiment(policy_hz: float = 15.0, control_hz: float = 30.0) -> Embodiment:
    """A right arm as `arms` makes it, with the joints of the hand measured beside it."""
    along = Limits(-1.0, 1.0, 0.4, 4.0, 80.0)
    effector = EndEffector(position=(along, along, along), rotation=Limits(-6.0, 6.0, 2.0, 20.0, 400.0))
    gripper = Gripper("1", Limits(0.0, 1.0, 1.0, 100.0, 10000.0), open_at="high")
    arm = Arm("right", "base", (), effector, gripper)
    embodiment = arm_embodiment(
        "touching arm", "end_effector", [arm], [], policy_hz, control_hz, hold="last", pose_is_input=True
    )
    joints = tuple(Dimension(name, "rad", "joint", name, None, -math.pi, math.pi) for name in JOINTS)
    return replace(embodiment, states=(*embodiment.states, *joints))


def vector(T_base_wrist: Array, opening: float, near: FloatArray | None = None) -> FloatArray:
    """float32[7]: the command for a wrist pose."""
    T_base_effector = compose(T_base_wrist, inverse(T_EFFECTOR_WRIST))
    axis_angle = so3_log(T_base_effector[:3, :3])
    if near is not None:
        axis_angle = nearest_axis_angle(axis_angle, near[3:6])
    return np.array([*T_base_effector[:3, 3], *axis_angle, opening], dtype=np.float32)


def wrist_of(values: FloatArray) -> Array:
    """The inverse of `vector`."""
    return compose(transform(so3_exp(values[3:6].astype(float)), values[:3].astype(float)), T_EFFECTOR_WRIST)


class TouchCell:
    """An `Environment`. The robot follows each command at once, `sag_m` lower, unless `is_stuck`; `num_dragged` counts ticks in which the
    wrist moved by more than 0.1 mm with the hand closed after it had been closed at rest.

    Args:
        T_wrist_object: the object as the grasp of the policy will find it.
    """

    def __init__(self, embodiment: Embodiment, T_wrist_object: Array) -> None:
        self.embodiment = embodiment
        self.T_base_grasp = compose(T_BASE_OBJECT, inverse(T_wrist_object))
        self.num_dragged = 0
        self.is_stuck = self.is_jammed = self.is_removed = False
        self.sag_m = 0.0
        self.openings: list[float] = []
        self._world = PadWorld()
        self._grasp: Grasp | None = None
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._tick = 0
        self._values = vector(compose(self.T_base_grasp, transform(np.eye(3), [0.0, 0.0, -0.03])), 1.0)

    @property
    def T_base_wrist(self) -> Array:
        return wrist_of(self._values)

    @property
    def T_wrist_object(self) -> Array:
        return compose(inverse(self.T_base_wrist), T_BASE_OBJECT)

    def observe(self) -> Observation:
        forces, joints = np.zeros((5, 11, 9), dtype=np.float32), _OPEN_JOINTS
        if self._values[6] <= CLOSED and not self.is_removed:
            if self._grasp is None:
                self._grasp = self._world.grasp(ROD, self.T_wrist_object)
            forces, joints = self._grasp.forces, self._grasp.joints
        state = np.concatenate([self._values, joints])
        now_s = self._tick / self.embodiment.control_hz
        return Observation(state, "hold it", self._tick, now_s, tactile=dict(zip(FINGERS, forces, strict=True)))

    def apply(self, action: Action) -> None:
        self._tick += 1
        before, values = self._values, action.values.copy()
        values[2] -= self.sag_m
        if self.is_stuck:
            values[:6] = before[:6]
        if self.is_jammed:
            values[6] = before[6]
        moved = np.linalg.norm(values[:3] - before[:3])
        if values[6] > CLOSED or moved > 1e-6 or np.abs(values[3:6] - before[3:6]).max() > 1e-6:
            self.num_dragged += bool(self._grasp is not None and before[6] <= CLOSED and moved > 1e-4)
            self._grasp = None
        self._values = values
        self.openings.append(float(values[6]))

    def status(self) -> Status:
        return Status(False, False, "")


class GraspPolicy:
    """Goes to the grasp, closes, and then holds still where it is. Continues a prefix."""

    def __init__(self, embodiment: Embodiment, T_base_grasp: Array, horizon: int = 20) -> None:
        self.metadata = PolicyMetadata("grasper", embodiment, horizon, None, horizon - 1, "none")
        self.prefixes: list[tuple[int, int]] = []
        self._goal = vector(T_base_grasp, 1.0)

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        self.prefixes.append((observation.tick, len(action_prefix)))
        measured = self.metadata.embodiment.reference_of(observation.state)
        start = action_prefix[-1] if len(action_prefix) else measured
        horizon = self.metadata.horizon
        rows = np.tile(start, (horizon, 1)).astype(np.float32)
        is_there = np.abs(measured[:6] - self._goal[:6]).max() < 2e-4
        if measured[6] > 0.5 and not is_there:
            ways = np.clip(self._goal - start, -0.008, 0.008) * np.arange(horizon)[:, None]
            left = self._goal - start
            rows = (start + np.sign(left) * np.minimum(np.abs(ways), np.abs(left))).astype(np.float32)
        else:
            rows[:, 6] = 0.0
        rows[: len(action_prefix)] = action_prefix
        return ActionChunk(rows, observation.tick, observation.tick, len(action_prefix), "grasper", 0.0)
