"""A stage is data: what it trains, on which objective, how hard, for how long. The loop never asks which one it is in."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from cerebella.models.flow import TIME_LAWS, TimeLaw

StageName = Literal[
    "warmup_vision", "pretrain_brain", "pretrain_cerebellum", "posttrain_sync", "posttrain_async", "train_touch"
]
Objective = Literal["vision", "flow", "choice", "next_token", "touch"]
Part = Literal["vision", "language", "embeddings", "cerebellum", "touch_refiner"]
PrefixLaw = Literal["half_zero_uniform", "uniform_0_to_max"]
PrefixDraw = Literal["sample", "batch"]
DecayRule = Literal["matrices", "released"]
STAGE_NAMES: tuple[str, ...] = get_args(StageName)
OBJECTIVES: tuple[str, ...] = get_args(Objective)
PARTS: tuple[str, ...] = get_args(Part)
BRAIN_PARTS: tuple[str, ...] = ("vision", "language", "embeddings")
_CHOICES = {
    "prefix_law": get_args(PrefixLaw),
    "prefix_draw": get_args(PrefixDraw),
    "decay_rule": get_args(DecayRule),
    "time_law": TIME_LAWS,
}


_LATER_FIELDS = (
    *("language_weight", "num_conversations", "choice_weight", "score_weight", "loser_weight"),
    *("prefix_law", "prefix_draw", "time_law", "noise_in_unused_slots", "frequency_is_masked"),
    *("first_learning_rate", "brain_rate", "decay_rule", "ema_decay"),
)
"""Fields that came after the first policies: at their defaults they leave those policies' fingerprints as they were."""


