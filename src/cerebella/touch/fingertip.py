"""Where the taxels sit on a fingertip.

A fingertip is an ellipsoid. Tip frame: the origin is its centre; x points out of the pad, towards the object; z points to the
finger's end; y = z x x. In the nominal grasp the tip frames of the four fingers are parallel to the wrist frame. The thumb
looks at them: its x is the wrist's -x, its y the wrist's -y. So that columns run along the wrist's y axis on all five arrays
(see `grasp`), they run along the tip's y on the fingers, and against it on the thumb.
"""

import numpy as np

from cerebella.geometry import Array
from cerebella.touch.grasp import NUM_COLUMNS, NUM_ROWS, PITCH_M

TIP_SEMI_AXES_M: tuple[float, float, float] = (6.0e-3, 8.5e-3, 12.5e-3)
"""Semi-axes of the ellipsoid along x (depth), y (width) and z (length). The pad's radius of curvature is y^2 / x = 12 mm
across and z^2 / x = 26 mm along the finger. An array of 9.9 mm x 12.1 mm fits on it."""


def taxel_positions(
    finger: str = "index",
    semi_axes_m: tuple[float, float, float] = TIP_SEMI_AXES_M,
    offset_m: tuple[float, float] = (0.0, 0.0),
    num_beyond: int = 0,
) -> tuple[Array, Array]:
    """Taxel centres on the pad's surface, and the outward normals there, both in the tip frame.

    The pitch is that of the paper, 1.1 mm, measured in the plane of y and z; x follows from the ellipsoid's equation.

    Args:
        finger: of `FINGERS`; only the thumb differs, by the order of its columns.
        semi_axes_m: of the ellipsoid.
        offset_m: the array's centre in y and z, metres.
        num_beyond: so many more rows and columns at each border, as if the array went on. Where the ellipsoid has ended,
            position and normal are NaN.

    Returns:
        (points float64[rows, columns, 3] metres, normals float64[rows, columns, 3] of length 1), [11, 9, 3] without
        `num_beyond`. Row 0 is nearest to the finger's end.
    """
    rows: Array = np.arange(-num_beyond, NUM_ROWS + num_beyond, dtype=np.float64) - (NUM_ROWS - 1) / 2
    columns: Array = np.arange(-num_beyond, NUM_COLUMNS + num_beyond, dtype=np.float64) - (NUM_COLUMNS - 1) / 2
    if finger == "thumb":
        columns = -columns
    y, z = np.meshgrid(offset_m[0] + PITCH_M * columns, offset_m[1] - PITCH_M * rows)
    squared = np.asarray(semi_axes_m) ** 2
    rest = 1.0 - y**2 / squared[1] - z**2 / squared[2]
    x = semi_axes_m[0] * np.sqrt(np.where(rest > 0.0, rest, np.nan))
    points: Array = np.stack([x, y, z], axis=-1)
    normals: Array = points / squared
    return points, normals / np.linalg.norm(normals, axis=-1, keepdims=True)
