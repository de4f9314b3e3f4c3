"""The trainings of the study: each a variation of `WorkcellPolicy` that shares with the default one all that can be shared.

<policy.out>/data, 0-warmup_vision      of all of them
<policy.out>/1-... 2-... 3-...          default
<runs>/rtc/2-... 3-...                  from the default's brain, under another attention rule
<runs>/no_talk/1-... 2-... 3-...        from the warmed-up brain
<runs>/no_choice/2-... 3-...            from the warmed-up brain, without the brain stage
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cerebella.policies.directory import read_policy_config
from cerebella.policies.stored import weights_hash
from cerebella.recipes.fine_tune.options import FineTune
from cerebella.recipes.fine_tune.run import fine_tune
from cerebella.recipes.workcell_policy import is_policy, stages, train
from cerebella.recipes.workcell_study.names import DEFAULT
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_warmup import STAGE as WARMUP
from cerebella.training.logs import CURVES

BRAIN = "1-pretrain_brain"


@dataclass(frozen=True)
class TrainingCost:
    """CPU seconds, about: the size `micro`, three pictures of 96 px, one core.

    Args:
        window: forward and backward through the whole model. conversation: likewise.
        frozen: share of `window` where the brain rests. demonstration: one, with pictures and questions.
    """

    window: float = 2.1 / 64
    conversation: float = 0.05
    frozen: float = 1 / 3
    demonstration: float = 7.5


COSTS = TrainingCost()


def variation(study: StudyWorkcell, training: str) -> Sequence[FineTune]:
    """The stages that are a training's own, in order.

    Raises:
        ValueError: an unknown training.
    """
    policy, shared = replace(study.policy, out=study.directory(training)), study.policy.out
    warmed_up = shared / f"0-{WARMUP.name}"
    if training == "no_talk":
        policy = replace(policy, vl_ratio=0.0)
    brain, cerebellum, posttrain = stages(policy, shared / "data", warmed_up)
    if training in (DEFAULT, "no_talk"):
        return brain, cerebellum, posttrain
    if training == "no_choice":
        return replace(cerebellum, start=str(warmed_up)), posttrain
    if training == "rtc":
        begun = replace(cerebellum, start=str(shared / BRAIN), mask_variant="causal")
        return begun, replace(posttrain, reweight_errors=False, hide_probability=0.0, sent_share=0.0)
    raise ValueError(f"unknown training {training!r}")


def final(study: StudyWorkcell, training: str) -> Path:
    """The policy directory that a training ends with."""
    return variation(study, training)[-1].out


def is_trained(study: StudyWorkcell, training: str) -> bool:
    """Whether that policy is there."""
    return is_policy(final(study, training))


def brains(study: StudyWorkcell, training: str) -> dict[str, Path]:
    """Stage -> the directory with the brain after it. Those that are the default's, or rested in their stage, are left out."""
    found = {f"0-{WARMUP.name}": study.policy.out / f"0-{WARMUP.name}"} if training == DEFAULT else {}
    own = [options.out for options in variation(study, training) if options.recipe != "pretrain_cerebellum"]
    return found | {path.name: path for path in own}


def run_training(study: StudyWorkcell, training: str) -> None:
    """Train what is missing of one training, or go on where it was killed. The others need the default one finished."""
    if training == DEFAULT:
        train(study.policy)
        return
    torch.set_num_threads(study.policy.num_threads)
    for options in variation(study, training):
        if not is_policy(options.out):
            fine_tune(options)


def describe(study: StudyWorkcell, training: str) -> dict[str, Any]:
    """What came out of a training, for its cell: stages with steps and last loss (mean of the last tenth), weights."""
    paths = [*brains(study, training).values(), *(options.out for options in variation(study, training))]
    made = []
    for path in sorted(set(paths)):
        rows = [json.loads(line) for line in (path / CURVES).read_text().splitlines()]
        last = [row["loss"] for row in rows[-max(1, len(rows) // 10) :]]
        made.append(
            {"stage": path.name, "num_steps": rows[-1]["train_step"], "last_loss": round(float(np.mean(last)), 4)}
        )
    config, _, _ = read_policy_config(final(study, training) / "config.json")
    return {"stages": made, "weights": weights_hash(final(study, training)), "mask_variant": config.mask_variant}


def training_cost_s(study: StudyWorkcell, training: str) -> float:
    """CPU seconds that a training's own stages are expected to take; the default one pays for data and warm-up."""
    policy, total = study.policy, 0.0
    if training == DEFAULT:
        talk = WARMUP.num_conversations if policy.vl_ratio else 0
        total += COSTS.demonstration * policy.episodes
        total += policy.warmup_steps * (WARMUP.batch_size * COSTS.window + talk * COSTS.conversation)
    for options in variation(study, training):
        num_conversations = policy.batch_size * (options.vl_ratio or 0.0)
        share = COSTS.frozen if options.recipe == "pretrain_cerebellum" else 1.0
        step_s = share * policy.batch_size * COSTS.window + num_conversations * COSTS.conversation
        total += options.num_steps * step_s
    return total
