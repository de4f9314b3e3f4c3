"""Where a training step's data come from: the same step always gives the same data, on however many processes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from cerebella.batch import Batch, TouchBatch, VisionLanguageBatch
from cerebella.processing.conversation import ConversationProcessor
from cerebella.processing.processor import Processor
from cerebella.training.parallel import World
from cerebella.training.stages import Stage
from cerebella.types import Conversation, Sample, SceneTruth


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """What one forward and backward pass learns from: robot windows, conversations, or both; or pairs of grasps.

    Args:
        robot: windows with targets. language: conversations with labels. truth: of the windows' pictures, for `vision`.
        first_window: index of the first of the windows in the whole step's batch; decides their noise.
        touch: pairs of grasps, for `touch`; alone.

    Raises:
        ValueError: pairs of grasps beside something else.
    """

    robot: Batch | None = None
    language: VisionLanguageBatch | None = None
    truth: SceneTruth | None = None
    first_window: int = 0
    touch: TouchBatch | None = None

    def __post_init__(self) -> None:
        if self.touch is not None and (self.robot is not None or self.language is not None):
            raise ValueError("pairs of grasps cannot share a batch with robot windows or conversations")

    @property
    def num_windows(self) -> int:
        """Robot windows or pairs of grasps, whichever it holds."""
        windows = self.robot if self.touch is None else self.touch
        return 0 if windows is None else len(windows)

    def to(self, device: torch.device) -> "TrainingBatch":
        """The same on another device, pictures as numbers (the truth stays NumPy)."""
        robot = None if self.robot is None else self.robot.to(device)
        language = None if self.language is None else self.language.to(device)
        touch = None if self.touch is None else self.touch.to(device)
        return replace(self, robot=robot, language=language, touch=touch)


@dataclass(frozen=True)
class StepRequest:
    """Which data: those of one step of a stage, the share of one process, in so many micro-batches.

    Args:
        seed: decides the order, e.g. (run seed, stage index). step: 0-based.
        num_micro_batches: how many passes the share is cut into.
    """

    stage: Stage
    step: int
    seed: tuple[int, ...]
    world: World
    num_micro_batches: int = 1


class StepSource(Protocol):
    """Data of a stage by step; the same request always gives the same data."""

    def draw(self, request: StepRequest) -> Sequence[TrainingBatch]:
        """The micro-batches of one process, of the same kinds (robot, language) on every process."""
        ...


class WindowSource(Protocol):
    """Training windows that can be drawn by index; the same index always gives the same window."""

    def __len__(self) -> int: ...

    def samples(self, indices: np.ndarray) -> list[Sample]:
        """The windows at `indices`."""
        ...

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """Where the objects are in their pictures; needed by the vision objective only."""
        ...


class ConversationSource(Protocol):
    """Conversations that can be drawn by index."""

    def __len__(self) -> int: ...

    def conversations(self, indices: np.ndarray) -> list[Conversation]:
        """The conversations at `indices`."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """A `StepSource` over indexed windows and conversations: epochs of seeded permutations, one for each of the two.

    Args:
        windows, processor: robot data; None where no stage has any.
        conversations, conversation_processor: language data; None where no stage has any.
    """

    windows: WindowSource | None = None
    processor: Processor | None = None
    conversations: ConversationSource | None = None
    conversation_processor: ConversationProcessor | None = None

    def draw(self, request: StepRequest) -> list[TrainingBatch]:
        """See `StepSource`.

        Raises:
            ValueError: the stage wants data that this source lacks, or counts that cannot be split evenly.
        """
        stage = request.stage
        rows = self._rows("batch_size", stage.batch_size, self.windows, self.processor, request, ())
        talk = self._rows(
            "num_conversations",
            stage.num_conversations,
            self.conversations,
            self.conversation_processor,
            request,
            (1,),
        )
        return [self._batch(stage, *each) for each in zip(rows, talk, strict=True)]

    def _rows(
        self,
        name: str,
        count: int,
        source: WindowSource | ConversationSource | None,
        processor: Processor | ConversationProcessor | None,
        request: StepRequest,
        seed: tuple[int, ...],
    ) -> list[tuple[int, np.ndarray]]:
        """For each micro-batch (place in the step's batch, indices); empty ones where the stage wants none."""
        if not count:
            return [(0, np.zeros(0, dtype=np.int64))] * request.num_micro_batches
        if source is None or processor is None:
            raise ValueError(f"stage {request.stage.name!r} has {name} {count}, but its source has no such data")
        parts = request.world.size * request.num_micro_batches
        if count % parts:
            raise ValueError(
                f"stage {request.stage.name!r}: {name} {count} must be a multiple of {parts} "
                f"({request.world.size} processes, {request.num_micro_batches} micro-batches each)"
            )
        drawn = draw_indices(len(source), count, request.step, (*request.seed, *seed))
        share = request.world.share(count)
        size = count // parts
        return [(start, drawn[start : start + size]) for start in range(share.start, share.stop, size)]

    def _batch(self, stage: Stage, rows: tuple[int, np.ndarray], talk: tuple[int, np.ndarray]) -> TrainingBatch:
        robot, language, truth = None, None, None
        if len(rows[1]) and self.windows is not None and self.processor is not None:
            robot = self.processor.encode_samples(self.windows.samples(rows[1]), as_bytes=True)
            truth = self.windows.truth(rows[1]) if stage.objective == "vision" else None
        if len(talk[1]) and self.conversations is not None and self.conversation_processor is not None:
            language = self.conversation_processor.encode(self.conversations.conversations(talk[1]), as_bytes=True)
        return TrainingBatch(robot, language, truth, first_window=rows[0])


def draw_indices(num_items: int, batch_size: int, step: int, seed: tuple[int, ...]) -> np.ndarray:
    """Indices of one step: epochs of a seeded permutation, int64[batch_size]; any step without the ones before it."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // num_items
    drawn = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        order = _permutation(num_items, int(epoch), seed)
        drawn[epochs == epoch] = order[positions[epochs == epoch] % num_items]
    return drawn


_PERMUTATIONS: dict[tuple[int, int, tuple[int, ...]], np.ndarray] = {}


def _permutation(num_items: int, epoch: int, seed: tuple[int, ...]) -> np.ndarray:
    """The order of one epoch; the newest four are kept (an old and a new epoch of windows and of conversations)."""
    key = (num_items, epoch, seed)
    if key not in _PERMUTATIONS:
        while len(_PERMUTATIONS) > 3:
            del _PERMUTATIONS[next(iter(_PERMUTATIONS))]
        _PERMUTATIONS[key] = np.random.default_rng([*seed, epoch]).permutation(num_items)
    return _PERMUTATIONS[key]
