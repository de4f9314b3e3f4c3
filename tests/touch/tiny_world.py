"""A tactile world without physics: five slightly curved pads that are pushed until each carries its force; and an oracle predictor.

Small enough to be checked by hand, and the same interface as the simulated hands.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from cerebella.geometry import Array, compose, inverse, se3_exp, so3_exp, transform
from cerebella.touch.goal import Goal
from cerebella.touch.grasp import NUM_COLUMNS, NUM_ROWS, PITCH_M, Grasp, wrist_increment
from cerebella.touch.objects import Shape, rod
from cerebella.touch.reading import CountArray, Reading
from cerebella.touch.sensor import Sensor, nominal_sensor
from cerebella.touch.simulated_hand import Faults, SimulatedHand, WristErrors
from cerebella.types import FloatArray

ROD = rod(10, 140)
STIFFNESS_N_PER_M = 600.0
FORCES_N = np.array([3.5, 1.8, 1.8, 1.6, 1.4])
ACROSS_M = np.array([0.0, -0.026, -0.009, 0.009, 0.026])
SIDE = np.array([1.0, -1.0, -1.0, -1.0, -1.0])
LEVER_M, RADIUS_M, MISSED_RAD = 0.05, 0.02, 0.7


class PadWorld:
    """The thumb's pad comes from +x, the fingers' from -x. A pad that meets nothing stops in the middle."""

    name = "pads"

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        if np.linalg.norm(T_wrist_object[:3, 3]) > 0.05:
            raise ValueError("the object must lie within 50 mm of the pinch point")
        rows = (np.arange(NUM_ROWS) - (NUM_ROWS - 1) / 2) * -PITCH_M
        columns = (np.arange(NUM_COLUMNS) - (NUM_COLUMNS - 1) / 2) * PITCH_M
        z, y = np.broadcast_arrays(rows[:, None], columns)
        pads = np.zeros((5, NUM_ROWS, NUM_COLUMNS, 3))
        pads[..., 1:] = np.stack([y, z], axis=-1)
        pads[..., 1] += ACROSS_M[:, None, None]
        bulge = (y**2 + z**2) / (2 * RADIUS_M)
        T_object_wrist = inverse(T_wrist_object)

        def pressed(offset: Array) -> Array:
            points = pads.copy()
            points[..., 0] = SIDE[:, None, None] * (offset[:, None, None] + bulge)
            depth = -shape.signed_distance(points @ T_object_wrist[:3, :3].T + T_object_wrist[:3, 3])
            return STIFFNESS_N_PER_M * np.maximum(depth, 0.0)

        low, high = np.zeros(5), np.full(5, 0.05)
        for _ in range(30):  # the least offset from the middle at which a pad carries no more than its force
            middle = 0.5 * (low + high)
            is_too_much = pressed(middle).sum((1, 2)) > FORCES_N
            low, high = np.where(is_too_much, middle, low), np.where(is_too_much, high, middle)
        forces = pressed(high).astype(np.float32)
        bend = np.where(forces.any((1, 2)), 0.3 - high / LEVER_M, MISSED_RAD).astype(np.float32)
        joints = np.array([1.5, bend[0], 0.6 * bend[0], *np.repeat(bend[1:], 2)], dtype=np.float32)
        return Grasp(forces, joints, forces.sum((1, 2)), T_wrist_object)


class Oracle:
    """Knows the truth: D from where the object is and should be, times `scale`, plus noise."""

    def __init__(
        self,
        T_wrist_object: Callable[[], Array],
        T_wrist_object_goal: Array,
        noise_m: float = 0.0,
        noise_rad: float = 0.0,
        seed: int = 0,
        calibration: Mapping[str, float] | None = None,
    ) -> None:
        self.calibration: Mapping[str, float] = {"distance_limit": 1.0} if calibration is None else calibration
        self.num_calls = 0
        self.seen: list[tuple[CountArray, CountArray]] = []
        self._T_wrist_object, self._T_goal = T_wrist_object, T_wrist_object_goal
        self._noise = np.array([noise_m] * 3 + [noise_rad] * 3)
        self._rng = np.random.default_rng(seed)

    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        self.num_calls += 1
        self.seen.append((counts, goal_counts))
        true = wrist_increment(self._T_wrist_object(), self._T_goal)
        return compose(true, se3_exp(self._noise * self._rng.standard_normal(6)))

    def embedding(self, counts: CountArray, joints: FloatArray) -> FloatArray:
        return np.full(4, 0.25, dtype=np.float32)


class Fixed(Oracle):
    """Says what it is told, one answer after the other; the last one again and again."""

    def __init__(self, *answers: object, embedding: FloatArray | None = None) -> None:
        super().__init__(lambda: np.eye(4), np.eye(4))
        self._answers = list(answers)
        self._embedding = embedding

    def predict(
        self, counts: CountArray, joints: FloatArray, goal_counts: CountArray, goal_joints: FloatArray
    ) -> Array:
        self.num_calls += 1
        answer = self._answers[min(self.num_calls, len(self._answers)) - 1]
        return answer  # pyright: ignore[reportReturnType]  # hostile on purpose

    def embedding(self, counts: CountArray, joints: FloatArray) -> FloatArray:
        return super().embedding(counts, joints) if self._embedding is None else self._embedding


def pose(x_mm: float = 0, y_mm: float = 0, z_mm: float = 0, roll_deg: float = 0, pitch_deg: float = 0) -> Array:
    turn = so3_exp([math.radians(roll_deg), 0.0, 0.0]) @ so3_exp([0.0, math.radians(pitch_deg), 0.0])
    return transform(turn, np.array([x_mm, y_mm, z_mm]) / 1e3)


T_WORLD_OBJECT = transform(so3_exp([0.3, -0.2, 0.5]), [0.4, -0.1, 0.3])


def make_hand(
    T_wrist_object: Array,
    shape: Shape = ROD,
    sensor: Sensor | None = None,
    faults: Faults | None = None,
    errors: WristErrors | None = None,
    seed: int = 0,
    is_closed: bool = True,
) -> SimulatedHand:
    """A hand that has closed around the object."""
    hand = SimulatedHand(
        PadWorld(),
        shape,
        T_WORLD_OBJECT,
        compose(T_WORLD_OBJECT, inverse(T_wrist_object)),
        sensor or nominal_sensor(),
        np.random.default_rng(seed),
        errors,
    )
    if faults is not None:
        hand.faults = faults
    if is_closed:
        hand.close()
    return hand


def make_goal(T_wrist_object: Array, shape: Shape = ROD) -> Goal:
    hand = make_hand(T_wrist_object, shape)
    return Goal.from_readings([hand.read()], hand.wrist_pose(), shape.name)


def make_reading(T_wrist_object: Array, shape: Shape = ROD) -> Reading:
    return make_hand(T_wrist_object, shape).read()
