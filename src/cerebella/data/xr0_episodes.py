"""Episodes of Xiaomi-Robotics-0's post-training: one JSON file per episode, one video per view, as an `EpisodeStore`.

The format is that of the released post-training code. Every array is `[num_frames, width]`, per arm (`left`, `right`):

    proprios / actions   {arm}_ee_pos 3 (m)   {arm}_ee_rotm 9 (row by row)   {arm}_arm_joint 6 (rad)   {arm}_gripper_pos 1

Actions are absolute targets. Columns are called `proprios.left_ee_pos` and so on, cameras `observations.ego`. Measured and
commanded rotations are matrices: read them with `Slice(..., rotation="matrix")`.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np

from cerebella.data.episodes import Columns, DataFault, EpisodeInfo, Feature, check_episode, check_range
from cerebella.data.video import decode_range
from cerebella.types import ImageArray

TrajectoryType = Literal["success", "ongoing", "invalid"]
WIDTHS: Mapping[str, int] = {"ee_pos": 3, "ee_rotm": 9, "arm_joint": 6, "gripper_pos": 1}
COLUMNS: Mapping[str, int] = {
    f"{what}.{arm}_{name}": width
    for what in ("proprios", "actions")
    for arm in ("left", "right")
    for name, width in WIDTHS.items()
}
"""Column -> width, in the order of the format."""

VIEWS: Mapping[str, str] = {
    "ego": "observations.ego",
    "left_wrist": "observations.wrist_left",
    "right_wrist": "observations.wrist_right",
}
"""Our view names -> the cameras of the format: the `views` of a `DatasetMap`."""

_TASK = re.compile(r"Generate robot actions for the task:\n(.*)\Z", re.DOTALL)
_KEPT_EPISODES = 4


@dataclass(frozen=True)
class _Camera:
    path: Path
    fps: float


@dataclass(frozen=True)
class _Header:
    """What is kept of every episode: everything but its arrays."""

    file: Path
    length: int
    tasks: tuple[str, ...]
    cameras: Mapping[str, _Camera]


class XR0Episodes:
    """See the module.

    Args:
        directory: searched for `*.json`, at any depth; episodes are numbered by sorted path.
        root: where relative video paths start. The released loader starts at the directory in which it was launched.
        include: trajectory types to keep. By default not `invalid`: failed demonstrations are nothing to imitate (the
            format's description masks them; the released loader trains on them).

    Raises:
        FileNotFoundError: no such directory. DataFault: a malformed file, cameras or rates that differ between episodes.
        ValueError: no episode is left.
    """

    robot_type = "xr0"

    def __init__(self, directory: Path, root: Path, include: Sequence[TrajectoryType] = ("success", "ongoing")) -> None:
        if not directory.is_dir():
            raise FileNotFoundError(f"there is no directory {directory}")
        self.name, self._root = str(directory), root
        self.num_left_out = 0
        headers: list[_Header] = []
        for file in sorted(directory.rglob("*.json")):
            content = _load(file)
            kind = content.get("trajectory_type", "success")
            if kind not in get_args(TrajectoryType):
                known = ", ".join(get_args(TrajectoryType))
                raise DataFault("metadata", file, None, f"trajectory_type {kind!r}; known types: {known}")
            if kind in include:
                headers.append(_header(content, file, root))
            else:
                self.num_left_out += 1
        if not headers:
            raise ValueError(
                f"{directory} holds no episode of the types {', '.join(include)}; {self.num_left_out} of other types"
            )
        self._headers = headers
        self._cameras = tuple(headers[0].cameras)
        self.fps = next(iter(headers[0].cameras.values())).fps
        for header in headers:
            if tuple(header.cameras) != self._cameras:
                detail = f"cameras {', '.join(header.cameras)}; the first episode has {', '.join(self._cameras)}"
                raise DataFault("missing camera", header.file, None, detail)
            if {camera.fps for camera in header.cameras.values()} != {self.fps}:
                detail = f"cameras at {sorted({c.fps for c in header.cameras.values()})} frames/s; others at {self.fps}"
                raise DataFault("wrong fps", header.file, None, detail)
        self.tasks: Mapping[int, str] = dict(
            enumerate(dict.fromkeys(task for header in headers for task in header.tasks))
        )
        self._arrays: OrderedDict[int, Columns] = OrderedDict()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._lock = Lock()

    @property
    def features(self) -> dict[str, Feature]:
        """The columns of the format, `task_index`, and the cameras, in the size of the first video that can be read."""
        columns = {name: Feature("float32", (width,)) for name, width in COLUMNS.items()}
        return {
            **columns,
            "task_index": Feature("int64", (1,)),
            **{name: Feature("video", self._picture_shape(name)) for name in self._cameras},
        }

    def __len__(self) -> int:
        return len(self._headers)

    def episode(self, index: int) -> EpisodeInfo:
        """Length and instructions; several instructions are several wordings, of which `task_index` names the first."""
        check_episode(self, index)
        header = self._headers[index]
        return EpisodeInfo(index, header.length, header.tasks, self.fps)

    def columns(self, index: int, names: Sequence[str] | None = None) -> Columns:
        """See `EpisodeStore.columns`.

        Raises:
            DataFault: an array is missing or has another shape than [num_frames, width].
        """
        check_episode(self, index)
        arrays = self._read(index)
        wanted = tuple(arrays) if names is None else tuple(names)
        if unknown := [name for name in wanted if name not in arrays]:
            raise ValueError(f"{self.name} has no column {unknown[0]!r}; columns: {', '.join(arrays)}")
        return {name: arrays[name] for name in wanted}

    def frames(self, index: int, feature: str, start: int, stop: int) -> ImageArray:
        """See `EpisodeStore.frames`."""
        check_range(self, index, feature, start, stop)
        camera = self._headers[index].cameras[feature]
        return decode_range(camera.path, start / camera.fps, stop - start, camera.fps, index)

    def _picture_shape(self, feature: str) -> tuple[int, ...]:
        if feature not in self._shapes:
            faults: list[DataFault] = []
            for index, header in enumerate(self._headers):
                camera = header.cameras[feature]
                try:
                    self._shapes[feature] = decode_range(camera.path, 0.0, 1, camera.fps, index).shape[1:]
                    break
                except DataFault as fault:
                    faults.append(fault)
            else:
                raise faults[0]
        return self._shapes[feature]

    def _read(self, index: int) -> Columns:
        with self._lock:
            if index in self._arrays:
                self._arrays.move_to_end(index)
                return self._arrays[index]
        header = self._headers[index]
        content = _load(header.file)
        arrays: Columns = {}
        for name, width in COLUMNS.items():
            what, key = name.split(".")
            arrays[name] = _array(content.get(what, {}).get(key), (header.length, width), name, header.file, index)
        first = next(number for number, task in self.tasks.items() if task == header.tasks[0])
        arrays["task_index"] = np.full((header.length, 1), first, dtype=np.int64)
        with self._lock:
            self._arrays[index] = arrays
            while len(self._arrays) > _KEPT_EPISODES:
                self._arrays.popitem(last=False)
        return arrays


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataFault("metadata", file, None, f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataFault("metadata", file, None, f"an episode must be a JSON object; got a {type(content).__name__}")
    return content


def _header(content: Mapping[str, Any], file: Path, root: Path) -> _Header:
    length = content.get("num_frames")
    if not isinstance(length, int) or length < 0:
        raise DataFault("metadata", file, None, f"num_frames must be a count; got {length!r}")
    if not length:
        raise DataFault("empty episode", file, None, "num_frames is 0")
    observations = content.get("observations")
    if not isinstance(observations, dict) or not observations:
        raise DataFault("missing camera", file, None, "there are no observations")
    cameras = {f"observations.{view}": _camera(view, parts, file, root) for view, parts in observations.items()}
    return _Header(file, length, _tasks(content, file), cameras)


def _camera(view: str, parts: Any, file: Path, root: Path) -> _Camera:
    """One whole video per view: what the released loader reads, whatever `start` and `crop_bbox` say."""
    if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], dict):
        raise DataFault("metadata", file, None, f"observations.{view} must be a list of one video")
    (part,) = parts
    if part.get("start", 0) != 0 or part.get("crop_bbox") is not None:
        detail = (
            f"observations.{view} has start {part.get('start')!r} and crop_bbox {part.get('crop_bbox')!r}; supported are "
            "videos from their first frame, uncropped"
        )
        raise DataFault("metadata", file, None, detail)
    path, fps = part.get("path"), part.get("fps")
    if not isinstance(path, str) or not isinstance(fps, int | float) or fps <= 0:
        raise DataFault("metadata", file, None, f"observations.{view} needs path and fps; got {path!r} and {fps!r}")
    return _Camera(root / path, float(fps))


def _tasks(content: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """The task at the end of every wording of the instruction."""
    try:
        wordings = [entry["conversations"][0]["value"] for entry in content["instruction"]["general"]]
        found = [_TASK.search(wording) for wording in wordings]
    except (KeyError, IndexError, TypeError) as error:
        raise DataFault("missing task", file, None, f"no instruction.general with conversations ({error!r})") from error
    tasks = tuple(match.group(1).strip() for match in found if match is not None)
    if not tasks or len(tasks) < len(found) or not all(tasks):
        raise DataFault("missing task", file, None, "an instruction must end in 'Generate robot actions for the task:'")
    return tasks


def _array(values: Any, shape: tuple[int, int], name: str, file: Path, index: int) -> np.ndarray:
    if values is None:
        raise DataFault("missing column", file, index, f"there is no {name}")
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataFault("wrong shape", file, index, f"{name} is no table of numbers: {error}") from error
    if array.shape != shape:
        detail = f"{name} must be [num_frames, width] = {list(shape)}; got {list(array.shape)}"
        raise DataFault("wrong shape", file, index, detail)
    return array
