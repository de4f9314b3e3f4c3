"""A small world that fits into memory: encoded once, kept on the device, every step a selection of rows.

For models so small that making a batch takes longer than learning from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cerebella.batch import NOT_COUNTED, Batch, BrainInput, VisionLanguageBatch
from cerebella.training.sources import StepRequest, TrainingBatch, draw_indices
from cerebella.types import SceneTruth

AnyBatch = TypeVar("AnyBatch", Batch, VisionLanguageBatch)
COLUMNS_AT_ONCE = 64
_FILLER = {"labels": NOT_COUNTED}


@dataclass(frozen=True, eq=False)
class Held:
    """A `StepSource` over encoded rows with one picture each, all of one size, or with none at all.

    Args:
        robot: windows; None where no stage has any. truth: of their pictures. language: conversations, or None.

    Raises:
        ValueError: a row without a picture among rows with one, or pictures of several sizes.
    """

    robot: Batch | None = None
    truth: SceneTruth | None = None
    language: VisionLanguageBatch | None = None

    def __post_init__(self) -> None:
        for batch in (self.robot, self.language):
            if batch is None or batch.image_grid_thw is None:
                continue
            grid = batch.image_grid_thw
            if len(grid) != len(batch) or bool((grid != grid[0]).any()):
                raise ValueError("a held source needs one picture per row, all of one size, or no picture at all")

    def draw(self, request: StepRequest) -> list[TrainingBatch]:
        """See `StepSource`.

        Raises:
            ValueError: the stage wants data that this source lacks, or counts that cannot be split evenly.
        """
        stage, parts = request.stage, request.num_micro_batches
        rows = self._rows("batch_size", stage.batch_size, self.robot, request, ())
        talk = self._rows("num_conversations", stage.num_conversations, self.language, request, (1,))
        batches = []
        for part in range(parts):
            robot, truth, language, first = None, None, None, 0
            if self.robot is not None and len(rows):
                chosen = np.array_split(rows, parts)[part]
                first = stage.batch_size // request.world.size * request.world.rank + part * len(chosen)
                robot = select(self.robot, chosen)
                truth = _truth(self.truth, chosen) if stage.objective == "vision" and self.truth is not None else None
            if self.language is not None and len(talk):
                language = select(self.language, np.array_split(talk, parts)[part])
            batches.append(TrainingBatch(robot, language, truth, first))
        return batches

    def _rows(
        self, name: str, count: int, batch: BrainInput | None, request: StepRequest, seed: tuple[int, ...]
    ) -> np.ndarray:
        if not count:
            return np.zeros(0, dtype=np.int64)
        if batch is None:
            raise ValueError(f"stage {request.stage.name!r} has {name} {count}, but its source has no such data")
        if count % (request.world.size * request.num_micro_batches):
            raise ValueError(
                f"stage {request.stage.name!r}: {name} {count} must be a multiple of "
                f"{request.world.size * request.num_micro_batches} (processes x micro-batches)"
            )
        drawn = draw_indices(len(batch), count, request.step, (*request.seed, *seed))
        return drawn[request.world.share(count)]


def hold(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """The same on another device, bytes as bytes (`BrainInput.to` would make numbers of them)."""
    return replace(batch, **{name: tensor.to(device) for name, tensor in _tensors(batch).items()})


def select(batch: AnyBatch, indices: np.ndarray) -> AnyBatch:
    """Rows of a batch with one picture of one size each, or none, without most of the columns that all of them pad.

    The length is a multiple of `COLUMNS_AT_ONCE` where the batch has so many, so that a compiled network sees few shapes.
    """
    chosen = torch.from_numpy(indices).to(batch.input_ids.device)
    longest = int(batch.attention_mask[chosen].sum(dim=1).max())
    longest = -(-longest // COLUMNS_AT_ONCE) * COLUMNS_AT_ONCE
    taken: dict[str, Tensor] = {}
    for name, tensor in _tensors(batch).items():
        if name == "pixel_values":
            taken[name] = tensor.view(len(batch), -1, tensor.shape[-1])[chosen].flatten(0, 1)
        elif name in _OF_TOKENS:
            taken[name] = tensor[chosen, :longest]
        else:
            taken[name] = tensor[chosen]
    return replace(batch, **taken)


def stack(batches: Sequence[AnyBatch], pad_token_id: int) -> AnyBatch:
    """Batches one below the other, tokens padded to the longest row.

    Raises:
        ValueError: no batch.
    """
    if not batches:
        raise ValueError("need at least one batch to stack; got none")
    longest = max(batch.input_ids.shape[1] for batch in batches)
    filler = {"input_ids": pad_token_id, **_FILLER}
    stacked: dict[str, Tensor] = {}
    for name in _tensors(batches[0]):
        parts = [_tensors(batch)[name] for batch in batches]
        if name in _OF_TOKENS:
            parts = [F.pad(part, (0, longest - part.shape[1]), value=filler.get(name, 0)) for part in parts]
        stacked[name] = torch.cat(parts)
    return replace(batches[0], **stacked)


_OF_TOKENS = ("input_ids", "attention_mask", "mm_token_type_ids", "labels")


def _tensors(batch: BrainInput) -> dict[str, Tensor]:
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _truth(truth: SceneTruth, rows: np.ndarray) -> SceneTruth:
    return replace(
        truth,
        is_present=truth.is_present[rows],
        class_index=truth.class_index[rows],
        pixel=truth.pixel[rows],
        target_index=truth.target_index[rows],
    )
