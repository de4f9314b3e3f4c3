"""The smallest tactile world: five flat pads that meet an object as springs on a grid, from signed distances alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cerebella.geometry import Array, inverse
from cerebella.touch.grasp import NUM_COLUMNS, NUM_JOINTS, NUM_ROWS, PITCH_M, Grasp
from cerebella.touch.objects import Shape

_Z, _Y = np.meshgrid(
    PITCH_M * ((NUM_ROWS - 1) / 2 - np.arange(NUM_ROWS)), PITCH_M * (np.arange(NUM_COLUMNS) - 4), indexing="ij"
)
_FINGER_Y_M = (0.0, -0.026, -0.009, 0.009, 0.026)
SKIN_M = 1.2e-3


@dataclass(frozen=True)
class FlatWorld:
    """Pads stand where the nominal object's faces are and give way like springs.

    Args:
        stiffness_n_per_m: of one taxel. grasp_s: how long a grasp takes, seconds. unstable_beyond_m: objects that are shifted
            further out of the hand than this make it fail.
    """

    stiffness_n_per_m: float = 300.0
    grasp_s: float = 0.0
    unstable_beyond_m: float = np.inf

    @property
    def name(self) -> str:
        return "flat"

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        if T_wrist_object[2, 3] > self.unstable_beyond_m:
            raise RuntimeError(f"{shape.name} at z = {T_wrist_object[2, 3]} m became unstable")
        time.sleep(self.grasp_s)
        half = shape.thickness_m / 2
        points = np.stack([np.stack([np.full_like(_Y, s * half), _Y + y, _Z], -1) for s, y in _pads()])
        T_object_wrist = inverse(T_wrist_object)
        distance = shape.signed_distance(points @ T_object_wrist[:3, :3].T + T_object_wrist[:3, 3])
        forces = (self.stiffness_n_per_m * np.clip(SKIN_M - distance, 0, SKIN_M)).astype(np.float32)
        joints = np.linspace(0.2, 0.4, NUM_JOINTS) + T_wrist_object[2, 3] + T_wrist_object[0, 2]
        return Grasp(forces, joints.astype(np.float32), forces.sum(axis=(1, 2)), T_wrist_object)


def _pads() -> list[tuple[float, float]]:
    return [(1.0 if i == 0 else -1.0, y) for i, y in enumerate(_FINGER_Y_M)]


def make_flat_world(name: str, parameters: Mapping[str, float]) -> FlatWorld:
    assert name == "flat"
    return FlatWorld(**parameters)
