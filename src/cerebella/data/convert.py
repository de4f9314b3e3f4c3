"""Rewrite a set as LeRobotDataset v3.0: v2.x without touching the pixels, any other store by encoding them anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cerebella.data.episodes import DataFault, EpisodeStore, Fault, Feature
from cerebella.data.lerobot_info import BOOKKEEPING
from cerebella.data.lerobot_recording import EpisodeRows
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.lerobot_writer import FileSizes, LeRobotWriter
from cerebella.data.statistics import PictureStatistics, Summary
from cerebella.data.validate import episode_faults, video_faults
from cerebella.data.video import VideoEncoding

SAMPLED_FRAMES = 20
"""Frames per episode and camera that the picture statistics of a converted v2.x set come from."""
_RUN = 64


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote, and why it left episodes out."""

    num_episodes: int
    num_frames: int
    faults: tuple[Fault, ...]

    @property
    def num_skipped(self) -> int:
        """Episodes that were left out."""
        return len({fault.episode for fault in self.faults})


def convert(
    source: EpisodeStore,
    target: Path,
    on_fault: Literal["raise", "skip"] = "raise",
    encoding: VideoEncoding | None = None,
    sizes: FileSizes | None = None,
) -> Converted:
    """Write a store as a new LeRobotDataset v3.0.

    A LeRobotDataset v2.x keeps its video packets, so its videos must have been encoded alike; other stores are decoded and
    encoded. An instruction that no frame has is dropped.

    Args:
        target: does not exist yet, or is empty. encoding: where pictures are encoded; None takes the default.

    Raises:
        DataFault: an episode is broken (with `raise`). ValueError: the source is v3.0 already, or `target` is in use.
    """
    keeps_packets = isinstance(source, LeRobotStore)
    if keeps_packets and source.info.version == "v3.0":
        raise ValueError(f"{source.name} is v3.0 already")
    features = {
        name: feature
        for name, feature in source.features.items()
        if name not in BOOKKEEPING and (feature.is_picture or feature.dtype == "string" or _is_number(feature.dtype))
    }
    faults: list[Fault] = []
    for index in range(len(source)):
        faults += episode_faults(source, index)
        faults += video_faults(source, index) if keeps_packets else ()
        if faults and on_fault == "raise":
            raise DataFault(faults[0].kind, faults[0].file, faults[0].episode, faults[0].detail)
    broken = {fault.episode for fault in faults}
    with LeRobotWriter(target, source.fps, features, source.robot_type, encoding, sizes) as writer:
        for index in range(len(source)):
            if index in broken:
                continue
            if keeps_packets:
                videos = {name: video.path for name, video in source.place(index).videos.items()}
                writer.add_episode(_rows(source, index, features), videos)
            else:
                _record(source, index, features, writer)
        num_episodes, num_frames = writer.num_episodes, writer.num_frames
    return Converted(num_episodes, num_frames, tuple(faults))


def _rows(source: LeRobotStore, index: int, features: Mapping[str, Feature]) -> EpisodeRows:
    """An episode's rows as they are stored; pictures stay encoded."""
    pictures = [name for name, feature in features.items() if feature.is_picture]
    embedded = [name for name in pictures if features[name].dtype == "image"]
    names = [name for name in features if name not in pictures]
    columns = source.columns(index, [*names, "timestamp", "task_index"])
    table = source.table(index, embedded)
    timestamps = columns.pop("timestamp").astype(np.float32)
    tasks = [source.tasks[int(task)] for task in columns.pop("task_index")]
    stored = {name: table.column(name).to_pylist() for name in embedded}
    return EpisodeRows({**columns, **stored}, timestamps, tasks, {n: _sampled(source, index, n) for n in pictures})


def _sampled(source: EpisodeStore, index: int, camera: str) -> Summary:
    """Statistics of a few frames, spread evenly over the episode."""
    last = source.episode(index).length - 1
    statistics = PictureStatistics()
    for frame in sorted({round(position) for position in np.linspace(0, last, SAMPLED_FRAMES)}):
        statistics.update(source.frames(index, camera, frame, frame + 1)[0])
    return statistics.summary()


def _record(source: EpisodeStore, index: int, features: Mapping[str, Feature], writer: LeRobotWriter) -> None:
    """Decode an episode and record it again."""
    cameras = [name for name, feature in features.items() if feature.is_picture]
    columns = source.columns(index)
    tasks = columns["task_index"].reshape(-1)
    length = source.episode(index).length
    for start in range(0, length, _RUN):
        stop = min(start + _RUN, length)
        pictures = {name: source.frames(index, name, start, stop) for name in cameras}
        for row in range(start, stop):
            frame = {name: columns[name][row] for name in features if name not in pictures}
            frame.update({name: frames[row - start] for name, frames in pictures.items()})
            writer.add_frame(frame, source.tasks[int(tasks[row])])
    writer.save_episode()


def _is_number(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False
