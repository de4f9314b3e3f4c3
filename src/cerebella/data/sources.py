"""A source is what a mixture draws from: numbered windows of robot episodes, or numbered vision-language records."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from cerebella.data.episodes import DataFault, EpisodeStore, check_episode
from cerebella.data.mapping import DatasetMap, EpisodeArrays
from cerebella.data.sent_rows import SentRows
from cerebella.data.windows import Run, WindowIndex
from cerebella.embodiment import Embodiment
from cerebella.types import BoolArray, Conversation, FloatArray, Sample

_KEPT_EPISODES = 64


class RobotGroup(NamedTuple):
    """What shares one processor and its statistics."""

    robot_type: str
    control_mode: str


class Source(Protocol):
    """Numbered items that can be read in runs of neighbours, from several threads at once."""

    @property
    def name(self) -> str:
        """Unique in a mixture, for messages, weights and seeds."""
        ...

    @property
    def group(self) -> RobotGroup | None:
        """The robot type and control mode of its samples; None: it holds conversations."""
        ...

    @property
    def windows(self) -> WindowIndex:
        """How many items there are, and where a run must end (at the end of an episode, or of a shard)."""
        ...

    @property
    def run_length(self) -> int:
        """How many neighbours are worth reading in one go."""
        ...

    def part(self, lane: int, num_lanes: int) -> "Source | None":
        """The share of one lane as a source of its own; None where every lane draws from the whole.

        Raises:
            ValueError: there are fewer shares than lanes.
        """
        ...

    def read(self, run: Run) -> Sequence[Sample] | Sequence[Conversation]:
        """The items of one run, in order.

        Raises:
            DataFault: they cannot be read; names the file, and the episode or line.
        """
        ...


class RobotSource:
    """The windows of an episode store as samples of one embodiment. Only the current frame is an image.

    Args:
        store: the episodes. dataset_map: how they become samples.
        horizon: rows of a window. min_valid: see `WindowIndex.of_lengths`.
        run_length: windows that are decoded together. More decode faster and shuffle worse (`order`).
        name: the store's own if not given. episodes: those to draw from; all of them if not given.
        sent_rows: how windows use what was sent, where the map says where that is.

    Raises:
        DataFault: the store does not fit the map. ValueError: it has no window, or no such episode; or `sent_rows` without a
            column of what was sent.
    """

    def __init__(
        self,
        store: EpisodeStore,
        dataset_map: DatasetMap,
        horizon: int,
        min_valid: int | None = None,
        run_length: int = 32,
        name: str | None = None,
        episodes: Sequence[int] | None = None,
        sent_rows: SentRows | None = None,
    ) -> None:
        dataset_map.check(store)
        if sent_rows is not None and dataset_map.sent is None:
            raise ValueError(f"{store.name}: sent_rows needs a map that names the column of what was sent")
        self.sent_rows = sent_rows
        self.store, self.map, self.horizon, self.run_length = store, dataset_map, horizon, run_length
        self.name = store.name if name is None else name
        self.group = RobotGroup(dataset_map.robot_type, dataset_map.control_mode)
        chosen = set(range(len(store)) if episodes is None else episodes)
        for index in chosen:
            check_episode(store, index)
        lengths = [store.episode(index).length if index in chosen else 0 for index in range(len(store))]
        self.windows = WindowIndex.of_lengths(lengths, horizon, min_valid)
        if not len(self.windows):
            longest = max(lengths, default=0)
            raise ValueError(
                f"{self.name} has no window of {horizon} rows: {len(chosen)} episodes, the longest has {longest} frames"
            )
        self._arrays: OrderedDict[int, EpisodeArrays] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def embodiment(self) -> Embodiment:
        """Whose samples these are."""
        return self.map.embodiment

    def part(self, lane: int, num_lanes: int) -> None:
        """Every lane draws from all episodes."""

    def read(self, run: Run) -> list[Sample]:
        """The samples of neighbouring start frames; every camera decodes one range."""
        arrays = self._episode(run.episode)
        images = self.map.images(self.store, run.episode, run.start, run.start + run.length)
        try:
            samples = [
                arrays.window(
                    {view: frames[i] for view, frames in images.items()}, run.start + i, self.horizon, *self.group
                )
                for i in range(run.length)
            ]
            if self.sent_rows is None or arrays.sent is None:
                return samples
            return [
                self.sent_rows.applied(sample, arrays.actions, arrays.sent, run.start + i, run.first + i)
                for i, sample in enumerate(samples)
            ]
        except DataFault:
            raise
        except ValueError as error:
            raise DataFault("wrong shape", self.store.name, run.episode, f"frame {run.start}: {error}") from error

    def motion(self, run: Run) -> tuple[FloatArray, FloatArray, BoolArray]:
        """The numbers of a run, no picture decoded: states, actions and validity as in its samples.

        Returns:
            float32[n, state_dim], float32[n, H, action_dim], bool[n, H, action_dim].
        """
        arrays = self._episode(run.episode)
        starts = np.arange(run.start, run.start + run.length)
        rows, last = starts[:, None] + np.arange(self.horizon), len(arrays.actions) - 1
        is_valid = (rows <= last)[..., None] & arrays.is_recorded
        return arrays.states[starts], arrays.actions[np.minimum(rows, last)], is_valid

    def _episode(self, index: int) -> EpisodeArrays:
        """The numbers of one episode; the newest ones are kept."""
        with self._lock:
            if index in self._arrays:
                self._arrays.move_to_end(index)
                return self._arrays[index]
        arrays = self.map.arrays(self.store, index)
        with self._lock:
            self._arrays[index] = arrays
            while len(self._arrays) > _KEPT_EPISODES:
                self._arrays.popitem(last=False)
        return arrays
