"""How a towel lies, from the positions of its vertices alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cerebella.envs.workcell.towel.cloth import Towel
from cerebella.geometry import Array

Phase = Literal["flat", "folded", "crumpled"]
MAX_FOLDED_SHARE = 0.60
"""A clean fold has 0.5; one whose edges miss each other by a fifth of the towel's length has this."""
MIN_FLAT_SHARE = 0.88
MAX_PAIR_M = 0.07
"""Between corners, or middles of edges, that belong together after the fold: less than a third of a towel."""
MAX_FOLDED_HEIGHT_M = 0.045
MAX_FLAT_HEIGHT_M = 0.03


@dataclass(frozen=True)
class Shape:
    """Measures of one moment.

    Args:
        footprint_share: area of the smallest rectangle around the towel, seen from above, over its area when flat.
        pair_m: the largest horizontal distance between a corner (or the middle) of the first row and its partner in the last.
        height_m: of the highest vertex above the table.
    """

    footprint_share: float
    pair_m: float
    height_m: float

    @property
    def phase(self) -> Phase:
        """Folded in half, flat, or neither."""
        if self.footprint_share >= MIN_FLAT_SHARE and self.height_m <= MAX_FLAT_HEIGHT_M:
            return "flat"
        is_small = self.footprint_share <= MAX_FOLDED_SHARE and self.height_m <= MAX_FOLDED_HEIGHT_M
        return "folded" if is_small and self.pair_m <= MAX_PAIR_M else "crumpled"


def shape_of(grid_m: Array, towel: Towel) -> Shape:
    """Measure vertices, float64[num_x, num_y, 3], world frame."""
    middle = grid_m.shape[1] // 2
    columns = [0, middle, -1]
    pairs = np.linalg.norm(grid_m[0, columns, :2] - grid_m[-1, columns, :2], axis=1)
    area = footprint_m2(grid_m.reshape(-1, 3))
    return Shape(area / towel.area_m2, float(pairs.max()), float(grid_m[..., 2].max()))


def footprint_m2(positions_m: Array) -> float:
    """Area of the smallest rectangle around points seen from above, among those turned by whole degrees. float64[n, 3]."""
    angles = np.radians(np.arange(90.0))
    x, y = positions_m[:, :1], positions_m[:, 1:2]
    across, along = x * np.cos(angles) + y * np.sin(angles), y * np.cos(angles) - x * np.sin(angles)
    return float((np.ptp(across, axis=0) * np.ptp(along, axis=0)).min())
