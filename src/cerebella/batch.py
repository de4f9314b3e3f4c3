"""What the model eats: torch, in model units; made by `processing` only, consumed by `models` and `training`.

It sits below both, in a file of its own, so that the acting side never imports torch through the nouns.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

NOT_COUNTED = -100
"""The label of a token that no loss counts (torch's default for `cross_entropy`)."""


PIXEL_MEAN = PIXEL_STD = 0.5
NUM_FRAMES = 2
"""Qwen3-VL's pictures: (x / 255 - mean) / std, a still one repeated in time. Bytes travel under no other convention."""


def pixels_from_bytes(values: Tensor) -> Tensor:
    """uint8[patches, 3 * patch * patch] -> float32[patches, 3 * 2 * patch * patch], computed where the bytes are."""
    numbers = ((values.float() / 255 - PIXEL_MEAN) / PIXEL_STD).view(len(values), 3, 1, -1)
    return numbers.expand(-1, -1, NUM_FRAMES, -1).reshape(len(values), -1)


@dataclass(frozen=True, eq=False)
class BrainInput:
    """Pictures and text as the brain reads them; B samples of L text and image tokens, right padded.

    Args:
        input_ids: int64[B, L]. attention_mask: int64[B, L], 1 on real tokens.
        mm_token_type_ids: int64[B, L], 1 on image tokens.
        pixel_values: float32[patches, 3 * 2 * patch * patch] of all images in order; None without cameras. Or
            uint8[patches, 3 * patch * patch], an eighth of the bytes, on its way to a device: `to` makes numbers of it.
        image_grid_thw: int64[images, 3] in patches; None without cameras.
    """

    input_ids: Tensor
    attention_mask: Tensor
    mm_token_type_ids: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device, pictures as numbers."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: x.to(device) for name, x in values.items() if isinstance(x, Tensor)}
        if self.pixel_values is not None and self.pixel_values.dtype == torch.uint8:
            tensors["pixel_values"] = pixels_from_bytes(tensors["pixel_values"])
        return replace(self, **tensors)


@dataclass(frozen=True, eq=False)
class Batch(BrainInput):
    """Robot windows or observations. H horizon, S padded state width, A padded action width.

    Args:
        state: float32[B, 1, S].
        action_mask: float32[B, H, A], 1 where an action slot is in use and its target real.
        actions: float32[B, H, A], the target; None at inference.
        action_prefix: float32[B, H, A], committed rows first, 0 beyond; None without any.
        prefix_length: int64[B], how many leading rows of `action_prefix` count; with targets, how many leading rows of
            `actions` were committed already (training may lengthen this prefix, never shorten it).
    """

    state: Tensor
    action_mask: Tensor
    actions: Tensor | None = None
    action_prefix: Tensor | None = None
    prefix_length: Tensor | None = None


@dataclass(frozen=True, eq=False)
class VisionLanguageBatch(BrainInput):
    """Conversations, and which of their tokens are to be said.

    Args:
        labels: int64[B, L], the token itself where the loss counts it (the assistant's answers), else `NOT_COUNTED`.
    """

    labels: Tensor

    @property
    def num_counted(self) -> int:
        """Tokens that the loss counts."""
        return int((self.labels != NOT_COUNTED).sum())


@dataclass(frozen=True, eq=False)
class TouchBatch:
    """Pairs of grasps of one object each: as it is in the hand now, and as it shall be. F fingers, J joints.

    Args:
        pressures, goal_pressures: float32[B, F, rows, columns], counts / 255.
        joints, goal_joints: float32[B, J], radians.
        increment: float32[B, 12], the target, D as in `models.touch_refiner`.
        pose, goal_pose: float32[B, 12], `T_wrist_object` of both grasps in the same form; what absolute estimates learn.
    """

    pressures: Tensor
    joints: Tensor
    goal_pressures: Tensor
    goal_joints: Tensor
    increment: Tensor
    pose: Tensor
    goal_pose: Tensor

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, rows: slice) -> Self:
        """Some of the pairs."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})
