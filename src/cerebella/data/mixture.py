"""Any number of sources in fixed proportions: which rows of which source make up the global batch of a step.

Everything is a pure function of (spec, step). A global batch is `num_lanes` equal shares (`order`), every share has the
same number of rows of every source, and a rank serves whole lanes: so all ranks get batches of one shape, and the batches
do not depend on the number of ranks.

Proportions hold for running totals: sources are split in two again and again, vision-language from robots first, and each
split rounds its running total to the nearest row. So vision-language and robot rows are never more than half a row per lane
from their exact share, after any number of rows.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cerebella.data.order import ShuffledOrder
from cerebella.data.sources import RobotGroup, Source

RELEASED_VL_RATIO = 1 / 6
"""Vision-language rows per robot row in Xiaomi-Robotics-0's pre-training (its paper)."""

_RUNS_PER_POOL = 4


@dataclass(frozen=True, eq=False)
class MixtureSpec:
    """What to draw from, and in which proportions.

    Args:
        sources: robot and vision-language sources, with different names.
        weights: one per source, above 0, compared among sources of its kind; None: by the number of windows.
        vl_ratio: vision-language rows per robot row; needed with both kinds, and only then.
        seed: decides the order.
        num_lanes: shares of a global batch; a multiple of every number of ranks that the run will have.
        shuffle_windows: windows held for shuffling at a time, over all sources and lanes. The loader holds up to twice
            as many (the next pools fill up early). Each source has at least four of its runs per lane.

    Raises:
        ValueError: no source, a name twice, a weight not above 0, or a ratio without need (or the other way round).
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...] | None = None
    vl_ratio: float | None = None
    seed: int = 0
    num_lanes: int = 1
    shuffle_windows: int = 2048

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a mixture needs sources with different names; got {names}")
        if self.weights is not None and len(self.weights) != len(names):
            raise ValueError(f"a mixture needs one weight per source; got {len(self.weights)} for {len(names)} sources")
        for name, weight in zip(names, self.weights or [], strict=False):
            if not (np.isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {name!r} must be above 0; got {weight}. Leave a source out instead")
        num_robot = sum(source.group is not None for source in self.sources)
        needs_ratio = 0 < num_robot < len(names)
        if needs_ratio and not (self.vl_ratio is not None and np.isfinite(self.vl_ratio) and self.vl_ratio > 0):
            raise ValueError(
                f"robot and vision-language sources need vl_ratio above 0 (rows per robot row, e.g. 1/6); "
                f"got {self.vl_ratio}"
            )
        if not needs_ratio and self.vl_ratio is not None:
            raise ValueError(
                f"vl_ratio {self.vl_ratio} needs both kinds of sources; got {num_robot} of {len(names)} robot"
            )
        if self.num_lanes < 1 or self.shuffle_windows < 1:
            raise ValueError(
                f"num_lanes and shuffle_windows must be 1 or more; got {self.num_lanes}, {self.shuffle_windows}"
            )


class Draws(NamedTuple):
    """Rows of one lane from one source: its draws number `first` to `first + num_rows - 1` (see `ShuffledOrder.slot`)."""

    source: int
    first: int
    num_rows: int


class Mixture:
    """A spec at one batch size.

    Args:
        batch_size: rows of a global batch, over all ranks.

    Raises:
        ValueError: the batch does not divide into the lanes.
    """

    def __init__(self, spec: MixtureSpec, batch_size: int) -> None:
        if batch_size < 1 or batch_size % spec.num_lanes:
            raise ValueError(f"batch_size must be a multiple of num_lanes {spec.num_lanes}; got {batch_size}")
        self.spec, self.batch_size = spec, batch_size
        self.rows_per_lane = batch_size // spec.num_lanes
        self.shares = _shares(spec)
        robots = [k for k, source in enumerate(spec.sources) if source.group is not None]
        others = [k for k, source in enumerate(spec.sources) if source.group is None]
        self._kinds = (_heaviest_first(others, self.shares), _heaviest_first(robots, self.shares))
        self._orders: dict[tuple[int, int], tuple[Source, ShuffledOrder, int]] = {}

    @property
    def groups(self) -> tuple[RobotGroup, ...]:
        """Robot types and control modes, each once, in the order of the sources."""
        return tuple(dict.fromkeys(source.group for source in self.spec.sources if source.group is not None))

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of everything that decides the order; the same for every number of ranks and workers."""
        spec = self.spec
        facts = {
            "sources": [[source.name, len(source.windows), source.run_length] for source in spec.sources],
            "shares": self.shares.tolist(),
            "numbers": [spec.seed, spec.num_lanes, spec.shuffle_windows, self.batch_size],
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def num_rows(self, num_lane_rows: int) -> NDArray[np.int64]:
        """How many of the first `num_lane_rows` rows of a lane come from each source, int64[num_sources]; never falls."""
        counts = np.zeros(len(self.shares), dtype=np.int64)
        vl_share = float(self.shares[self._kinds[0]].sum())
        num_vl = num_lane_rows if not self._kinds[1] else int(np.floor(num_lane_rows * vl_share + 0.5))
        for kind, left in zip(self._kinds, (num_vl, num_lane_rows - num_vl), strict=True):
            rest = float(self.shares[kind].sum())
            for k in kind[:-1]:
                counts[k] = int(np.floor(left * min(1.0, self.shares[k] / rest) + 0.5))
                left, rest = left - int(counts[k]), rest - self.shares[k]
            if kind:
                counts[kind[-1]] = left
        return counts

    def draws(self, step: int) -> list[Draws]:
        """What every lane draws at a step; sources without a row are left out."""
        before = self.num_rows(step * self.rows_per_lane)
        after = self.num_rows((step + 1) * self.rows_per_lane)
        return [Draws(k, int(before[k]), int(after[k] - before[k])) for k in np.flatnonzero(after > before).tolist()]

    def lane(self, source: int, lane: int) -> tuple[Source, ShuffledOrder, int]:
        """(what to read from, its order, the lane in that order) for one source and lane."""
        if (source, lane) not in self._orders:
            whole, spec = self.spec.sources[source], self.spec
            part = whole.part(lane, spec.num_lanes)
            if part is not None:
                entry = (part, self._order(part, source, 1, (lane,)), 0)
            elif (source, 0) in self._orders:
                entry = (whole, self._orders[source, 0][1], lane)
            else:
                entry = (whole, self._order(whole, source, spec.num_lanes, ()), lane)
                self._orders[source, 0] = (*entry[:2], 0)
            self._orders[source, lane] = entry
        return self._orders[source, lane]

    def _order(self, source: Source, index: int, num_lanes: int, extra: tuple[int, ...]) -> ShuffledOrder:
        name = int.from_bytes(hashlib.sha256(self.spec.sources[index].name.encode()).digest()[:4], "big")
        share = self.shares[index] / self.spec.num_lanes
        pool = max(
            round(self.spec.shuffle_windows * share),
            _RUNS_PER_POOL * source.run_length,
            2 * int(np.ceil(self.rows_per_lane * self.shares[index])),
        )
        sizes = np.diff(source.windows.offsets)
        return ShuffledOrder(sizes, source.run_length, pool, num_lanes, (self.spec.seed, name, *extra))


def _shares(spec: MixtureSpec) -> NDArray[np.float64]:
    """Share of all rows per source, float64[num_sources], sums to 1."""
    sizes = [len(source.windows) for source in spec.sources]
    weights = np.asarray(sizes if spec.weights is None else spec.weights, dtype=np.float64)
    is_robot = np.asarray([source.group is not None for source in spec.sources])
    shares = np.zeros(len(weights))
    kinds = ((is_robot, 1.0), (~is_robot, spec.vl_ratio if is_robot.any() and spec.vl_ratio is not None else 1.0))
    for of_kind, amount in kinds:
        if of_kind.any():
            shares[of_kind] = amount * weights[of_kind] / weights[of_kind].sum()
    return shares / shares.sum()


def _heaviest_first(sources: Sequence[int], shares: NDArray[np.float64]) -> list[int]:
    return sorted(sources, key=lambda k: (-shares[k], k))
