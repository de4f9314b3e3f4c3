"""From nothing to the shipped `conveyor` policy: expert windows, three stages, a policy directory. The seed decides all."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table
from cerebella.recipes.pixel_stages import STAGES, PictureSource, make_processor, train_stages
from cerebella.recipes.policy_files import save_run, stage_records
from cerebella.training.loop import LoopConfig, Precision
from cerebella.training.stages import Stage

ConveyorSource = PictureSource
"""The conveyor's windows for the training loop are those of any task."""


@dataclass(frozen=True)
class ConveyorRecipe:
    """A complete run.

    Args:
        preset: model size, one of micro, nano, tiny, small, xr0.
        horizon: rows of a chunk.
        out: the policy directory to write.
        seed: decides windows, initial weights and every draw.
        num_windows: expert windows, 30 Hz.
        committed_share: share of the windows of prefix-conditioned stages whose first rows an older plan promised.
        precision: of the forward pass; weights and optimiser stay float32.
        num_threads: threads of the CPU.
        save_every: optimiser steps between two checkpoints.
        stop_after: end after so many optimiser steps; the next call continues.
        show_progress: draw a progress bar.
    """

    preset: str = "micro"
    horizon: int = 16
    out: Path = Path("outputs/policies/conveyor-micro")
    seed: int = 0
    num_windows: int = 200_000
    committed_share: float = 0.4
    precision: Precision = "bfloat16"
    num_threads: int = 2
    save_every: int = 250
    stop_after: int | None = None
    show_progress: bool = True
    stages: tuple[Stage, ...] = STAGES


def train(recipe: ConveyorRecipe) -> list[Path]:
    """Run (or continue) the recipe; returns the paths written.

    The run's checkpoints lie in `<out>/run/` until the policy is finished, so a killed run loses at most `save_every`
    steps.
    """
    torch.set_num_threads(recipe.num_threads)
    config = preset(recipe.preset, horizon=recipe.horizon).with_mask("lambda")
    windows = expert_windows(recipe.num_windows, recipe.horizon, seed=recipe.seed)
    max_prefix = max(stage.max_prefix for stage in recipe.stages)
    committed = windows
    if max_prefix:
        committed = expert_windows(
            recipe.num_windows,
            recipe.horizon,
            seed=recipe.seed + 1,
            committed_share=recipe.committed_share,
            max_delay=max_prefix,
        )
    processor = make_processor(config, CONVEYOR, windows)
    torch.manual_seed(recipe.seed)
    model = VLA(config)
    run = recipe.out / "run"
    loop = LoopConfig(
        directory=run,
        seed=recipe.seed,
        precision=recipe.precision,
        save_every=recipe.save_every,
        stop_after=recipe.stop_after,
        show_progress=recipe.show_progress,
    )
    shown = [committed if stage.max_prefix else windows for stage in recipe.stages]
    if not train_stages(model, processor, shown, recipe.stages, loop):
        return [path for path in (run / "checkpoints", run / "curves.jsonl") if path.exists()]
    records = stage_records(config, recipe.stages)
    paths = save_run(recipe.out, run, model, processor, records, describe(recipe), model_card(recipe, config))
    shutil.rmtree(run)
    return paths


def model_card(recipe: ConveyorRecipe, config: ModelConfig) -> str:
    """What the policy directory's README says."""
    stages = "\n".join(
        f"| `{stage.name}` | {', '.join(stage.trains)} | {stage.num_steps} | {stage.batch_size} | "
        f"{stage.max_prefix or 'none'} |"
        for stage in recipe.stages
    )
    return f"""# {recipe.out.name}

A {parameter_table(config).total / 1e6:.1f} M parameter vision-language-action policy (`{config.name}`: Qwen3-VL brain, DiT
cerebellum, attention rule `{config.mask_variant}`, horizon {config.horizon}) for the simulated task `dynamic/conveyor`:
pick the part that the instruction names from a moving belt, from one 96 x 64 camera picture, the gripper's pose and the
belt's encoder. Trained from nothing on {recipe.num_windows:,} windows of a scripted expert in simulation; it has never seen
a real robot and is of no use for one.

| stage | trains | steps | windows per step | longest action prefix |
|---|---|---|---|---|
{stages}

![loss curves](curves.png)

Train it again: `cerebella train conveyor --seed {recipe.seed} --out {recipe.out}`. Everything about the run is in
`recipe.json`; the losses are in `curves.jsonl`. How it does, at which delay and in which mode, is in `docs/LOG.md`.
License: Apache-2.0.
"""


def describe(recipe: ConveyorRecipe) -> dict[str, object]:
    """The recipe as JSON, without where it was run."""
    fields = asdict(replace(recipe, stop_after=None))
    del fields["out"], fields["show_progress"], fields["stop_after"]
    return {"recipe": "conveyor", **json.loads(json.dumps(fields))}
