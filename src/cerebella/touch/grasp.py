"""What a hand feels when it has closed: the nouns of touch.

Five fingertips carry one array of taxels each, as in the TacRefineNet paper (arXiv 2509.25746): 11 rows x 9 columns at
1.1 mm. Row 0 is nearest to the fingertip's end, rows run towards the palm; columns run along the wrist's y axis.

Frames. The wrist frame W: x is the squeeze direction, from the four fingers towards the thumb; y runs across the palm, from
the index to the little finger; z points along the outstretched fingers, away from the palm. Roll is a turn about x, pitch
about y, yaw about z. Its origin is the pinch point of the nominal grasp, so that small turns of the wrist move the contacts
little. O is the frame of the object, see `objects`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cerebella.geometry import Array, compose, inverse
from cerebella.touch.objects import Shape
from cerebella.types import FloatArray

FINGERS: tuple[str, ...] = ("thumb", "index", "middle", "ring", "little")
NUM_FINGERS = len(FINGERS)
NUM_ROWS, NUM_COLUMNS = 11, 9
PITCH_M = 1.1e-3
JOINTS: tuple[str, ...] = (
    "thumb_rotation",
    "thumb_proximal",
    "thumb_distal",
    *(f"{finger}_{joint}" for finger in FINGERS[1:] for joint in ("proximal", "distal")),
)
NUM_JOINTS = len(JOINTS)
"""11 joints behind 6 actuators: the thumb has two, each other finger one, its distal joint follows the proximal one."""

CONTACT_N = 0.05
"""A finger that carries less is not in contact, newtons."""


@dataclass(frozen=True, eq=False)
class Grasp:
    """One closed, settled hand.

    Args:
        forces: float32[5, 11, 9] newtons, the normal force on every taxel; fingers in the order of `FINGERS`.
        joints: float32[11] radians, in the order of `JOINTS`; 0 is outstretched, positive bends towards the palm.
        tip_forces: float32[5] newtons, the normal contact force of every fingertip as the solver has it. More than the
            taxels' sum where a contact lies beside the array.
        T_wrist_object: float64[4, 4], where the object really is; a label, never an input.

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """

    forces: FloatArray
    joints: FloatArray
    tip_forces: FloatArray
    T_wrist_object: Array

    def __post_init__(self) -> None:
        shapes = {
            "forces": (NUM_FINGERS, NUM_ROWS, NUM_COLUMNS),
            "joints": (NUM_JOINTS,),
            "tip_forces": (NUM_FINGERS,),
            "T_wrist_object": (4, 4),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"Grasp.{name} must have the shape {list(shape)}; got {list(array.shape)}")
            if not np.isfinite(array).all():
                raise ValueError(f"Grasp.{name} must be finite")

    @property
    def in_contact(self) -> NDArray[np.bool_]:
        """bool[5]: fingers whose taxels carry `CONTACT_N` or more."""
        return self.forces.sum(axis=(1, 2)) >= CONTACT_N


class TactileWorld(Protocol):
    """A simulated hand with one object, at rest between two grasps. Two of them exist; they differ in the contact model."""

    @property
    def name(self) -> str:
        """`skin` or `spheres`."""
        ...

    def grasp(self, shape: Shape, T_wrist_object: Array) -> Grasp:
        """Close the open hand around an object that is held still, until nothing moves; read; open again.

        The same arguments give the same numbers. The result is a `Grasp` also where no finger touches.

        Args:
            T_wrist_object: float64[4, 4], metres, the object as seen from the wrist.

        Raises:
            ValueError: no rigid transform, or the object is more than 50 mm from the pinch point.
            RuntimeError: the simulation became unstable; names shape and pose.
        """
        ...


def wrist_increment(T_wrist_object: Array, T_wrist_object_goal: Array) -> Array:
    """The label: how the wrist must move, in its own frame, until the object lies in the hand as in the goal.

    With the object fixed in the world, `W' = W D` and `D = T_c inv(T_g)`. [..., 4, 4] -> [..., 4, 4].
    """
    return compose(T_wrist_object, inverse(T_wrist_object_goal))


def pose_error(T_wrist_object: Array, T_wrist_object_goal: Array) -> tuple[Array, Array]:
    """(distance of the object's origins in metres, angle between the orientations in radians), each [...].

    What the grades of the paper count: |p - p_g| and 2 acos |<q, q_g>|.
    """
    distance = np.linalg.norm(T_wrist_object[..., :3, 3] - T_wrist_object_goal[..., :3, 3], axis=-1)
    difference = np.swapaxes(T_wrist_object[..., :3, :3], -1, -2) @ T_wrist_object_goal[..., :3, :3]
    sine_axis = 0.5 * np.stack(
        [
            difference[..., 2, 1] - difference[..., 1, 2],
            difference[..., 0, 2] - difference[..., 2, 0],
            difference[..., 1, 0] - difference[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = 0.5 * (np.trace(difference, axis1=-2, axis2=-1) - 1.0)
    return distance, np.arctan2(np.linalg.norm(sine_axis, axis=-1), cosine)
