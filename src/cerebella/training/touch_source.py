"""Pairs of grasps, step by step: drawn and felt by random sensors anew at every step, always the same at the same step."""

from dataclasses import dataclass

import numpy as np
import torch

from cerebella.batch import TouchBatch
from cerebella.touch.grasp import FINGERS
from cerebella.touch.increments import increment_numbers
from cerebella.touch.pairs import PairSource
from cerebella.touch.reading import MAX_COUNT, CountArray
from cerebella.training.sources import StepRequest, TrainingBatch


@dataclass(frozen=True)
class GraspPairs:
    """A `StepSource` over grasps in memory.

    Args:
        pairs: which grasps, which sensors.
        dead_finger_share: of the pairs, those in which one finger other than the thumb feels nothing, in both grasps: what
            a refiner sees that blanks a dead finger.

    Raises:
        ValueError: the share is not in 0..1.
    """

    pairs: PairSource
    dead_finger_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_finger_share <= 1.0:
            raise ValueError(f"dead_finger_share must be in 0..1; got {self.dead_finger_share}")

    def draw(self, request: StepRequest) -> list[TrainingBatch]:
        """See `StepSource`; `batch_size` counts pairs.

        Raises:
            ValueError: the stage wants something else, or pairs that cannot be split evenly.
        """
        stage, parts = request.stage, request.world.size * request.num_micro_batches
        if stage.objective != "touch" or stage.num_conversations:
            raise ValueError(f"stage {stage.name!r}: pairs of grasps serve the objective 'touch' alone")
        if stage.batch_size % parts:
            raise ValueError(
                f"stage {stage.name!r}: batch_size {stage.batch_size} must be a multiple of {parts} (processes x "
                "micro-batches)"
            )
        whole = self.batch(stage.batch_size, (*request.seed, request.step))
        share, size = request.world.share(stage.batch_size), stage.batch_size // parts
        starts = range(share.start, share.stop, size)
        return [TrainingBatch(touch=whole[start : start + size], first_window=start) for start in starts]

    def batch(self, num: int, seed: tuple[int, ...]) -> TouchBatch:
        """`num` pairs, a function of the seed."""
        rng = np.random.default_rng(seed)
        drawn = self.pairs.draw(num, rng)
        poses = self.pairs.grasps.arrays.T_wrist_object
        is_blank = _dead_fingers(num, self.dead_finger_share, rng)[..., None, None]
        return TouchBatch(
            pressures=as_pressures(np.where(is_blank, 0, drawn.counts)),
            joints=torch.from_numpy(drawn.joints),
            goal_pressures=as_pressures(np.where(is_blank, 0, drawn.goal_counts)),
            goal_joints=torch.from_numpy(drawn.goal_joints),
            increment=torch.from_numpy(drawn.increments),
            pose=torch.from_numpy(increment_numbers(poses[drawn.rows].astype(np.float64))),
            goal_pose=torch.from_numpy(increment_numbers(poses[drawn.goal_rows].astype(np.float64))),
        )


def as_pressures(counts: CountArray) -> torch.Tensor:
    """uint8 counts to what a refiner reads, float32 0..1."""
    return torch.from_numpy(counts).float() / MAX_COUNT


def _dead_fingers(num: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool[num, 5], one finger or none in each row."""
    finger = np.where(rng.random(num) < share, rng.integers(1, len(FINGERS), num), -1)
    return finger[:, None] == np.arange(len(FINGERS))