@dataclass(frozen=True)
class Stage:
    """One stage of training. The defaults are ours; `xr0_posttrain` gives those of the released code.

    Args:
        name: one of `STAGE_NAMES`; written into the policy's history.
        objective: what robot data teaches. `vision` supervises every vision token from simulator truth; `choice` is
            Choice Policies; `flow` is flow matching; `next_token` is language alone, without robot data; `touch` is the
            wrist increment between two grasps (`models.touch_refiner`), whose windows are pairs of grasps.
        trains: parts whose weights move; the rest is frozen. Without any part of the brain its pass needs no gradient.
        num_steps, batch_size: optimiser steps; windows per step, over all processes.
        learning_rate: peak; reached after `num_warmup_steps` linear steps, then a cosine down to
            `final_learning_rate`.
        weight_decay: AdamW; see `decay_rule`.
        clip_norm: largest global gradient norm.
        flow_repeats: noise and flow-time draws per brain pass.
        async_probability: share of draws with an action prefix of length 1..`max_prefix` (uniform).
        hide_probability: chance that a prefix column (all but the last two) is hidden from every later row.
        mse_weight, frequency_weight: of the two flow losses; 0 switches a term off.
        reweight_errors: weigh suffix errors by the sampler's own error when there is a prefix.
        language_weight: of the next-token loss on conversations beside the robot objective; 0 is none.
        num_conversations: conversations per step, over all processes, beside the `batch_size` windows.
        choice_weight, score_weight: of the two losses of Choice Policies. loser_weight: see `models.choice`.
        prefix_law: `half_zero_uniform` (released code, with `async_probability` 0.5) or `uniform_0_to_max` (the paper:
            0..`max_prefix`, all alike; `async_probability` is not read then, but must be above 0).
        prefix_draw: one prefix length per `sample`, or one for the whole `batch` (released code).
        time_law: of the flow times, see `models.flow.sample_flow_time`.
        noise_in_unused_slots: noise (and so a velocity to predict) also in action slots that are not in use, as in the
            released code. The network sees none of it there, so for it that target is pure chance.
        frequency_is_masked: leave unused slots out of the frequency loss; the released code does not.
        first_learning_rate: where the warm-up starts; None: one step's share of the peak.
        brain_rate: factor on the learning rate of the brain's parts.
        decay_rule: what weight decay spares. `matrices`: biases, norms, adaLN tables, embeddings. `released`: names with
            bias, norm, ln, rotary_emb or adaln.
        ema_decay: keep a running mean of the weights, which replaces them at the stage's end; 0 is none.

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
    language_weight: float = 0.0
    num_conversations: int = 0
    choice_weight: float = 0.5
    score_weight: float = 0.5
    loser_weight: float = 0.0
    prefix_law: PrefixLaw = "half_zero_uniform"
    prefix_draw: PrefixDraw = "sample"
    time_law: TimeLaw = "beta"
    noise_in_unused_slots: bool = False
    frequency_is_masked: bool = False
    first_learning_rate: float | None = None
    brain_rate: float = 1.0
    decay_rule: DecayRule = "matrices"
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in STAGE_NAMES:
            raise ValueError(f"unknown stage {self.name!r}; known stages: {', '.join(STAGE_NAMES)}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"unknown objective {self.objective!r}; known: {', '.join(OBJECTIVES)}")
        unknown = [part for part in self.trains if part not in PARTS]
        if unknown or not self.trains:
            raise ValueError(f"stage {self.name!r} trains {self.trains}; known parts: {', '.join(PARTS)}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"stage {self.name!r}: {name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        for name in ("num_steps", "flow_repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name!r}: {name} must be 1 or more; got {getattr(self, name)}")
        for name in ("async_probability", "hide_probability", "loser_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"stage {self.name!r}: {name} must be in 0..1; got {getattr(self, name)}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"stage {self.name!r}: ema_decay must be 0 or more and below 1; got {self.ema_decay}")
        if (self.async_probability > 0) != (self.max_prefix > 0):
            raise ValueError(
                f"stage {self.name!r}: async_probability {self.async_probability} and max_prefix {self.max_prefix} "
                "rows must both be zero or both be positive"
            )
        self._check_mixture()

    def _check_mixture(self) -> None:
        least = 0 if self.objective == "next_token" else 1
        if self.batch_size < least or (self.objective == "next_token" and self.batch_size):
            wanted = "1 or more" if least else "0 with the objective next_token"
            raise ValueError(f"stage {self.name!r}: batch_size must be {wanted}; got {self.batch_size}")
        if self.num_conversations < 0 or (self.num_conversations > 0) != (self.language_weight > 0):
            raise ValueError(
                f"stage {self.name!r}: num_conversations {self.num_conversations} and language_weight "
                f"{self.language_weight} must both be zero or both be positive"
            )
        if self.objective == "next_token" and not self.num_conversations:
            raise ValueError(f"stage {self.name!r}: the objective next_token needs num_conversations of 1 or more")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of one step, 0-based: linear warm-up, then cosine to the final rate at the last step."""
        if step < self.num_warmup_steps:
            if self.first_learning_rate is None:
                return self.learning_rate * (step + 1) / self.num_warmup_steps
            rise = self.learning_rate - self.first_learning_rate
            return self.first_learning_rate + rise * step / self.num_warmup_steps
        progress = (step - self.num_warmup_steps) / max(1, self.num_steps - self.num_warmup_steps)
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * 0.5 * (
            1 + math.cos(math.pi * min(1.0, progress))
        )

    @property
    def trains_brain(self) -> bool:
        """True if any part of the brain moves; its pass then needs a gradient."""
        return any(part in BRAIN_PARTS for part in self.trains)

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that identify the stage's settings."""
        values = asdict(self)
        for each in fields(self):
            if each.name in _LATER_FIELDS and values[each.name] == each.default:
                del values[each.name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def xr0_posttrain(is_async: bool, num_steps: int = 30_000, batch_size: int = 128) -> Stage:
    """Post-training as the released code of Xiaomi-Robotics-0 does it (its configuration for one earbud task).

    The attention rule is the model config's: `band` with window 4 and offset 10 there.
    """
    asynchronous: dict[str, Any] = {"async_probability": 0.5, "max_prefix": 6, "hide_probability": 0.5}
    return Stage(
        name="posttrain_async" if is_async else "posttrain_sync",
        objective="flow",
        trains=("vision", "language", "cerebellum"),
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=1e-4,
        first_learning_rate=5e-7,
        final_learning_rate=5e-7,
        num_warmup_steps=2000,
        decay_rule="released",
        prefix_draw="batch",
        noise_in_unused_slots=True,
        **(asynchronous if is_async else {}),
    )
