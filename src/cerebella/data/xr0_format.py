"""The other direction of `xr0_episodes`: how its columns become samples, and how an episode is written."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cerebella.arms import AXES
from cerebella.data.mapping import DatasetMap
from cerebella.data.slices import Slice
from cerebella.data.xr0_episodes import COLUMNS, VIEWS, TrajectoryType
from cerebella.embodiment import Embodiment

_HEADINGS = {"ego": "Ego View", "wrist_left": "Left-Wrist View", "wrist_right": "Right-Wrist View"}


def xr0_map(embodiment: Embodiment) -> DatasetMap:
    """The map from XR-0 episodes to an embodiment whose dimensions are named as in `arms.arm_embodiment`.

    Gripper values are taken as they are: give the embodiment the range and sign of the recorded ones.

    Raises:
        ValueError: a state dimension that the format does not record (a seventh joint, say).
    """
    slices = {
        what: tuple(
            entry
            for arm in ("left", "right")
            for entry in _arm_slices(block, arm)
            if set(entry.names) <= {dimension.name for dimension in dimensions}
        )
        for what, block, dimensions in (
            ("state", "proprios", embodiment.states),
            ("action", "actions", embodiment.actions),
        )
    }
    views = {view: camera for view, camera in VIEWS.items() if view in embodiment.views}
    return DatasetMap(slices["state"], slices["action"], views, embodiment)


def _arm_slices(block: str, arm: str) -> tuple[Slice, ...]:
    return (
        Slice(f"{block}.{arm}_ee_pos", 0, 3, tuple(f"{arm}_{axis}" for axis in AXES)),
        Slice(f"{block}.{arm}_ee_rotm", 0, 9, tuple(f"{arm}_axis_angle_{axis}" for axis in AXES), rotation="matrix"),
        Slice(f"{block}.{arm}_gripper_pos", 0, 1, (f"{arm}_gripper",)),
        Slice(f"{block}.{arm}_arm_joint", 0, 6, tuple(f"{arm}_joint_{i + 1}" for i in range(6))),
    )


def write_xr0_episode(
    file: Path,
    arrays: Mapping[str, np.ndarray],
    videos: Mapping[str, str],
    task: str,
    fps: float = 30.0,
    trajectory_type: TrajectoryType = "success",
) -> None:
    """Write one episode's JSON; its videos exist already.

    Args:
        arrays: every column of `COLUMNS`, [num_frames, width]. videos: view as in the format (`ego`, ...) -> path.
        task: the instruction.

    Raises:
        ValueError: a column is missing, or has another shape than the others.
    """
    if missing := [name for name in COLUMNS if name not in arrays]:
        raise ValueError(f"{file.name}: missing the columns {', '.join(missing)}")
    length = len(arrays["actions.left_ee_pos"])
    blocks: dict[str, dict[str, list[list[float]]]] = {"proprios": {}, "actions": {}}
    for name, width in COLUMNS.items():
        if arrays[name].shape != (length, width):
            raise ValueError(f"{file.name}: {name} must be [{length}, {width}]; got {list(arrays[name].shape)}")
        what, key = name.split(".")
        blocks[what][key] = arrays[name].tolist()
    headings = "".join(f"# {_HEADINGS[view]}\n<image>\n" for view in videos)
    prompt = (
        "The following observations are captured from multiple views.\n"
        f"{headings}Generate robot actions for the task:\n{task}"
    )
    talk = [{"from": "human", "value": prompt}, {"from": "gpt", "value": "<bot></bot>"}]
    segment = {"start": 0, "end": length, "fps": fps, "crop_bbox": None}
    content = {
        "trajectory_type": trajectory_type,
        "time": file.stem,
        "num_frames": length,
        "instruction": {"general": [{"images": [f"observations.{view}" for view in videos], "conversations": talk}]},
        "observations": {view: [{"path": path, **segment}] for view, path in videos.items()},
        **blocks,
    }
    file.write_text(json.dumps(content))
