"""A stage is data: what it trains, on which objective, how hard, for how long. The loop never asks which one it is in."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

StageName = Literal["warmup_vision", "pretrain_cerebellum", "posttrain_sync", "posttrain_async"]
Objective = Literal["vision", "flow"]
Part = Literal["vision", "language", "embeddings", "cerebellum"]
STAGE_NAMES: tuple[str, ...] = get_args(StageName)
PARTS: tuple[str, ...] = get_args(Part)


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Args:
        name: one of `STAGE_NAMES`; written into the policy's history.
        objective: `vision` supervises every vision token from simulator truth; `flow` is flow matching.
        trains: parts whose weights move; the rest is frozen. Without any part of the brain its pass needs no gradient.
        num_steps, batch_size: optimiser steps; windows per step.
        learning_rate: peak; reached after `num_warmup_steps` linear steps, then a cosine down to
            `final_learning_rate`.
        weight_decay: AdamW; never on biases, norms or adaLN tables.
        clip_norm: largest global gradient norm.
        flow_repeats: noise and flow-time draws per brain pass.
        async_probability: share of steps with an action prefix of length 1..`max_prefix` (uniform).
        hide_probability: chance that a prefix column (all but the last two) is hidden from every later row.
        mse_weight, frequency_weight: of the two flow losses.
        reweight_errors: weigh suffix errors by the sampler's own error when there is a prefix.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    name: StageName
    objective: Objective
    trains: tuple[Part, ...]
    num_steps: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float = 0.0
    num_warmup_steps: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    flow_repeats: int = 4
    async_probability: float = 0.0
    max_prefix: int = 0
    hide_probability: float = 0.0
    mse_weight: float = 0.5
    frequency_weight: float = 1.0
    reweight_errors: bool = True

    def __post_init__(self) -> None:
        if self.name not in STAGE_NAMES:
            raise ValueError(f"unknown stage {self.name!r}; known stages: {', '.join(STAGE_NAMES)}")
        if self.objective not in get_args(Objective):
            raise ValueError(f"unknown objective {self.objective!r}; known: {', '.join(get_args(Objective))}")
        unknown = [part for part in self.trains if part not in PARTS]
        if unknown or not self.trains:
            raise ValueError(f"stage {self.name!r} trains {self.trains}; known parts: {', '.join(PARTS)}")
        for field in ("num_steps", "batch_size", "flow_repeats"):
            if getattr(self, field) < 1:
                raise ValueError(f"stage {self.name!r}: {field} must be 1 or more; got {getattr(self, field)}")
        for field in ("async_probability", "hide_probability"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"stage {self.name!r}: {field} must be in 0..1; got {getattr(self, field)}")
        if (self.async_probability > 0) != (self.max_prefix > 0):
            raise ValueError(
                f"stage {self.name!r}: async_probability {self.async_probability} and max_prefix {self.max_prefix} "
                "rows must both be zero or both be positive"
            )

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of one step, 0-based: linear warm-up, then cosine to the final rate at the last step."""
        if step < self.num_warmup_steps:
            return self.learning_rate * (step + 1) / self.num_warmup_steps
        progress = (step - self.num_warmup_steps) / max(1, self.num_steps - self.num_warmup_steps)
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * 0.5 * (
            1 + math.cos(math.pi * min(1.0, progress))
        )

    @property
    def trains_brain(self) -> bool:
        """True if any part of the brain moves; its pass then needs a gradient."""
        return any(part != "cerebellum" for part in self.trains)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that identify the stage's settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
