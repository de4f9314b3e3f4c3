"""The order in which the windows of one source are drawn: a pure function of (seed, position), cheap to decode.

Drawing frames one by one from videos decodes most of them several times over. Here the windows are cut into runs of
neighbours; every epoch shuffles the runs, fills pools with them, and shuffles each pool:

    runs       0-31 | 32-63 | 64-95 | ...            neighbours in time, decoded in one go
    epoch      run 7, run 2, run 9, run 4, ...       shuffled anew every epoch
    pools      [ run 7, run 2 ] [ run 9, run 4 ] ... `pool` windows each, one pool per lane at a time
    draws      the windows of a pool, shuffled

Two windows of a pool of P come from one run of R with probability (R - 1) / (P - 1); a whole shuffle is R = 1 or P = all.

A lane is a share of every global batch that one rank can serve alone. The number of lanes belongs to the order, the
number of ranks does not: a rank serves `num_lanes / num_ranks` lanes, so the global batches are the same on one rank and on
many, and no rank decodes what another one needs. Draw q of the source belongs to lane q mod `num_lanes`, and every epoch of
N draws is a permutation of all N windows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cerebella.data.windows import IndexArray


class PoolId(NamedTuple):
    """One pool of one lane: the epoch, and the block of pools within it."""

    epoch: int
    block: int


class ShuffledOrder:
    """See the module.

    Args:
        sizes: windows per episode (or records per shard); a run never crosses from one to the next.
        run_length: windows per run, R. pool: windows per pool and lane, P. num_lanes: L.
        seed: numbers that decide everything.

    Raises:
        ValueError: no window, or a count below 1.
    """

    def __init__(
        self, sizes: IndexArray | Sequence[int], run_length: int, pool: int, num_lanes: int, seed: tuple[int, ...]
    ) -> None:
        for name, value in (("run_length", run_length), ("pool", pool), ("num_lanes", num_lanes)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more; got {value}")
        self._starts, self._lengths = _cut(np.asarray(sizes, dtype=np.int64), run_length)
        self.num_windows = int(self._lengths.sum())
        if not self.num_windows:
            raise ValueError("there is nothing to draw: no window in any episode")
        self.num_lanes, self.seed = num_lanes, seed
        self.pool_size = min(pool, -(-self.num_windows // num_lanes))
        self._epochs: dict[int, tuple[IndexArray, IndexArray]] = {}

    def slot(self, lane: int, count: int) -> tuple[PoolId, int]:
        """Where draw number `count` (0, 1, ...) of a lane comes from: (pool, place in that pool)."""
        position = count * self.num_lanes + lane
        epoch, within = divmod(position, self.num_windows)
        block = within // self._block_size
        return PoolId(epoch, block), (position - self._first(PoolId(epoch, block), lane)) // self.num_lanes

    def pool(self, pool: PoolId, lane: int) -> IndexArray:
        """The windows of one pool of a lane in the order of their draws, int64[n]; n may be 0 at the end of an epoch."""
        sizes = [self._size(pool, other) for other in range(lane + 1)]
        start = pool.block * self._block_size + sum(sizes[:-1])
        windows = self._in_run_order(pool.epoch, start, start + sizes[-1])
        return np.random.default_rng([*self.seed, 1, pool.epoch, pool.block, lane]).permutation(windows)

    def next_pool(self, pool: PoolId, lane: int) -> PoolId:
        """The pool after this one in which the lane has at least one draw."""
        following = pool
        while True:
            is_last = (following.block + 1) * self._block_size >= self.num_windows
            following = PoolId(following.epoch + 1, 0) if is_last else PoolId(following.epoch, following.block + 1)
            if self._size(following, lane):
                return following

    @property
    def _block_size(self) -> int:
        return self.pool_size * self.num_lanes

    def _bounds(self, pool: PoolId) -> tuple[int, int]:
        """First position of a block and the one behind its last."""
        start = pool.block * self._block_size
        epoch = pool.epoch * self.num_windows
        return epoch + start, epoch + min(start + self._block_size, self.num_windows)

    def _first(self, pool: PoolId, lane: int) -> int:
        start, _ = self._bounds(pool)
        return start + (lane - start) % self.num_lanes

    def _size(self, pool: PoolId, lane: int) -> int:
        _, end = self._bounds(pool)
        return max(0, -(-(end - self._first(pool, lane)) // self.num_lanes))

    def _in_run_order(self, epoch: int, start: int, end: int) -> IndexArray:
        """Windows `start` to `end` of the epoch's sequence of shuffled runs."""
        order, ends = self._epoch(epoch)
        pieces = []
        run = int(np.searchsorted(ends, start, side="right"))
        while start < end:
            index = order[run]
            offset = start - (ends[run] - self._lengths[index])
            count = min(end, ends[run]) - start
            pieces.append(self._starts[index] + offset + np.arange(count))
            start, run = start + count, run + 1
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)

    def _epoch(self, epoch: int) -> tuple[IndexArray, IndexArray]:
        """(shuffled runs, where each ends in the sequence); the newest two epochs are kept."""
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                del self._epochs[next(iter(self._epochs))]
            order = np.random.default_rng([*self.seed, 0, epoch]).permutation(len(self._starts))
            self._epochs[epoch] = (order, np.cumsum(self._lengths[order]))
        return self._epochs[epoch]


def _cut(sizes: IndexArray, run_length: int) -> tuple[IndexArray, IndexArray]:
    """Every episode cut into runs: (first window, number of windows) of each run."""
    num_runs = -(-sizes // run_length)
    episode = np.repeat(np.arange(len(sizes)), num_runs)
    number = np.arange(len(episode)) - np.repeat(np.cumsum(num_runs) - num_runs, num_runs)
    first_window = np.cumsum(sizes) - sizes
    starts = first_window[episode] + number * run_length
    return starts, np.minimum(run_length, sizes[episode] - number * run_length)
