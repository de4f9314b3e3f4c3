"""A simulated hand whose joints are read with errors, in a world that does not simulate the same grasp twice."""

from dataclasses import dataclass, replace

import numpy as np

from cerebella.geometry import Array
from cerebella.touch.grasp import NUM_JOINTS, Grasp, TactileWorld
from cerebella.touch.objects import Shape
from cerebella.touch.reading import Reading
from cerebella.touch.sensor import Sensor
from cerebella.touch.simulated_hand import SimulatedHand


@dataclass(frozen=True)
class JointErrors:
    """How joints are read: standard deviations of an error that stays, and of one that every reading has anew, radians."""

    bias_rad: float
    noise_rad: float

    def draw_bias(self, rng: np.random.Generator) -> Array:
        """float64[11] radians: the error that one hand always has."""
        return self.bias_rad * rng.standard_normal(NUM_JOINTS)


class ErringHand(SimulatedHand):
    """See `SimulatedHand`.

    Args:
        joint_bias_rad: float64[11], added to every reading. joint_noise_rad: standard deviation of what is added anew.
    """

    def __init__(
        self,
        world: TactileWorld,
        shape: Shape,
        T_world_object: Array,
        T_world_wrist: Array,
        sensor: Sensor,
        rng: np.random.Generator,
        joint_bias_rad: Array,
        joint_noise_rad: float,
    ) -> None:
        super().__init__(world, shape, T_world_object, T_world_wrist, sensor, rng)
        self._joint_bias_rad, self._joint_noise_rad = joint_bias_rad, joint_noise_rad

    def read(self) -> Reading:
        """See `SimulatedHand.read`."""
        reading = super().read()
        noise = self._joint_noise_rad * self._rng.standard_normal(NUM_JOINTS)
        return replace(reading, joints=(reading.joints + self._joint_bias_rad + noise).astype(np.float32))


class RememberingWorld:
    """A `TactileWorld` that keeps the last grasps: a pose that was tried before it is used costs nothing the second time."""

    def __init__(self, world: TactileWorld, num_kept: int = 4) -> None:
        self.name = world.name
        self._world, self._num_kept = world, num_kept
        self._kept: dict[tuple[str, bytes], Grasp] = {}

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        """See `TactileWorld.grasp`."""
        key = shape.name, np.ascontiguousarray(T_wrist_object).tobytes()
        if key not in self._kept:
            self._kept[key] = self._world.grasp(shape, T_wrist_object)
            while len(self._kept) > self._num_kept:
                del self._kept[next(iter(self._kept))]
        return self._kept[key]
