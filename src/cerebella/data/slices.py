"""One run of entries in a stored column, as dimensions of an embodiment: unit, sign and rotation stated, never guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Dimension
from cerebella.geometry import matrix_from_quat_xyzw, matrix_from_rot6d, so3_exp, so3_log
from cerebella.types import FloatArray

Rotation = Literal["quat_xyzw", "quat_wxyz", "euler_xyz", "matrix", "rot6d"]
ROTATION_WIDTHS: Mapping[str, int] = {"quat_xyzw": 4, "quat_wxyz": 4, "euler_xyz": 3, "matrix": 9, "rot6d": 6}
UNIT_FACTORS: Mapping[tuple[str, str], float] = {
    ("deg", "rad"): np.pi / 180,
    ("deg/s", "rad/s"): np.pi / 180,
    ("mm", "m"): 1e-3,
    ("cm", "m"): 1e-2,
    ("%", "1"): 1e-2,
}
"""(stored unit, the embodiment's unit) -> factor."""


@dataclass(frozen=True)
class Slice:
    """Entries [start, stop) of a column, and the dimensions of an embodiment that they are.

    Args:
        column: of the store; a scalar column is [0, 1).
        names: dimensions of the state (or the action), in the order of the entries. A rotation has three: its axis_angle.
        unit: the unit of the stored numbers; None where it is the embodiment's own. Nothing is guessed from values.
        gripper_ends: stored values at which the gripper is physically closed, and open; None where the stored numbers
            have the range and the sign of the embodiment. Needs exactly one name, of a gripper.
        rotation: how a stored rotation is written; None where it is an axis_angle or no rotation. `euler_xyz` is roll,
            pitch, yaw about the fixed axes; `matrix` is row by row; `rot6d` is the first two columns.
    """

    column: str
    start: int
    stop: int
    names: tuple[str, ...]
    unit: str | None = None
    gripper_ends: tuple[float, float] | None = None
    rotation: Rotation | None = None

    def __post_init__(self) -> None:
        what = f"slice [{self.start}, {self.stop}) of {self.column!r}"
        if not 0 <= self.start < self.stop:
            raise ValueError(f"{what}: start must be 0 or more and below stop")
        if self.rotation is not None and self.rotation not in get_args(Rotation):
            raise ValueError(f"{what}: unknown rotation {self.rotation!r}; known: {', '.join(get_args(Rotation))}")
        if self.rotation is not None and len(self.names) != 3:
            raise ValueError(f"{what}: a rotation is three dimensions (axis_angle); got the names {list(self.names)}")
        wanted = len(self.names) if self.rotation is None else ROTATION_WIDTHS[self.rotation]
        if self.stop - self.start != wanted:
            raise ValueError(f"{what} has {self.stop - self.start} entries; {list(self.names)} need {wanted}")
        if self.gripper_ends is not None and (len(self.names) != 1 or self.gripper_ends[0] == self.gripper_ends[1]):
            raise ValueError(f"{what}: gripper_ends need one name and two different values; got {self.gripper_ends}")

    def read(self, columns: Mapping[str, NDArray[Any]], dimensions: Sequence[Dimension]) -> FloatArray:
        """The numbers as the embodiment has them.

        Args:
            columns: of one episode, [n, *shape] each. dimensions: those of `names`, in order.

        Returns:
            float32[n, len(names)], raw units of the embodiment. A rotation has a length of 0 to pi.
        """
        stored = columns[self.column]
        values = stored.reshape(len(stored), -1)[:, self.start : self.stop].astype(np.float64)
        if self.gripper_ends is not None:
            closed, opened = self.gripper_ends
            return dimensions[0].from_opening((values - closed) / (opened - closed))
        values = values * self._factor(dimensions)
        if self.rotation is not None:
            values = so3_log(_matrix(self.rotation, values))
        return values.astype(np.float32)

    def check(self, dimensions: Sequence[Dimension]) -> None:
        """Raise a ValueError unless units, gripper and rotation fit the embodiment's dimensions."""
        self._factor(dimensions)
        if self.gripper_ends is not None and dimensions[0].kind != "gripper":
            raise ValueError(f"{self.names[0]!r} is a {dimensions[0].kind}; gripper_ends are for a gripper")
        if self.rotation is not None and any(d.kind not in ("rotation", "velocity") for d in dimensions):
            raise ValueError(f"{list(self.names)} are {[d.kind for d in dimensions]}; {self.rotation} is a rotation")

    def _factor(self, dimensions: Sequence[Dimension]) -> float:
        if self.unit is None or self.gripper_ends is not None:
            return 1.0
        units = {dimension.unit for dimension in dimensions}
        if units == {self.unit} or (self.rotation not in (None, "euler_xyz") and self.unit == "1"):
            return 1.0
        pairs = [(self.unit, unit) for unit in units]
        if len(pairs) != 1 or pairs[0] not in UNIT_FACTORS:
            known = ", ".join(f"{a} to {b}" for a, b in UNIT_FACTORS)
            raise ValueError(
                f"{self.column!r} holds {self.unit}, {list(self.names)} are in {', '.join(sorted(units))}; "
                f"known conversions: {known}"
            )
        return UNIT_FACTORS[pairs[0]]


def _matrix(rotation: Rotation, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, width] -> [n, 3, 3]."""
    if rotation == "quat_xyzw":
        return matrix_from_quat_xyzw(values)
    if rotation == "quat_wxyz":
        return matrix_from_quat_xyzw(values[:, [1, 2, 3, 0]])
    if rotation == "matrix":
        return values.reshape(-1, 3, 3)
    if rotation == "rot6d":
        return matrix_from_rot6d(values)
    x, y, z = (so3_exp(values[:, i : i + 1] * np.eye(3)[i]) for i in range(3))
    return z @ y @ x
