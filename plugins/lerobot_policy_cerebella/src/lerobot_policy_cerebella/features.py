"""LeRobot's features to the vectors and views of an embodiment, by name, and back. Nothing is matched by position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from cerebella.data.slices import UNIT_FACTORS
from cerebella.embodiment import Dimension, Embodiment
from cerebella.types import FloatArray, ImageArray
from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig

PICTURE_TOLERANCE = 0.01
"""How far a float picture may leave 0..1 (interpolation overshoots a little)."""


@dataclass(frozen=True, eq=False)
class Entries:
    """Where the dimensions of an embodiment are in a LeRobot vector: `ours[i] = offset[i] + scale[i] * theirs[position[i]]`.

    Args:
        feature: name of the LeRobot feature. num_entries: its length.
        position: int[n]. scale, offset: float64[n].
    """

    feature: str
    num_entries: int
    position: NDArray[np.intp]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    def read(self, values: Tensor) -> FloatArray:
        """float[..., num_entries] of LeRobot -> float32[..., n] raw units of the embodiment."""
        if values.shape[-1] != self.num_entries:
            raise ValueError(f"{self.feature} must be float[..., {self.num_entries}]; got {list(values.shape)}")
        stored = values.detach().cpu().numpy().astype(np.float64)
        return (self.offset + self.scale * stored[..., self.position]).astype(np.float32)

    def write(self, values: FloatArray) -> FloatArray:
        """The inverse of `read`, for vectors whose entries are all known."""
        stored = np.zeros((*values.shape[:-1], self.num_entries), dtype=np.float32)
        stored[..., self.position] = (values.astype(np.float64) - self.offset) / self.scale
        return stored


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What LeRobot's batches mean to an embodiment.

    Args:
        cameras: view -> LeRobot's key. state, action: see `Entries`.
    """

    cameras: Mapping[str, str]
    state: Entries
    action: Entries

    @classmethod
    def of(cls, config: CerebellaConfig, embodiment: Embodiment) -> "FeatureMap":
        """Match names, as `config` says.

        Raises:
            ValueError: a name is missing or unknown, a unit does not fit; says which, and what would have been right.
        """
        config.validate_features()
        assert config.input_features is not None
        assert config.output_features is not None
        widths = (config.input_features[OBS_STATE].shape[0], config.output_features[ACTION].shape[0])
        state = _entries(config, OBS_STATE, config.state_feature_names, widths[0], embodiment.states)
        action = _entries(config, ACTION, config.action_feature_names, widths[1], embodiment.actions)
        if len(action.position) != widths[1]:
            names = _dimension_names(config, config.action_feature_names or ())
            known = {dimension.name for dimension in embodiment.actions}
            raise ValueError(
                f"{ACTION} has entries that {embodiment.name!r} does not have: {', '.join(sorted(set(names) - known))}; its "
                f"actions: {', '.join(d.name for d in embodiment.actions)}. Use --policy.renamed"
            )
        return cls(_cameras(config, embodiment), state, action)

    def pictures(self, batch: Mapping[str, Any]) -> list[dict[str, ImageArray]]:
        """Of each row the views, uint8[h, w, 3]."""
        views: dict[str, ImageArray] = {}
        for view, key in self.cameras.items():
            if key not in batch:
                raise ValueError(f"the batch has no {key!r}, which is the view {view!r}")
            views[view] = _as_pictures(key, batch[key])
        num = len(batch[OBS_STATE])
        return [{view: pictures[i] for view, pictures in views.items()} for i in range(num)]


def prompts_of(batch: Mapping[str, Any], num: int) -> list[str]:
    """The instruction of every row."""
    task = batch.get("task")
    prompts = [task] * num if isinstance(task, str) else list(task or [])
    if len(prompts) != num or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"the batch needs a 'task' (an instruction) for each of its {num} rows; got {task!r}")
    return prompts


def _dimension_names(config: CerebellaConfig, names: Sequence[str]) -> list[str]:
    return [config.renamed.get(name, name.removesuffix(".pos")) for name in names]


