"""Demonstrations of a workcell task for the vision warm-up: pictures held in memory, and where everything is in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cerebella.data.sources import RobotSource
from cerebella.data.windows import Run
from cerebella.envs.workcell.landmarks import Landmarks
from cerebella.recipes.workcell_set import TRUTH, landmarks_file
from cerebella.types import Sample, SceneTruth


class SeenDemonstrations:
    """Every `stride`-th row of the demonstrations of a set. Fulfils `training.WindowSource`.

    A window takes 3 x height x width x 3 bytes: with three pictures of 96 px 83 kB.

    Args:
        directory: a set that `workcell_data.generate` wrote. source: its windows, with all of its views.
        stride: rows between two windows of an episode, 1 or more; each episode starts at another row.
        show_progress: draw a progress bar.

    Attributes:
        kinds: `colour kind` of all that is ever there, in alphabetical order: the classes of `truth`.

    Raises:
        FileNotFoundError: the set has no landmarks. ValueError: a stride below 1.
    """

    def __init__(self, directory: Path, source: RobotSource, stride: int = 3, show_progress: bool = True) -> None:
        """See the class."""
        if stride < 1:
            raise ValueError(f"stride must be 1 row or more; got {stride}")
        self._samples: list[Sample] = []
        self._place: list[tuple[int, int]] = []
        """(episode, row) of each."""
        lengths = np.diff(source.windows.offsets)
        self._landmarks = {int(episode): read_landmarks(directory, int(episode)) for episode in np.flatnonzero(lengths)}
        self.kinds = tuple(sorted({kind for seen in self._landmarks.values() for kind in object_kinds(seen)}))
        number = {kind: i for i, kind in enumerate(self.kinds)}
        self._classes = {
            episode: np.array([number[kind] for kind in object_kinds(seen)], dtype=np.int64)
            for episode, seen in self._landmarks.items()
        }
        for episode in tqdm(self._landmarks, desc="pictures", unit="episode", disable=not show_progress):
            self._read(source, episode, int(lengths[episode]), stride)
        self._views = source.embodiment.views

    def _read(self, source: RobotSource, episode: int, num_rows: int, stride: int) -> None:
        first = int(source.windows.offsets[episode])
        rows = range(episode % stride, num_rows, stride)
        for start in range(0, num_rows, source.run_length):
            length = min(source.run_length, num_rows - start)
            samples = source.read(Run(episode, start, length, first + start))
            for row in (row for row in rows if start <= row < start + length):
                sample = samples[row - start]
                pictures = {view: picture.copy() for view, picture in sample.images.items()}  # not the whole run's
                self._samples.append(replace(sample, images=pictures))
                self._place.append((episode, row))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._samples)

    def samples(self, indices: np.ndarray) -> list[Sample]:
        """Windows by index."""
        return [self._samples[index] for index in indices]

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """Of the pictures of `samples`, one after the other, of each sample in the order of the views.

        What is named is the object to be handled next; where there is none, a last object that is never present.
        """
        num_views, num_objects = len(self._views), 1 + max(len(seen.names) for seen in self._landmarks.values())
        shape = (len(indices), num_views, num_objects)
        is_present, class_index = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
        pixel = np.zeros((*shape, 2), dtype=np.float32)
        target = np.full(shape[:2], num_objects - 1, dtype=np.int64)
        for i, index in enumerate(indices):
            episode, row = self._place[index]
            seen, classes = self._landmarks[episode], self._classes[episode]
            is_present[i, :, : len(classes)] = seen.is_inside[row]
            class_index[i, :, : len(classes)] = classes
            pixel[i, :, : len(classes)][seen.is_inside[row]] = seen.pixel[row][seen.is_inside[row]]
            if seen.next[row] >= 0:
                target[i] = seen.next[row]
        num_pictures = len(indices) * num_views
        return SceneTruth(
            is_present.reshape(num_pictures, num_objects),
            class_index.reshape(num_pictures, num_objects),
            pixel.reshape(num_pictures, num_objects, 2),
            target.reshape(num_pictures),
            len(self.kinds),
        )


def read_landmarks(directory: Path, episode: int) -> Landmarks:
    """Where everything was in the pictures of one episode of a set.

    Raises:
        FileNotFoundError: the set was made without.
    """
    path = landmarks_file(directory / TRUTH, episode)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: the vision warm-up needs a set that was generated with landmarks"
        )
    return Landmarks.load(path)


def object_kinds(seen: Landmarks) -> list[str]:
    """What each object is, e.g. `red cube`."""
    return [f"{colour} {kind}".strip() for colour, kind in zip(seen.colour, seen.kind, strict=True)]
