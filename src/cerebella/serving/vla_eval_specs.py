"""What the vla-evaluation-harness is told about a policy (specs made from the embodiment), and what its observations mean.

Format names are interface constants of the harness (`src/vla_eval/specs.py`, version 0.8.0); it compares them with those of
a benchmark and warns where they differ, so a format that it has no word for is named in ours.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from cerebella.embodiment import Dimension, Embodiment
from cerebella.interfaces import PolicyMetadata
from cerebella.serving.errors import WireError
from cerebella.serving.observations import read_query
from cerebella.serving.query import Query

Spec = dict[str, Any]

CAMERAS = {
    **dict.fromkeys(("agentview", "rgb_static", "primary", "front", "base_camera", "base"), "base"),
    **dict.fromkeys(("wrist", "rgb_gripper", "left_wrist"), "left_wrist"),
    "ego": "ego",
    "right_wrist": "right_wrist",
}
"""Camera names of the harness's benchmarks (and ours) to views. A policy without `base` sees the same camera as `ego`."""

_ROTATIONS = {
    "axis_angle": ("axis_angle", "axisangle"),
    "euler": ("euler_xyz", "euler"),
    "roll": ("euler_xyz", "euler"),
    "pitch": ("euler_xyz", "euler"),
    "yaw": ("euler_xyz", "euler"),
    "quat": ("quaternion_xyzw", "quat"),
    "rot6d": ("rot6d", "rot6d"),
}
"""Part of a dimension's name to the harness's format of an action, and to its word inside the format of a state."""


def action_spec(embodiment: Embodiment) -> dict[str, Spec]:
    """Part to {name, dims, format, range}, in the order of the action vector; a second arm's parts end in `_2`."""
    spec: dict[str, Spec] = {}
    for part, dimensions in _parts(embodiment.actions):
        number = sum(key.partition("_")[0] == part for key in spec) + 1
        low, high = min(d.low for d in dimensions), max(d.high for d in dimensions)
        spec[part if number == 1 else f"{part}_{number}"] = {
            "name": part,
            "dims": len(dimensions),
            "format": _action_format(part, dimensions),
            "range": [low, high],
        }
    return spec


def observation_spec(embodiment: Embodiment, cameras: Mapping[str, str]) -> dict[str, Spec]:
    """Language and state, and the cameras whose names in the benchmark are known (camera name to view)."""
    spec: dict[str, Spec] = {
        camera: {"name": "image", "dims": 0, "format": "rgb_hwc_uint8", "description": f"view {view}"}
        for camera, view in cameras.items()
    }
    spec["language"] = {"name": "language", "dims": 0, "format": "language"}
    if embodiment.state_dim:
        names = ", ".join(f"{d.name} [{d.unit}]" for d in embodiment.states)
        state: Spec = {"name": "state", "dims": embodiment.state_dim, "format": _state_format(embodiment.states)}
        spec["state"] = state | {"description": names}
    return spec


def observation_params(embodiment: Embodiment) -> dict[str, bool]:
    """What a benchmark should send; the harness sets those of its own options that have these names."""
    has_wrist = any(view.endswith("wrist") for view in embodiment.views)
    return {"send_state": embodiment.state_dim > 0, "send_wrist_image": has_wrist}


def query_of(payload: Mapping[str, Any], metadata: PolicyMetadata, cameras: Mapping[str, str], tick: int) -> Query:
    """The question in the payload of an observation, without a prefix.

    Args:
        payload: `images` (camera to picture), `states` or `state`, `task_description`; more is ignored.
        metadata: of the policy. cameras: camera name to view; other cameras are ignored. tick: of the observation.

    Raises:
        WireError: a view, the state or the instruction is missing or malformed.
    """
    pictures = payload.get("images", {})
    if not isinstance(pictures, dict):
        raise WireError("images must map camera names to pictures")
    views = metadata.embodiment.views
    images = {cameras[camera]: picture for camera, picture in pictures.items() if camera in cameras}
    if "ego" in views and "base" not in views and "base" in images:
        images.setdefault("ego", images["base"])
    state = payload.get("states", payload.get("state"))
    if state is None:
        raise WireError("the policy needs `states`: run the benchmark with send_state: true")
    fields = {
        "state": state,
        "prompt": payload.get("task_description"),
        "tick": tick,
        "images": {view: picture for view, picture in images.items() if view in views},
    }
    return read_query(fields, metadata, time.monotonic())


def _parts(dimensions: Sequence[Dimension]) -> list[tuple[str, list[Dimension]]]:
    """Neighbours that belong together: position, rotation, gripper, joint, other."""
    return [(part, list(group)) for part, group in groupby(dimensions, _part)]


def _part(dimension: Dimension) -> str:
    if dimension.kind in ("gripper", "joint"):
        return dimension.kind
    if dimension.kind == "rotation" or any(word in dimension.name for word in _ROTATIONS):
        return "rotation"
    is_translation = dimension.kind == "position" or dimension.name in ("delta_x", "delta_y", "delta_z")
    return "position" if is_translation else "other"


def _rotation_words(dimensions: Sequence[Dimension]) -> tuple[str, str]:
    return next((words for key, words in _ROTATIONS.items() if key in dimensions[0].name), ("rotation", "rotation"))


def _action_format(part: str, dimensions: Sequence[Dimension]) -> str:
    first = dimensions[0]
    if part == "position":
        return "delta_xyz" if first.kind == "velocity" else "absolute_xyz"
    if part == "rotation":
        return _rotation_words(dimensions)[0]
    if part == "joint":
        return "joint_positions"
    if part == "gripper":
        ends = (first.low, first.high, first.open_at)
        known = {
            (-1.0, 1.0, "low"): "binary_close_positive",
            (-1.0, 1.0, "high"): "binary_close_negative",
            (0.0, 1.0, "high"): "continuous_01",
            (0.0, 1.0, "low"): "binary_close_01",
        }
        return known.get(ends, "raw")
    return "raw"


def _state_format(dimensions: Sequence[Dimension]) -> str:
    """Such as `eef_pos3_axisangle3_gripper2` or `joint_positions`."""
    parts = _parts(dimensions)
    if {part for part, _ in parts} <= {"joint", "gripper"}:
        return "joint_positions"
    words = {"position": "pos", "joint": "joint", "gripper": "gripper", "other": "raw"}
    return "_".join(["eef", *(f"{words.get(part) or _rotation_words(group)[1]}{len(group)}" for part, group in parts)])
