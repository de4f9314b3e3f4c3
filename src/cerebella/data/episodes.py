"""What every store of robot episodes offers, whatever its format, and what is said when a part of one is broken.

Numbers are as stored (nothing converted: `mapping.DatasetMap` does that), pictures are RGB. A store is cheap to make, holds
no index of its frames, may be used from several threads, and travels to worker processes by pickle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from cerebella.types import ImageArray

Columns = dict[str, NDArray[Any]]
"""Column name -> [n, *shape], one row per frame of an episode; text has dtype object."""

FaultKind = Literal[
    "metadata",
    "missing file",
    "truncated parquet",
    "corrupt video",
    "missing camera",
    "empty episode",
    "not finite",
    "wrong fps",
    "unknown robot type",
    "wrong shape",
    "missing column",
    "missing task",
    "broken rotation",
    "wrong length",
]
PICTURES = ("image", "video")
"""The dtypes of a feature that hold pictures: read by `frames`, never by `columns`."""


@dataclass(frozen=True)
class Feature:
    """One column of a store.

    Args:
        dtype: a NumPy name, `string`, `image` or `video`.
        shape: of one frame's entry; () is a scalar. Pictures: (height, width, 3).
        names: what the entries of the last axis (of a picture: its axes) are called; empty where nobody said.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether `frames` reads it."""
        return self.dtype in PICTURES


@dataclass(frozen=True)
class EpisodeInfo:
    """One episode: `length` frames at `fps` per second, and the instructions that occur in it."""

    index: int
    length: int
    tasks: tuple[str, ...]
    fps: float


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: in which file, in which episode (None: in the whole set), and what."""

    kind: FaultKind
    file: str
    episode: int | None
    detail: str

    def __str__(self) -> str:
        where = "" if self.episode is None else f", episode {self.episode}"
        return f"{self.file}{where}: {self.kind}: {self.detail}"


class DataFault(ValueError):
    """A fault as an error. Whoever wants to go on without the episode catches this, and nothing else."""

    def __init__(self, kind: FaultKind, file: object, episode: int | None, detail: str) -> None:
        self.fault = Fault(kind, str(file), episode, detail)
        super().__init__(str(self.fault))

    def __reduce__(self) -> tuple[type["DataFault"], tuple[FaultKind, str, int | None, str]]:
        return DataFault, (self.fault.kind, self.fault.file, self.fault.episode, self.fault.detail)


class EpisodeStore(Protocol):
    """Robot episodes of one kind: the same features, rate and robot.

    Every reading method raises a `DataFault` that names file and episode where the data are broken, and a plain
    ValueError for an episode, a column or a range that does not exist.
    """

    @property
    def name(self) -> str:
        """For messages and reports, e.g. the directory."""
        ...

    @property
    def robot_type(self) -> str:
        """The robot as the data call it; empty where they do not say."""
        ...

    @property
    def fps(self) -> float:
        """Frames per second of every episode."""
        ...

    @property
    def features(self) -> Mapping[str, Feature]:
        """All columns by name, pictures among them."""
        ...

    @property
    def tasks(self) -> Mapping[int, str]:
        """Task index -> instruction: what an integer column of prompts refers to."""
        ...

    def __len__(self) -> int:
        """Number of episodes; they have the indices 0 to this number - 1."""
        ...

    def episode(self, index: int) -> EpisodeInfo:
        """Length, instructions and rate of one episode; reads no frame."""
        ...

    def columns(self, index: int, names: Sequence[str] | None = None) -> Columns:
        """Low-dimensional columns of one episode, [length, *shape] each; None: all of them. Decodes no picture."""
        ...

    def frames(self, index: int, feature: str, start: int, stop: int) -> ImageArray:
        """Pictures of the frames [start, stop) of one episode, uint8[stop - start, h, w, 3] RGB, decoded as a range."""
        ...


def check_episode(store: EpisodeStore, index: int) -> None:
    """Raise a ValueError unless the store has this episode."""
    if not 0 <= index < len(store):
        raise ValueError(f"{store.name} has the episodes 0..{len(store) - 1}; there is no episode {index}")


def check_range(store: EpisodeStore, index: int, feature: str, start: int, stop: int) -> None:
    """Raise a ValueError unless the store has this episode, these pictures and these frames."""
    check_episode(store, index)
    pictures = [name for name, known in store.features.items() if known.is_picture]
    if feature not in pictures:
        raise DataFault(
            "missing camera",
            store.name,
            index,
            f"there is no camera {feature!r}; cameras: {', '.join(pictures) or 'none'}",
        )
    length = store.episode(index).length
    if not 0 <= start < stop <= length:
        raise ValueError(
            f"{store.name}, episode {index} has the frames 0..{length - 1}; got the range [{start}, {stop})"
        )
