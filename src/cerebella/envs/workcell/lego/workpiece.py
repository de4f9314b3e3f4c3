"""What is true about the bricks of an episode: who is joined to whom, where they are, where they belong."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from dataclasses import dataclass

import numpy as np

from cerebella.envs.workcell.cell import Cell
from cerebella.envs.workcell.lego.joints import Flags, Joints, Numbers, pieces
from cerebella.envs.workcell.task import Episode
from cerebella.geometry import Array


@dataclass(kw_only=True)
class LegoEpisode(Episode):
    """One episode; where bricks are and which joints hold is in the data.

    Args:
        colours: of each brick. bin_colours: of each bin. lengths: studs of each brick.
        bodies: int64[n], ids of the bricks. half_sizes_m: float64[n, 3]. joints: as drawn.
        num_done_ticks: for how many ticks up to now everything has been where it should be.
    """

    colours: tuple[str, ...]
    bin_colours: tuple[str, ...]
    lengths: tuple[int, ...]
    bodies: Numbers
    half_sizes_m: Array
    joints: Joints
    num_done_ticks: int = 0

    @property
    def bin_numbers(self) -> Numbers:
        """The bin where each brick belongs, int64[n]."""
        return np.array([self.bin_colours.index(colour) for colour in self.colours])

    def joined_pairs(self, cell: Cell) -> Numbers:
        """Pairs of bricks whose joints still hold, int64[j, 2]."""
        return self.joints.pairs[self.joints.is_joined(cell)]

    def is_separate(self, cell: Cell) -> Flags:
        """Which bricks are joined to no other, bool[n]."""
        is_separate = np.ones(len(self.colours), dtype=bool)
        is_separate[self.joined_pairs(cell).ravel()] = False
        return is_separate

    def pieces(self, cell: Cell) -> list[list[int]]:
        """Bricks that hang together, see `joints.pieces`."""
        return pieces(len(self.colours), self.joined_pairs(cell))


@dataclass(frozen=True, eq=False)
class Bricks:
    """Where bricks are.

    Args:
        positions_m: float64[n, 3]. rotations: float64[n, 3, 3], `R_world_brick`. half_sizes_m: float64[n, 3].
    """

    positions_m: Array
    rotations: Array
    half_sizes_m: Array

    @property
    def lowest_m(self) -> Array:
        """Height of the lowest corner of each, float64[n]."""
        return self.positions_m[:, 2] - (np.abs(self.rotations[:, 2]) * self.half_sizes_m).sum(axis=1)


def bricks_now(cell: Cell, episode: LegoEpisode) -> Bricks:
    """A copy of the current state."""
    return Bricks(
        positions_m=cell.data.xpos[episode.bodies],
        rotations=cell.data.xmat[episode.bodies].reshape(-1, 3, 3),
        half_sizes_m=episode.half_sizes_m,
    )
