"""Windows of demonstrations that know both what was asked for and what was really sent.

Where commands were disturbed on purpose (DART: Laskey et al., 2017, arXiv 1703.09327), or a person corrected a running policy, the
two differ: the robot is beside its path, and what was asked for leads back. A policy that is run asynchronously begins its chunks
with rows that were promised, right or not; so some windows here begin with rows that were sent, as committed ones, and what
follows goes from there to the rows that were asked for, without a jump.
"""

from dataclasses import dataclass, replace

import numpy as np

from cerebella.types import FloatArray, Sample


@dataclass(frozen=True)
class SentRows:
    """How windows use what was sent.

    Args:
        max_committed: longest action prefix of sent rows; 0 for none.
        share: of the windows, those that begin with such a prefix, of 1 to `max_committed` rows, all alike.
        half_life_rows: after so many rows half of an error is left in what is asked for; above 0.
        seed: which window gets which.

    Raises:
        ValueError: a number out of range.
    """

    max_committed: int = 0
    share: float = 0.0
    half_life_rows: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_committed < 0 or not 0.0 <= self.share <= 1.0 or not self.half_life_rows > 0.0:
            raise ValueError(
                f"max_committed must be 0 or more rows, share in 0..1, half_life_rows above 0; got {self.max_committed}, "
                f"{self.share} and {self.half_life_rows}"
            )

    def num_committed(self, window: int) -> int:
        """Rows of the prefix of the window with this number."""
        if not self.max_committed or not self.share:
            return 0
        rng = np.random.default_rng([self.seed, window])
        return int(rng.integers(1, self.max_committed + 1)) if rng.random() < self.share else 0

    def applied(self, sample: Sample, asked: FloatArray, sent: FloatArray, start: int, window: int) -> Sample:
        """The sample with its prefix, and a way back from where that ends.

        Errors are taken as differences of numbers, which is right for joints and positions, and for rotation vectors as long as
        they are small.

        Args:
            sample: of frame `start`, number `window` of its source. asked, sent: float32[n, action_dim], of its episode.
        """
        horizon, last = len(sample.actions), len(asked) - 1
        num = min(self.num_committed(window), horizon - 1, last + 1 - start)
        actions = sample.actions.copy()
        actions[:num] = sent[start : start + num]
        before = start + num - 1
        if before >= 0:
            error = sent[before] - asked[before]
            left = 0.5 ** (np.arange(1, horizon - num + 1) / self.half_life_rows)
            actions[num:] += (left[:, None] * error).astype(np.float32)
        return replace(sample, actions=actions, num_committed=num)
