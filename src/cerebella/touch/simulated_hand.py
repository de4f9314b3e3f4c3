"""A hand of the refinement loop in a tactile world: exact enough to measure a refiner, with faults to switch on.

The object is fixed in the world, the wrist is kinematic: `T_wrist_object = inv(T_world_wrist) T_world_object`.
"""

from dataclasses import dataclass, replace

import numpy as np

from cerebella.geometry import Array, compose, inverse, se3_exp, so3_exp, transform
from cerebella.touch.grasp import FINGERS, Grasp, TactileWorld, pose_error
from cerebella.touch.objects import Shape
from cerebella.touch.reading import COUNTS_SHAPE, Reading
from cerebella.touch.refinement import Error
from cerebella.touch.sensor import Sensor

_OUT_OF_REACH = transform(np.eye(3), [0.0, 0.0, 0.045])
"""An object here is beyond the fingertips: what an empty hand holds."""


@dataclass(frozen=True)
class Faults:
    """What is broken.

    Args:
        dead_fingers: whose taxels all say 0.
        dead_taxel_share: of all taxels, 0..1; which ones is drawn when the faults are set.
        gain: factor on every force before the sensor; a large one saturates.
        is_object_removed: there is nothing to hold.

    Raises:
        ValueError: an unknown finger, or a number out of range.
    """

    dead_fingers: tuple[str, ...] = ()
    dead_taxel_share: float = 0.0
    gain: float = 1.0
    is_object_removed: bool = False

    def __post_init__(self) -> None:
        if unknown := [finger for finger in self.dead_fingers if finger not in FINGERS]:
            raise ValueError(f"unknown finger {unknown[0]!r}; known: {', '.join(FINGERS)}")
        if not 0 <= self.dead_taxel_share <= 1:
            raise ValueError(f"dead_taxel_share must be in 0..1; got {self.dead_taxel_share}")
        if not (np.isfinite(self.gain) and self.gain >= 0):
            raise ValueError(f"gain must be 0 or more (a factor); got {self.gain}")


@dataclass(frozen=True)
class WristErrors:
    """How far the wrist ends from where it was sent and says it is.

    Args:
        noise_m, noise_rad: standard deviation per axis, drawn anew at every move.
        bias_m, bias_rad: (x, y, z) in the wrist's frame, the same at every move. A wrist that is always off by the same
            does no harm to the loop: it feels where it really is.
    """

    noise_m: float = 0.0
    noise_rad: float = 0.0
    bias_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bias_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)


class SimulatedHand:
    """A `refiner.Hand`; open at the start.

    Args:
        world: what a closed hand feels.
        shape: the object. T_world_object: float64[4, 4] metres, where it is.
        T_world_wrist: where the wrist starts.
        sensor: newtons to counts.
        rng: of the sensor's noise, the wrist's errors and dead taxels.
        wrist_errors: none by default.

    Attributes:
        num_grasps: how often the hand has closed.
    """

    def __init__(
        self,
        world: TactileWorld,
        shape: Shape,
        T_world_object: Array,
        T_world_wrist: Array,
        sensor: Sensor,
        rng: np.random.Generator,
        wrist_errors: WristErrors | None = None,
    ) -> None:
        self.num_grasps = 0
        self._world, self._shape, self._sensor, self._rng = world, shape, sensor, rng
        self._errors = wrist_errors or WristErrors()
        self._T_world_object = T_world_object
        self._grasp: Grasp | None = None
        self._faults, self._broken = Faults(), sensor
        self._place(T_world_wrist)

    # What the loop may use

    def close(self) -> None:
        """Close; nothing happens to a closed hand.

        Raises:
            RuntimeError: the simulation became unstable.
        """
        if self._grasp is None:
            self._grasp = self._felt()
            self.num_grasps += 1

    def open(self) -> None:
        """Let go."""
        self._grasp = None

    def read(self) -> Reading:
        """One reading with fresh noise.

        Raises:
            RuntimeError: the hand is open.
        """
        if self._grasp is None:
            raise RuntimeError("read() needs a closed hand; call close() first")
        counts = self._broken.counts(self._grasp.forces * np.float32(self._faults.gain), self._rng)
        return Reading(counts, self._grasp.joints)

    def wrist_pose(self) -> Array:
        """Where the wrist says it is: where it was sent."""
        return self._T_world_commanded

    def move_wrist(self, T_world_wrist: Array) -> None:
        """Go there, with the wrist's errors.

        Raises:
            RuntimeError: the hand is closed; it would drag the object along.
        """
        if self._grasp is not None:
            raise RuntimeError("move_wrist() needs an open hand; call open() first")
        self._place(T_world_wrist)

    # What only a test or an evaluation may use

    @property
    def faults(self) -> Faults:
        """What is broken; set it to break something else from the next reading on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        is_dead = self._rng.random(COUNTS_SHAPE) < faults.dead_taxel_share
        is_dead[[FINGERS.index(finger) for finger in faults.dead_fingers]] = True
        is_new_grasp = faults.is_object_removed != self._faults.is_object_removed
        self._faults, self._broken = faults, self._sensor.with_dead(is_dead)
        if is_new_grasp:
            self._regrasp()

    @property
    def T_wrist_object(self) -> Array:
        """Where the object really is, float64[4, 4] metres."""
        return compose(inverse(self._T_world_wrist), self._T_world_object)

    def error_to(self, T_wrist_object_goal: Array) -> Error:
        """How far the object really is from a goal: (metres, radians), see `grasp.pose_error`."""
        distance, angle = pose_error(self.T_wrist_object, T_wrist_object_goal)
        return float(distance), float(angle)

    def place_object(self, T_wrist_object: Array) -> None:
        """Put the object somewhere else, as seen from the wrist as it is now. A closed hand closes around it there."""
        self._T_world_object = compose(self._T_world_wrist, T_wrist_object)
        self._regrasp()

    def disturb(self, rng: np.random.Generator, max_shift_m: Array, max_turn_rad: Array) -> None:
        """Somebody pushes the object: it moves by a uniform random amount in the hand, and the hand closes around it again.

        Args:
            max_shift_m, max_turn_rad: float64[3], largest motion along and about the wrist's x, y and z, 0 for none; the
                turn is about the wrist's origin (the pinch point).
        """
        half = np.concatenate([np.asarray(max_shift_m), np.asarray(max_turn_rad)])
        motion = rng.uniform(-1.0, 1.0, 6) * half
        self.place_object(compose(transform(so3_exp(motion[3:]), motion[:3]), self.T_wrist_object))

    def _place(self, T_world_wrist: Array) -> None:
        errors = self._errors
        drawn = self._rng.standard_normal(6) * ([errors.noise_m] * 3 + [errors.noise_rad] * 3)
        off = np.array([*errors.bias_m, *errors.bias_rad]) + drawn
        self._T_world_commanded = T_world_wrist
        self._T_world_wrist = compose(T_world_wrist, se3_exp(off))

    def _regrasp(self) -> None:
        if self._grasp is not None:
            self.open()
            self.close()

    def _felt(self) -> Grasp:
        if not self._faults.is_object_removed:
            return self._world.grasp(self._shape, self.T_wrist_object)
        empty = self._world.grasp(self._shape, _OUT_OF_REACH)
        return replace(empty, forces=np.zeros_like(empty.forces), tip_forces=np.zeros_like(empty.tip_forces))
