"""The parts that come along the belt: three shapes in four colours. A shape is a body, a colour is painted on it."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from typing import NamedTuple

import mujoco
import numpy as np

from cerebella.geometry import Array

SHAPES: tuple[str, ...] = ("cube", "cylinder", "bar")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.13, 0.11),
    "green": (0.16, 0.60, 0.24),
    "blue": (0.13, 0.29, 0.78),
    "yellow": (0.93, 0.76, 0.12),
}
SIZES_M: dict[str, Array] = {
    "cube": np.array([0.028, 0.028, 0.028]),
    "cylinder": np.array([0.030, 0.030, 0.030]),
    "bar": np.array([0.048, 0.024, 0.026]),
}
"""float64[3] each: edge lengths of the box around it in its own frame, whose origin is the middle and whose z points up. A
gripper holds it across its y."""
SYMMETRY_RAD: dict[str, float] = {"cube": np.pi / 2, "cylinder": 0.0, "bar": np.pi}
"""After such a turn about z a shape looks the same; 0 for any turn."""
NUM_PER_SHAPE = 5
"""Bodies of each shape. Where belt and bins could hold more, the bins keep fewer (see `stream.feed`)."""
_MASS_KG = 0.03


class Kind(NamedTuple):
    """What an instruction names."""

    colour: str
    shape: str

    @property
    def plural(self) -> str:
        """E.g. `red cubes`."""
        return f"{self.colour} {self.shape}s"


KINDS: tuple[Kind, ...] = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)
BODIES: tuple[tuple[str, str], ...] = tuple(
    (f"{shape}_{number}", shape) for shape in SHAPES for number in range(NUM_PER_SHAPE)
)
"""Name and shape of every body; its one geom has the same name."""


def add_parts(spec: mujoco.MjSpec) -> None:
    """One free body for each of `BODIES`, weightless until it is on the belt (the task switches that)."""
    for name, shape in BODIES:
        body = spec.worldbody.add_body(name=name)
        body.add_freejoint()
        body.gravcomp = 1.0
        x, _, z = SIZES_M[shape] / 2
        round_size = [x, z, 0.0]
        is_round = shape == "cylinder"
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_CYLINDER if is_round else mujoco.mjtGeom.mjGEOM_BOX,
            size=round_size if is_round else SIZES_M[shape] / 2,
            mass=_MASS_KG,
            friction=[1.0, 0.005, 1e-4],
            condim=4,
        )