def _entries(
    config: CerebellaConfig, feature: str, names: Sequence[str] | None, width: int, dimensions: Sequence[Dimension]
) -> Entries:
    option = "state_feature_names" if feature == OBS_STATE else "action_feature_names"
    if not names:
        raise ValueError(f"{feature} has no names; say what its {width} entries are with --policy.{option}")
    if len(names) != width:
        raise ValueError(f"{feature} has {width} entries, but {option} names {len(names)}: {', '.join(names)}")
    found = _dimension_names(config, names)
    if len(set(found)) != len(found):
        raise ValueError(f"{feature}: two entries are the same dimension: {', '.join(found)}")
    if missing := [dimension.name for dimension in dimensions if dimension.name not in found]:
        raise ValueError(
            f"{feature} lacks {', '.join(missing)}; its entries: {', '.join(names)}. Use --policy.renamed, a mapping of entries "
            "to dimensions"
        )
    lines = [_line(config, dimension) for dimension in dimensions]
    return Entries(
        feature=feature,
        num_entries=width,
        position=np.array([found.index(dimension.name) for dimension in dimensions], dtype=np.intp),
        scale=np.array([scale for scale, _ in lines]),
        offset=np.array([offset for _, offset in lines]),
    )


def _line(config: CerebellaConfig, dimension: Dimension) -> tuple[float, float]:
    """(scale, offset) from LeRobot's numbers to the embodiment's."""
    if dimension.name in config.gripper_ends:
        closed, opened = config.gripper_ends[dimension.name]
        ours = [float(dimension.from_opening(opening)) for opening in (0.0, 1.0)]
        scale = (ours[1] - ours[0]) / (opened - closed)
        return scale, ours[0] - scale * closed
    unit = config.units.get(dimension.name, dimension.unit)
    if unit == dimension.unit:
        return 1.0, 0.0
    if (unit, dimension.unit) not in UNIT_FACTORS:
        known = ", ".join(a for a, b in UNIT_FACTORS if b == dimension.unit) or "none other"
        raise ValueError(
            f"units: {dimension.name!r} is in {dimension.unit}; from {unit!r} there is no way; known: {known}"
        )
    return UNIT_FACTORS[unit, dimension.unit], 0.0


def _cameras(config: CerebellaConfig, embodiment: Embodiment) -> dict[str, str]:
    keys = [key for key, feature in (config.input_features or {}).items() if feature.type is FeatureType.VISUAL]
    named = {key.removeprefix(f"{OBS_IMAGES}."): key for key in keys}
    given = {key.removeprefix(f"{OBS_IMAGES}."): view for key, view in config.views.items()}
    if unknown := [name for name in given if name not in named]:
        raise ValueError(f"views: there is no camera {unknown[0]!r}; cameras: {', '.join(named) or 'none'}")
    if wrong := [view for view in given.values() if view not in embodiment.views]:
        raise ValueError(
            f"views: {embodiment.name!r} has no view {wrong[0]!r}; its views: {', '.join(embodiment.views)}"
        )
    if len(set(given.values())) != len(given):
        raise ValueError(f"views: two cameras are the same view: {given}")
    pairs = given or {name: name for name in named if name in embodiment.views}
    cameras = {view: named[name] for name, view in pairs.items()}
    if missing := [view for view in embodiment.views if view not in cameras]:
        raise ValueError(
            f"{embodiment.name!r} needs the views {', '.join(embodiment.views)}; no camera for {', '.join(missing)}. Cameras: "
            f'{", ".join(named) or "none"}. Use --policy.views, e.g. \'{{"{next(iter(named), "front")}": "{missing[0]}"}}\''
        )
    return cameras


def _as_pictures(key: str, values: Tensor) -> ImageArray:
    """[B, 3, h, w], float 0..1 or uint8 -> uint8[B, h, w, 3]."""
    if values.ndim != 4 or values.shape[1] != 3:
        raise ValueError(f"{key} must be [batch, 3, h, w] (RGB); got {list(values.shape)}")
    if values.dtype != torch.uint8:
        values = values.detach().float()
        low, high = (float(end) for end in values.aminmax())
        if low < -PICTURE_TOLERANCE or high > 1 + PICTURE_TOLERANCE:
            raise ValueError(f"{key} must be uint8, or float in 0..1; got {low:.3g}..{high:.3g}")
        values = (values * 255).round().clamp(0, 255).to(torch.uint8)
    return values.permute(0, 2, 3, 1).cpu().numpy()
