"""Find every fault of a set without stopping at the first one, or pick the episodes that are whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cerebella.data.episodes import Columns, DataFault, EpisodeStore, Fault
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping import DatasetMap
from cerebella.data.video import RATE_TOLERANCE, TOLERANCE_FRAMES, frame_times

Decode = Literal["none", "ends", "all"]
_RUN = 64


@dataclass(frozen=True)
class Usable:
    """The episodes of a store that are whole, and what is wrong with the others."""

    episodes: tuple[int, ...]
    faults: tuple[Fault, ...]

    @property
    def num_skipped(self) -> int:
        """Episodes that were left out."""
        return len({fault.episode for fault in self.faults})


def usable_episodes(
    store: EpisodeStore,
    mapping: DatasetMap | None = None,
    on_fault: Literal["raise", "skip"] = "raise",
    decode: Decode = "none",
) -> Usable:
    """Check every episode before training starts.

    Args:
        mapping: checks the columns and cameras that it reads, and that the set fits it; None checks all.
        on_fault: `raise` stops at the first fault; `skip` leaves the episode out and reports it.
        decode: pictures to decode: none, the first and last frame of each episode, or all.

    Raises:
        DataFault: the set does not fit the map, or (with `raise`) an episode is broken.
    """
    if mapping is not None:
        mapping.check(store)
    episodes: list[int] = []
    faults: list[Fault] = []
    for index in range(len(store)):
        found = [] if mapping is None else list(_map_faults(store, mapping, index))
        found += list(episode_faults(store, index, decode, mapping))
        if found and on_fault == "raise":
            raise DataFault(found[0].kind, found[0].file, found[0].episode, found[0].detail)
        faults += found
        if not found:
            episodes.append(index)
    return Usable(tuple(episodes), tuple(faults))


def validate(directory: Path, decode: Decode = "ends") -> list[Fault]:
    """Every fault of a LeRobotDataset.

    Raises:
        FileNotFoundError: this is no LeRobotDataset. ValueError: a version that nobody knows, or an unfinished recording.
    """
    try:
        store = LeRobotStore(directory)
    except DataFault as error:
        return [error.fault]
    faults: list[Fault] = []
    info, path = store.info, str(directory / "meta/info.json")
    if info.num_episodes != len(store):
        detail = f"total_episodes is {info.num_episodes}; the metadata list {len(store)} episodes"
        faults.append(Fault("metadata", path, None, detail))
    num_frames = sum(store.episode(index).length for index in range(len(store)))
    if info.num_frames != num_frames:
        detail = f"total_frames is {info.num_frames}; the episodes have {num_frames}"
        faults.append(Fault("metadata", path, None, detail))
    for index in range(len(store)):
        faults += episode_faults(store, index, decode)
        faults += video_faults(store, index)
    return list(dict.fromkeys(faults))


def episode_faults(
    store: EpisodeStore, index: int, decode: Decode = "none", mapping: DatasetMap | None = None
) -> Iterator[Fault]:
    """What is wrong with one episode of any store.

    Args:
        mapping: restricts the check to the columns and cameras that it reads.
    """
    length = store.episode(index).length
    if not length:
        yield Fault("empty episode", _file(store, index), index, "it has no frame")
        return
    names = None if mapping is None else mapping.columns
    try:
        columns = store.columns(index, names)
    except DataFault as error:
        yield error.fault
    else:
        yield from _column_faults(store, index, columns)
    cameras = [name for name, feature in store.features.items() if feature.is_picture]
    for camera in cameras if mapping is None else mapping.views.values():
        try:
            for start, stop in _runs(length, decode):
                store.frames(index, camera, start, stop)
        except DataFault as error:
            yield error.fault


def _column_faults(store: EpisodeStore, index: int, columns: Columns) -> Iterator[Fault]:
    file, length = _file(store, index), store.episode(index).length
    for name, values in columns.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            where = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
            count = int((~np.isfinite(values)).sum())
            detail = f"{name!r} is {values[tuple(where)]} at {where} (frame first); {count} in all"
            yield Fault("not finite", file, index, detail)
    if "frame_index" in columns and (columns["frame_index"] != np.arange(length)).any():
        frame = int(np.flatnonzero(columns["frame_index"] != np.arange(length))[0])
        yield Fault("wrong length", file, index, f"frame_index is {columns['frame_index'][frame]} in row {frame}")
    if "timestamp" in columns:
        steps = np.diff(columns["timestamp"].astype(np.float64)) * store.fps
        wrong = np.flatnonzero(~(np.abs(steps - 1) <= TOLERANCE_FRAMES))
        if len(wrong):
            frame = int(wrong[0])
            detail = (
                f"{len(wrong)} of {len(steps)} steps are not 1/{store.fps:g} s; "
                f"from frame {frame} to {frame + 1}: {steps[frame] / store.fps:.4f} s"
            )
            yield Fault("wrong fps", file, index, detail)
    if "task_index" in columns:
        unknown = sorted({int(task) for task in columns["task_index"].reshape(-1)} - set(store.tasks))
        if unknown:
            yield Fault(
                "missing task", file, index, f"task_index {unknown} has no text; the set has {len(store.tasks)}"
            )


def _map_faults(store: EpisodeStore, mapping: DatasetMap, index: int) -> Iterator[Fault]:
    """Rotations that are none, and other things that only show when numbers get their meaning."""
    if store.episode(index).length:
        try:
            mapping.arrays(store, index)
        except DataFault as error:
            if error.fault.kind == "broken rotation":
                yield error.fault


def video_faults(store: LeRobotStore, index: int) -> Iterator[Fault]:
    """Frames that are missing from a video, or come at another rate, found without decoding."""
    place = store.place(index)
    for camera, video in place.videos.items():
        try:
            times = np.asarray(frame_times(video.path, index))
        except DataFault as error:
            yield Fault(error.fault.kind, str(video.path), index, f"{camera}: {error.fault.detail}")
            continue
        wanted = video.start_s + np.arange(place.length) / store.fps
        rate = 1 / float(np.median(np.diff(times))) if len(times) > 1 else store.fps
        if abs(rate - store.fps) > RATE_TOLERANCE * store.fps:
            yield Fault(
                "wrong fps", str(video.path), index, f"the video has {rate:g} frames/s; the set says {store.fps:g}"
            )
            continue
        distance = np.abs(times[None, :] - wanted[:, None]).min(axis=1) if len(times) else np.full(len(wanted), np.inf)
        missing = np.flatnonzero(distance > TOLERANCE_FRAMES / store.fps)
        if len(missing):
            detail = f"{len(missing)} of {place.length} frames are not in it, the first is frame {int(missing[0])}"
            yield Fault("corrupt video", str(video.path), index, detail)


def _runs(length: int, decode: Decode) -> Sequence[tuple[int, int]]:
    if decode == "none":
        return []
    if decode == "ends":
        return sorted({(0, 1), (length - 1, length)})
    return [(start, min(start + _RUN, length)) for start in range(0, length, _RUN)]


def _file(store: EpisodeStore, index: int) -> str:
    return str(store.place(index).data) if isinstance(store, LeRobotStore) else store.name
