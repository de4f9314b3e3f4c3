"""Recordings as episodes of a LeRobotDataset v3.0, with labels that say who decided and how old the decision was.

One frame per observation: what was seen, and the first command of its tick. Beside state, action and pictures:

| feature           | type   | meaning                                                                           |
|-------------------|--------|-----------------------------------------------------------------------------------|
| `intervention`    | bool   | a human commanded (the name that LeRobot's DAgger recordings use)                 |
| `source`          | int64  | who decided: the place in `SOURCES`                                               |
| `policy_id`       | string | the policy that ran                                                               |
| `inference_delay` | int64  | ticks from the observation of the chunk that ran to its arrival; -1 without chunk |
| `observation_age` | int64  | ticks from that observation to this command; -1 without chunk                     |

`meta/recordings.json` names the file of each episode and the codes of `source`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cerebella.data.episodes import Feature
from cerebella.data.lerobot_files import write_json_file
from cerebella.data.lerobot_writer import LeRobotWriter
from cerebella.data.video import VideoEncoding
from cerebella.runtime.recording.export_frames import Frame, FrameReader
from cerebella.runtime.recording.header import Header
from cerebella.runtime.recording.reader import Seen, iterate, read_header

SOURCES = ("run", "start", "stop", "hold", "human", "filter")
"""States of a command in the order of their codes; new ones go to the end."""
RECORDINGS = "meta/recordings.json"
_PICTURE = "observation.images."
_TAXELS = "observation.tactile."


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Args:
        num_episodes, num_frames: in the new set. num_left_out: observations without a command or without any picture.
        num_repeated_pictures: a picture that is missing was replaced by the one before it.
    """

    num_episodes: int
    num_frames: int
    num_left_out: int
    num_repeated_pictures: int


def export(
    paths: Sequence[Path | str],
    directory: Path | str,
    *,
    task: str | None = None,
    max_gap: int = 0,
    encoding: VideoEncoding | None = None,
) -> Exported:
    """Write recordings of one robot as a new set. A recording is one episode, or several if ticks are missing in it.

    Args:
        directory: does not exist yet, or is empty.
        task: instead of the recorded prompts.
        max_gap: so many missing ticks (a stalled loop) are closed; after more a new episode begins, because the frames
            of an episode are equally spaced.
        encoding: of the videos; None takes the default.

    Raises:
        FileNotFoundError: no such recording. ValueError: a file is no recording, is of another robot or has other
            pictures than the first one, or has no prompt; the directory is in use.
    """
    files = [Path(path) for path in paths]
    headers = [read_header(path) for path in files]
    features = _common_features(files, headers)
    views = tuple(name.removeprefix(_PICTURE) for name in features if name.startswith(_PICTURE))
    embodiment = headers[0].metadata.embodiment
    readers = [FrameReader(path, views, max_gap) for path in files]
    episodes: list[dict[str, Any]] = []
    with LeRobotWriter(directory, embodiment.policy_hz, features, embodiment.name, encoding) as writer:
        for path, header, reader in zip(files, headers, readers, strict=True):
            first = len(episodes)
            for frame in reader:
                if frame.begins_episode:
                    if len(episodes) > first:
                        writer.save_episode()
                    episodes.append(_describe(path, header, frame))
                writer.add_frame(_row(frame, features, header), _task(frame, task, path))
            if len(episodes) > first:
                writer.save_episode()
    write_json_file(Path(directory) / RECORDINGS, {"sources": list(SOURCES), "episodes": episodes})
    return Exported(
        num_episodes=writer.num_episodes,
        num_frames=writer.num_frames,
        num_left_out=sum(reader.num_left_out for reader in readers),
        num_repeated_pictures=sum(reader.num_repeated_pictures for reader in readers),
    )


def _common_features(files: Sequence[Path], headers: Sequence[Header]) -> dict[str, Feature]:
    if not files:
        raise ValueError("export needs at least one recording")
    every = [_features(path, header) for path, header in zip(files, headers, strict=True)]
    for path, header, features in zip(files, headers, every, strict=True):
        rates = [h.metadata.embodiment.policy_hz for h in (headers[0], header)]
        if rates[0] != rates[1]:
            raise ValueError(f"{path} has {rates[1]:g} frames/s, {files[0]} has {rates[0]:g}; a set has one rate")
        differing = [n for n in {**every[0], **features} if every[0].get(n) != features.get(n)]
        if differing:
            name = differing[0]
            raise ValueError(
                f"{path} does not fit {files[0]}: {name} is {features.get(name)}, not {every[0].get(name)}"
            )
    return every[0]


def _features(path: Path, header: Header) -> dict[str, Feature]:
    """What a frame of this recording holds: pictures of every camera that has any, touch as in the first observation."""
    embodiment = header.metadata.embodiment
    features = {
        "observation.state": Feature("float32", (embodiment.state_dim,), tuple(d.name for d in embodiment.states)),
        "action": Feature("float32", (embodiment.action_dim,), tuple(d.name for d in embodiment.actions)),
        "intervention": Feature("bool", (1,)),
        "source": Feature("int64", (1,)),
        "policy_id": Feature("string", (1,)),
        "inference_delay": Feature("int64", (1,)),
        "observation_age": Feature("int64", (1,)),
    }
    seen = [entry for entry in iterate(path, with_pictures=False) if isinstance(entry, Seen)]
    stored = {camera.view: camera for entry in reversed(seen) for camera in entry.cameras if camera.is_stored}
    features |= {
        _PICTURE + view: Feature("video", (stored[view].height, stored[view].width, 3)) for view in sorted(stored)
    }
    tactile = seen[0].observation.tactile if seen else {}
    features |= {_TAXELS + finger: Feature("float32", taxels.shape) for finger, taxels in tactile.items()}
    return features


def _row(frame: Frame, features: Mapping[str, Feature], header: Header) -> dict[str, Any]:
    command, observation = frame.command, frame.observation
    is_chunk = command.chunk_id >= 0
    row: dict[str, Any] = {
        "observation.state": observation.state,
        "action": command.values,
        "intervention": np.array([command.state == "human"]),
        "source": np.array([SOURCES.index(command.state)]),
        "policy_id": header.metadata.policy_id,
        "inference_delay": np.array([frame.inference_delay if is_chunk else -1]),
        "observation_age": np.array([command.tick - command.observation_tick if is_chunk else -1]),
    }
    row |= {_PICTURE + view: picture for view, picture in observation.images.items()}
    row |= {_TAXELS + finger: t for finger, t in observation.tactile.items() if _TAXELS + finger in features}
    return row


def _task(frame: Frame, task: str | None, path: Path) -> str:
    text = frame.command.prompt if task is None else task
    if not text.strip():
        raise ValueError(f"{path}: tick {frame.command.tick} has no prompt; give a task for the whole set")
    return text


def _describe(path: Path, header: Header, frame: Frame) -> dict[str, Any]:
    return {
        "file": path.name,
        "first_tick": frame.command.tick,
        "started_utc": header.started_utc,
        "mode": header.config.mode,
        "policy_id": header.metadata.policy_id,
        "run": dict(header.run),
    }
