"""Write a LeRobotDataset v3.0 so that no crash costs a finished episode.

A finished episode is a directory of its own (`lerobot_recording`). Once enough of them wait they are sealed
(`lerobot_sealed`): their rows become one data file (a row group per episode), their videos one file per camera. `recover`
seals what a killed writer left; so does opening the set for more.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_files import DATA_FILE_MB, PARTIAL, VIDEO_FILE_MB, stats_json, write_json_file
from cerebella.data.lerobot_info import BOOKKEEPING, STATS, read_info
from cerebella.data.lerobot_layout import episode_files
from cerebella.data.lerobot_recording import (
    RECORDING,
    EpisodeRecording,
    EpisodeRows,
    StagedEpisode,
    check_frame,
    stage_episode,
    staged_episodes,
    unfinished_directory,
)
from cerebella.data.lerobot_sealed import Sealed, SetFormat, merged_stats, read_sealed, seal, write_info
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.measure import measure_columns
from cerebella.data.video import VideoEncoding, default_encoding

_MB = 1024 * 1024


@dataclass(frozen=True)
class FileSizes:
    """Sizes in MB at which a new data file, or new video files, begin. A file holds whole episodes."""

    data_mb: float = DATA_FILE_MB
    video_mb: float = VIDEO_FILE_MB


@dataclass(frozen=True)
class Recovery:
    """What `recover` found: finished episodes that it added to the set, and unfinished ones that are lost."""

    num_added: int
    num_unfinished: int
    num_episodes: int


class LeRobotWriter:
    """Records episodes. One thread at a time; call `finalise` (or leave its `with`) at the end.

    `add_frame` encodes video at once, so a real-time loop calls it from a thread of its own.

    Args:
        directory: does not exist yet, or is empty. `resume` opens an existing set.
        fps: frames per second. robot_type: as other programs will read it.
        features: what every frame holds; `timestamp` and the other book-keeping columns are added. Pictures have the shape
            (height, width, 3).
        encoding: of the videos; None takes `default_encoding`.

    Raises:
        ValueError: the directory is in use, or a feature cannot be stored.
    """

    def __init__(
        self,
        directory: Path | str,
        fps: float,
        features: Mapping[str, Feature],
        robot_type: str,
        encoding: VideoEncoding | None = None,
        sizes: FileSizes | None = None,
    ) -> None:
        root = Path(directory)
        if root.exists() and any(root.iterdir()):
            raise ValueError(f"{root} is not empty; LeRobotWriter.resume adds to an existing set")
        if not (np.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be above 0 frames/s; got {fps}")
        _check_features(features)
        layout = SetFormat(fps, robot_type, dict(features), encoding or default_encoding())
        self._begin(root, layout, Sealed(), sizes)
        write_info(root, layout, self._sealed)

    @classmethod
    def resume(
        cls, directory: Path | str, encoding: VideoEncoding | None = None, sizes: FileSizes | None = None
    ) -> "LeRobotWriter":
        """Open a v3.0 set to add episodes; first seals what an earlier writer left.

        Raises:
            FileNotFoundError: this is no LeRobotDataset. ValueError: another version.
        """
        root = Path(directory)
        info = read_info(root)
        if info.version != "v3.0":
            raise ValueError(f"{root} is {info.version}; only v3.0 can be added to. `cerebella data convert` makes one")
        for path in list(root.rglob(f"*{PARTIAL}")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        features = {name: feature for name, feature in info.features.items() if name not in BOOKKEEPING}
        layout = SetFormat(info.fps, info.robot_type, features, encoding or default_encoding())
        writer = cls.__new__(cls)
        writer._begin(root, layout, read_sealed(root, layout.videos), sizes)
        for staged in staged_episodes(root):
            if staged.index < writer._sealed.num_episodes:  # sealed just before the crash
                shutil.rmtree(staged.directory)
            else:
                writer._stage(staged)
        writer._seal()
        write_info(root, layout, writer._sealed)
        return writer

    @property
    def num_episodes(self) -> int:
        """Finished episodes so far."""
        return self._sealed.num_episodes + len(self._staged)

    @property
    def num_frames(self) -> int:
        """Frames of the finished episodes."""
        return self._sealed.num_frames + sum(staged.length for staged in self._staged)

    def add_frame(self, frame: Mapping[str, Any], task: str) -> None:
        """Append a frame to the current episode; `task` is its instruction.

        Raises:
            ValueError: a feature is missing, unknown, of another shape or type, or not finite. The frame is not added.
        """
        check_frame(frame, self._layout.features)
        if not task:
            raise ValueError("every frame needs a task, the instruction as a person would say it; got an empty text")
        if self._recording is None:
            layout = self._layout
            self._recording = EpisodeRecording(
                self.directory, self.num_episodes, self.num_frames, layout.fps, layout.features, layout.encoding
            )
        self._recording.add(frame, task)

    def save_episode(self) -> int:
        """Finish the current episode: from here on it survives a crash. Its index.

        Raises:
            ValueError: no frame was added.
        """
        if self._recording is None:
            raise ValueError("the episode has no frame; add_frame comes before save_episode")
        staged = self._recording.save(self._task_index)
        self._recording = None
        self._stage(staged)
        self._seal_when_full()
        return staged.index

    def add_episode(self, rows: EpisodeRows, videos: Mapping[str, Path]) -> int:
        """Add a whole episode whose videos exist as files of their own; their packets are copied, not encoded anew.

        Args:
            videos: feature -> file. All videos of a set must have been encoded alike.

        Returns:
            The episode's index.

        Raises:
            ValueError: frames of another episode were added and not saved.
        """
        if self._recording is not None:
            raise ValueError("an episode is being recorded; save_episode or discard_episode comes first")
        partial = unfinished_directory(self.directory, self.num_episodes)
        for name in self._layout.videos:
            (partial / f"{name}.mp4").symlink_to(videos[name].resolve())
        features = self._layout.features
        staged = stage_episode(partial, rows, features, self.num_episodes, self.num_frames, self._task_index)
        self._stage(staged)
        self._seal_when_full()
        return staged.index

    def discard_episode(self) -> None:
        """Forget the frames since the last `save_episode`."""
        if self._recording is not None:
            self._recording.discard()
            self._recording = None

    def finalise(self) -> None:
        """Seal what waits and write the statistics of the whole set. An unfinished episode is discarded.

        Quantiles of numbers are measured over all frames, those of pictures are merged from the episodes.
        """
        self.discard_episode()
        self._seal()
        shutil.rmtree(self.directory / RECORDING, ignore_errors=True)
        if self._sealed.num_episodes:
            stats = {**merged_stats(self.directory), **measure_columns(LeRobotStore(self.directory)).stats}
            write_json_file(self.directory / STATS, stats_json(stats))

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finalise()

    def _begin(self, directory: Path, layout: SetFormat, sealed: Sealed, sizes: FileSizes | None) -> None:
        limits = sizes or FileSizes()
        self.directory, self._layout, self._sealed = directory, layout, sealed
        self._limits = {"data": limits.data_mb * _MB, **{name: limits.video_mb * _MB for name in layout.videos}}
        self._waiting_bytes = dict.fromkeys(self._limits, 0)
        self._task_index = {text: index for index, text in sealed.tasks.items()}
        self._recording: EpisodeRecording | None = None
        self._staged: list[StagedEpisode] = []

    def _stage(self, staged: StagedEpisode) -> None:
        self._staged.append(staged)
        self._task_index.update({text: index for index, text in staged.tasks.items()})
        self._waiting_bytes["data"] += staged.data.stat().st_size
        for name in self._layout.videos:
            self._waiting_bytes[name] += staged.video(name).stat().st_size

    def _seal_when_full(self) -> None:
        if any(self._waiting_bytes[kind] >= limit for kind, limit in self._limits.items()):
            self._seal()

    def _seal(self) -> None:
        self._sealed = seal(self.directory, self._layout, self._sealed, self._staged)
        self._staged = []
        self._waiting_bytes = dict.fromkeys(self._limits, 0)


def recover(directory: Path | str) -> Recovery:
    """Make a set whole that a killed writer left: every finished episode is in it afterwards. Safe to repeat.

    Raises:
        FileNotFoundError: this is no LeRobotDataset.
    """
    root = Path(directory)
    num_unfinished = len(list((root / RECORDING).glob(f"episode-*{PARTIAL}")))
    before = sum(pq.read_metadata(path).num_rows for path in episode_files(root))
    writer = LeRobotWriter.resume(root)
    writer.finalise()
    return Recovery(writer.num_episodes - before, num_unfinished, writer.num_episodes)


def _check_features(features: Mapping[str, Feature]) -> None:
    if not features:
        raise ValueError("a set needs at least one feature")
    for name, feature in features.items():
        if "/" in name or name in BOOKKEEPING:
            reserved = ", ".join(BOOKKEEPING)
            raise ValueError(f"a feature cannot be called {name!r}: no '/', and not one of {reserved}")
        if feature.is_picture:
            if len(feature.shape) != 3 or feature.shape[2] != 3:
                raise ValueError(f"{name!r} must have the shape (height, width, 3); got {list(feature.shape)}")
        elif feature.dtype != "string" and np.dtype(feature.dtype).kind not in "biuf":
            raise ValueError(f"{name!r} has the dtype {feature.dtype!r}; use a number, bool, string, image or video")
