"""`Loader`: the batches of a mixture for one rank, decoded ahead by worker threads.

Threads, not processes: the decoders and NumPy let others run while they work, and pictures are not copied between
processes. What comes out depends on the mixture and the step alone, not on the number of workers or ranks, so the cursor of
a run is its step. Held at a time: two pools per source and lane (`MixtureSpec.shuffle_windows`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, TypeVar

from cerebella.data.episodes import DataFault, Fault
from cerebella.data.mixture import Mixture
from cerebella.data.order import PoolId, ShuffledOrder
from cerebella.data.sources import RobotGroup, Source
from cerebella.types import Conversation, Sample

OnFault = Literal["raise", "skip"]
Item = Sample | Conversation
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class MixedBatch:
    """One rank's rows of one step, pictures as uint8.

    Rows are ordered lane by lane, every lane with as many of each source, so that the rows of all ranks, one rank after the
    other, are the rows that a single rank would get.

    Args:
        step: counts from 0. num_lanes: of this rank.
        samples: of all robots, see `by_group`. conversations: may be empty, as may `samples`.
    """

    step: int
    num_lanes: int
    samples: tuple[Sample, ...]
    conversations: tuple[Conversation, ...]

    def by_group(self) -> dict[RobotGroup, list[Sample]]:
        """The samples per robot type and control mode, which share a processor; no empty entry."""
        groups: dict[RobotGroup, list[Sample]] = {}
        for sample in self.samples:
            groups.setdefault(RobotGroup(sample.robot_type, sample.control_mode), []).append(sample)
        return groups

    def split(self, num_parts: int) -> list["MixedBatch"]:
        """Equal parts for gradient accumulation, whole lanes each.

        Raises:
            ValueError: the lanes do not divide into the parts.
        """
        if num_parts < 1 or self.num_lanes % num_parts:
            raise ValueError(
                f"{self.num_lanes} lanes of this rank do not divide into {num_parts} parts; choose num_lanes as a multiple "
                "of ranks x parts"
            )
        samples, talk = len(self.samples) // num_parts, len(self.conversations) // num_parts
        return [
            MixedBatch(
                self.step,
                self.num_lanes // num_parts,
                self.samples[i * samples : (i + 1) * samples],
                self.conversations[i * talk : (i + 1) * talk],
            )
            for i in range(num_parts)
        ]


@dataclass
class FaultReport:
    """What was left out: how many windows, and each fault once."""

    num_skipped: int = 0
    faults: dict[Fault, None] = field(default_factory=dict)

    def add(self, fault: Fault, num_windows: int) -> None:
        """Count a run that could not be read."""
        self.num_skipped += num_windows
        self.faults[fault] = None


class Loader:
    """Iterate over the steps of a mixture, without end. Use it in a `with` statement, or `close` it.

    Args:
        rank, num_ranks: which share of every global batch to serve.
        num_workers: threads that decode ahead; 0 decodes when asked.
        on_fault: `raise` stops at the first run that cannot be read; `skip` gives its rows to the next good windows of the
            same pool, so that batches keep their shape, and counts them in `report`.
        cursor: where to go on (`cursor` of a loader of the same mixture); None starts at step 0.

    Raises:
        ValueError: the lanes do not divide among the ranks, or the cursor belongs to another mixture.
    """

    def __init__(
        self,
        mixture: Mixture,
        rank: int = 0,
        num_ranks: int = 1,
        num_workers: int = 2,
        on_fault: OnFault = "raise",
        cursor: Mapping[str, int | str] | None = None,
    ) -> None:
        num_lanes = mixture.spec.num_lanes
        if not 0 <= rank < num_ranks or num_lanes % num_ranks:
            raise ValueError(
                f"num_lanes {num_lanes} must be a multiple of the number of ranks, and rank below it; "
                f"got rank {rank} of {num_ranks}"
            )
        if num_workers < 0 or on_fault not in ("raise", "skip"):
            raise ValueError(f"num_workers must be 0 or more, on_fault raise or skip; got {num_workers}, {on_fault!r}")
        self.mixture, self.report, self.step = mixture, FaultReport(), 0
        if cursor is not None:
            if cursor.get("mixture") != mixture.fingerprint:
                raise ValueError(
                    f"the cursor belongs to the mixture {cursor.get('mixture')}, this one is {mixture.fingerprint}: its "
                    "sources, weights, batch size, seed, lanes or shuffling differ"
                )
            self.step = int(cursor["step"])
        share = num_lanes // num_ranks
        self._lanes = range(rank * share, (rank + 1) * share)
        self._on_fault: OnFault = on_fault
        self._threads = ThreadPoolExecutor(num_workers, "cerebella-loader") if num_workers else None
        self._readers: dict[tuple[int, int], _LaneReader] = {}
        self._is_closed = False

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[MixedBatch]:
        return self

    def __next__(self) -> MixedBatch:
        """This rank's rows of the next step.

        Raises:
            DataFault: a run cannot be read (with `on_fault="raise"`). ValueError: the loader is closed, or nothing of a
                pool can be read.
        """
        if self._is_closed:
            raise ValueError("the loader is closed")
        samples: list[Sample] = []
        conversations: list[Conversation] = []
        draws = self.mixture.draws(self.step)
        for lane in self._lanes:
            for draw in draws:
                reader = self._reader(draw.source, lane, draw.first)
                for item in (reader.take() for _ in range(draw.num_rows)):
                    if isinstance(item, Conversation):
                        conversations.append(item)
                    else:
                        samples.append(item)
        batch = MixedBatch(self.step, len(self._lanes), tuple(samples), tuple(conversations))
        self.step += 1
        return batch

    def cursor(self) -> dict[str, int | str]:
        """All that a resumed run needs: the next step, and which mixture it belongs to."""
        return {"step": self.step, "mixture": self.mixture.fingerprint}

    def close(self) -> None:
        """Stop the workers and forget what they decoded; waits for the runs that are being decoded now."""
        self._is_closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        self._readers.clear()

    def _reader(self, source: int, lane: int, first: int) -> "_LaneReader":
        if (source, lane) not in self._readers:
            self._readers[source, lane] = _LaneReader(
                *self.mixture.lane(source, lane), first, self._start, self._on_fault, self.report
            )
        return self._readers[source, lane]

    def _start(self, task: Callable[[], _T]) -> Callable[[], _T]:
        """Let a worker do it; the answer waits for the result."""
        return task if self._threads is None else self._threads.submit(task).result


class _LaneReader:
    """The draws of one source and lane in order; decodes the next pool while the second half of this one is used."""

    def __init__(
        self,
        source: Source,
        order: ShuffledOrder,
        lane: int,
        first: int,
        start: Callable[[Callable[[], Sequence[Item]]], Callable[[], Sequence[Item]]],
        on_fault: OnFault,
        report: FaultReport,
    ) -> None:
        self._source, self._order, self._lane, self._start = source, order, lane, start
        self._on_fault, self._report = on_fault, report
        self._id, self._place = order.slot(lane, first)
        self._items = self._open(self._id)()
        self._next: tuple[PoolId, Callable[[], list[Item]]] | None = None

    def take(self) -> Item:
        if self._next is None and 2 * self._place >= len(self._items):
            following = self._order.next_pool(self._id, self._lane)
            self._next = following, self._open(following)
        if self._place == len(self._items) and self._next is not None:
            self._id, finish = self._next
            self._items = []  # before the next pool is complete, so that at most two are held
            self._items, self._place, self._next = finish(), 0, None
        item = self._items[self._place]
        self._place += 1
        return item

    def _open(self, pool: PoolId) -> Callable[[], list[Item]]:
        """Start decoding a pool; the answer waits for it and gives the items in the order of their draws."""
        windows = self._order.pool(pool, self._lane).tolist()
        runs = list(self._source.windows.runs(windows))
        pending = [self._start(lambda run=run: self._source.read(run)) for run in runs]

        def finish() -> list[Item]:
            items: dict[int, Item] = {}
            last: DataFault | None = None
            for run, wait in zip(runs, pending, strict=True):
                try:
                    items.update(zip(range(run.first, run.first + run.length), wait(), strict=True))
                except DataFault as error:
                    if self._on_fault == "raise":
                        raise
                    self._report.add(error.fault, run.length)
                    last = error
            if not items:
                raise ValueError(f"none of {len(windows)} windows of {self._source.name} can be read: {last}") from last
            return _fill(windows, items)

        return finish


def _fill(windows: Sequence[int], items: Mapping[int, Item]) -> list[Item]:
    """The items in the order of their windows; a missing one is replaced by the next one that is there, cyclically."""
    filled: list[Item] = []
    following = next(items[window] for window in windows if window in items)
    for window in reversed(windows):
        following = items.get(window, following)
        filled.append(following)
    return filled[::-1]
