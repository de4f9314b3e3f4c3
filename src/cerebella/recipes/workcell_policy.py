"""A policy for one workcell task, from nothing: demonstrations, the vision warm-up, the three stages of the paper.

    demonstrations --> warmup_vision --> pretrain_brain --> pretrain_cerebellum --> posttrain_async
                                         actions, questions  brain rests             action prefixes

Each of the three is the stage that `cerebella train` offers for anybody's data, on a set as `cerebella data generate` writes it:
pictures, numbers, instructions and questions. Only the warm-up sees more than that. Every policy on the way stays, so that one
can ask each of them what it knows:

    <out>/data/                 demonstrations
    <out>/0-warmup_vision/ ...  one policy directory per stage; the last one is the policy
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cerebella.envs.workcell.tasks import make_task
from cerebella.recipes.fine_tune.options import FineTune, PosttrainAsync, PretrainBrain, PretrainCerebellum
from cerebella.recipes.fine_tune.run import fine_tune
from cerebella.recipes.workcell_set import COMPANION, EMBODIMENT, RECORDS, SENT
from cerebella.recipes.workcell_warmup import STAGE as WARMUP
from cerebella.recipes.workcell_warmup import WorkcellWarmup, warm_up


@dataclass(frozen=True)
class WorkcellPolicy:
    """A complete run; a killed one goes on where it was.

    Args:
        task: a workcell task, e.g. `workcell/belt`.
        out: see the module.
        preset: model size. horizon: rows of a chunk, 30 per second.
        episodes: demonstrations. render_px: height and width of their pictures; the policy wants the same size.
        disturb_m: how far commands miss, see `envs.workcell.disturbance`. randomisation: of the scene.
        warmup_steps, brain_steps, cerebellum_steps, async_steps: optimiser steps of the stages.
        batch_size: windows per step; with conversations a multiple of 6.
        vl_ratio: conversations per window of `pretrain_brain`; 0 leaves them out.
        max_prefix: longest action prefix, rows: the longest delay that the policy can be run at.
        seed: of the first demonstration, initial weights and every draw.
        device: `auto` takes a GPU if there is one. num_processes: that play demonstrations. num_threads: of a CPU.
    """

    task: str = "workcell/belt"
    out: Path = Path("outputs/policies/belt")
    preset: str = "micro"
    horizon: int = 30
    episodes: int = 300
    render_px: int = 96
    disturb_m: float = 0.01
    randomisation: str = "mild"
    warmup_steps: int = 2000
    brain_steps: int = 1200
    cerebellum_steps: int = 1200
    async_steps: int = 1200
    batch_size: int = 66
    vl_ratio: float = 1 / 6
    max_prefix: int = 8
    seed: int = 0
    device: str = "auto"
    num_processes: int = 2
    num_threads: int = 2
    save_every: int = 100
    show_progress: bool = True


def train(recipe: WorkcellPolicy) -> list[Path]:
    """Run (or continue) the recipe; returns the policy directory of every stage.

    Raises:
        ValueError: an unknown task, a number out of range, or a run in the same place that was begun with others.
    """
    from cerebella.recipes.workcell_attempt import (
        GenerationSettings,  # loads MuJoCo, which the list of recipes does not need
    )
    from cerebella.recipes.workcell_data import generate

    data = recipe.out / "data"
    settings = GenerationSettings(
        render_px=recipe.render_px,
        randomisation=recipe.randomisation,
        disturb_m=recipe.disturb_m,
        first_seed=recipe.seed,
    )
    generate(make_task(recipe.task), data, recipe.episodes, settings, recipe.num_processes)
    torch.set_num_threads(recipe.num_threads)
    made = [recipe.out / f"0-{WARMUP.name}"]
    if not is_policy(made[0]):
        warm_up(_warmup(recipe, data, made[0]))
    for options in stages(recipe, data, made[0]):
        if not is_policy(options.out):
            fine_tune(options)
        made.append(options.out)
    return made


def is_policy(directory: Path) -> bool:
    """Whether a stage is finished: its weights are written behind its checkpoints."""
    return (directory / "model.safetensors").is_file() and not (directory / "run").exists()


def stages(recipe: WorkcellPolicy, data: Path, start: Path) -> Sequence[FineTune]:
    """The three stages, each from the one before it; the first from `start`."""
    shared = {
        "data": (str(data),),
        "embodiment": (data / EMBODIMENT,),
        "sent_column": SENT if recipe.disturb_m else "",
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "device": recipe.device,
        "save_every": recipe.save_every,
        "show_progress": recipe.show_progress,
    }
    brain, cerebellum, posttrain = (
        recipe.out / f"{number}-{kind.recipe}"
        for number, kind in enumerate((PretrainBrain, PretrainCerebellum, PosttrainAsync), start=1)
    )
    talk = {"conversations": (str(data / COMPANION / RECORDS),), "vl_ratio": recipe.vl_ratio} if recipe.vl_ratio else {}
    return (
        PretrainBrain(
            start=str(start),
            out=brain,
            num_steps=recipe.brain_steps,
            learning_rate=1e-3,
            loser_weight=0.05,
            statistics="keep",
            **shared,
            **talk,
        ),
        PretrainCerebellum(
            start=str(brain), out=cerebellum, num_steps=recipe.cerebellum_steps, learning_rate=2e-3, **shared
        ),
        PosttrainAsync(
            start=str(cerebellum),
            out=posttrain,
            num_steps=recipe.async_steps,
            learning_rate=1e-3,
            flow_repeats=2,
            max_prefix=recipe.max_prefix,
            **shared,
        ),
    )


def _warmup(recipe: WorkcellPolicy, data: Path, out: Path) -> WorkcellWarmup:
    talk = WARMUP.num_conversations if recipe.vl_ratio else 0
    stage = replace(
        WARMUP,
        num_steps=recipe.warmup_steps,
        num_warmup_steps=min(WARMUP.num_warmup_steps, recipe.warmup_steps // 10),
        num_conversations=talk,
        language_weight=WARMUP.language_weight if talk else 0.0,
    )
    return WorkcellWarmup(
        data=data,
        out=out,
        preset=recipe.preset,
        horizon=recipe.horizon,
        stage=stage,
        seed=recipe.seed,
        device=recipe.device,
        num_threads=recipe.num_threads,
        save_every=recipe.save_every,
        show_progress=recipe.show_progress,
    )
