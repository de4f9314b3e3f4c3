"""Which windows a set of episodes holds: counted from the episodes' lengths alone, nothing is decoded.

Windows are numbered through, episode after episode, so that neighbours in number are neighbours in time and can be
decoded in one go. Memory is one number per episode, not one per frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.int64]


class Run(NamedTuple):
    """Windows of one episode whose start frames follow each other: `start`, ..., `start + length - 1`.

    `first` is the number of the first of them.
    """

    episode: int
    start: int
    length: int
    first: int


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """The windows of E episodes.

    Args:
        offsets: int64[E + 1]; window i belongs to the episode e with `offsets[e] <= i < offsets[e + 1]`, and starts at its
            frame `i - offsets[e]`.
    """

    offsets: IndexArray

    @classmethod
    def of_lengths(cls, lengths: Sequence[int], horizon: int, min_valid: int | None = None) -> "WindowIndex":
        """Windows of episodes of these lengths (frames).

        Args:
            horizon: rows of a window. min_valid: how many of them must lie inside the episode; all of them if not given
                (the released rule: frames - horizon + 1 windows), 1 keeps every start frame.

        Raises:
            ValueError: a horizon below 1, `min_valid` outside 1..horizon, or a negative length.
        """
        if horizon < 1:
            raise ValueError(f"horizon must be 1 row or more; got {horizon}")
        needed = horizon if min_valid is None else min_valid
        if not 1 <= needed <= horizon:
            raise ValueError(f"min_valid must be in 1..{horizon} rows (the horizon); got {min_valid}")
        frames = np.asarray(lengths, dtype=np.int64).reshape(-1)
        if (frames < 0).any():
            raise ValueError(f"episode {int(np.argmax(frames < 0))} has a negative length: {int(frames.min())} frames")
        return cls(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.maximum(frames - needed + 1, 0))]))

    def __len__(self) -> int:
        """Number of windows."""
        return int(self.offsets[-1])

    @property
    def num_episodes(self) -> int:
        """Episodes, also those that hold no window."""
        return len(self.offsets) - 1

    def locate(self, index: int) -> tuple[int, int]:
        """(episode, start frame) of one window.

        Raises:
            ValueError: no such window.
        """
        if not 0 <= index < len(self):
            raise ValueError(f"there is no window {index}; windows are 0..{len(self) - 1}")
        episode = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return episode, int(index - self.offsets[episode])

    def runs(self, indices: IndexArray | Sequence[int]) -> Iterator[Run]:
        """The windows at `indices` (any order, no repetition) as runs, in the order of their numbers."""
        ordered = np.sort(np.asarray(indices, dtype=np.int64))
        if not len(ordered):
            return
        episodes = np.searchsorted(self.offsets, ordered, side="right") - 1
        breaks = np.flatnonzero((np.diff(ordered) != 1) | (np.diff(episodes) != 0)) + 1
        for piece in np.split(np.arange(len(ordered)), breaks):
            first = int(ordered[piece[0]])
            episode, start = self.locate(first)
            yield Run(episode, start, len(piece), first)
