"""Small policies that act from pictures, in the variants of `state_training`: is what the state vectors show true with a brain?

A base policy learns to see and to act without a prefix, once for each (task, seed); every variant goes on from its weights
as the last stage of the shipped recipe does.

    <directory>/<task>-<preset>-h<H>-base-seed<seed>/       a policy directory with the curves of its training
    <directory>/<task>-<preset>-h<H>-<variant>-seed<seed>/
    <directory>/....run/                                    what a killed training goes on from
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.windows import Windows
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table
from cerebella.policies.directory import load_policy
from cerebella.policies.vla_policy import VLAPolicy
from cerebella.processing.processor import Processor
from cerebella.recipes.pixel_stages import STAGES, make_processor, task_windows, train_stages
from cerebella.recipes.policy_files import save_run, stage_records
from cerebella.recipes.state_training import BASE, VARIANTS, Variant, is_finished
from cerebella.training.loop import LoopConfig, Precision
from cerebella.training.stages import Stage

PIXEL_VARIANTS = tuple(name for name, variant in VARIANTS.items() if not variant.roll_forward)
"""Of `VARIANTS`: a picture cannot be rolled forward."""
_BASE = Variant(uses_prefix=False)


@dataclass(frozen=True)
class PixelTraining:
    """One policy.

    Args:
        task: what it shall do. variant: a name of `PIXEL_VARIANTS`.
        seed: decides windows, initial weights and every draw.
        preset: model size. horizon: rows of a chunk.
        num_windows: expert windows, 30 Hz.
        warmup_steps, base_steps, variant_steps: optimiser steps of `warmup_vision`, of `pretrain_cerebellum`, and of the
            variant behind them; all else about the stages is that of the shipped recipe.
        batch_size: windows per step.
        max_prefix: longest prefix, rows; below the horizon.
        precision: of the forward pass; weights and optimiser stay float32.
        num_threads: of the CPU. save_every: steps between two checkpoints.
        stop_after: end after so many steps; the next call continues.

    Raises:
        ValueError: an unknown variant, or a prefix that fills a chunk.
    """

    task: Task[Any]
    variant: str
    seed: int = 0
    preset: str = "micro"
    horizon: int = 16
    num_windows: int = 100_000
    warmup_steps: int = 1500
    base_steps: int = 800
    variant_steps: int = 800
    batch_size: int = 64
    max_prefix: int = 8
    precision: Precision = "bfloat16"
    num_threads: int = 1
    save_every: int = 250
    stop_after: int | None = None

    def __post_init__(self) -> None:
        if self.variant not in PIXEL_VARIANTS:
            raise ValueError(f"unknown variant {self.variant!r}; known with pictures: {', '.join(PIXEL_VARIANTS)}")
        if not 1 <= self.max_prefix < self.horizon:
            raise ValueError(f"max_prefix must be in 1..{self.horizon - 1} (rows); got {self.max_prefix}")

    def path(self, what: str) -> str:
        """The name of one of its directories: that of a variant, or of `base`."""
        task = self.task.name.removeprefix("dynamic/")
        return f"{task}-{self.preset}-h{self.horizon}-{what}-seed{self.seed}"


def train_pixel_policy(training: PixelTraining, directory: Path) -> VLAPolicy | None:
    """Train the base if nobody has, then the variant; what is finished is loaded, what was killed continues.

    Two processes must not train one base at the same time.

    Returns:
        The policy; None when `stop_after` ended the call before it was finished.
    """
    torch.set_num_threads(training.num_threads)
    out, base_out = directory / training.path(training.variant), directory / training.path(BASE)
    if is_finished(out):
        return load_policy(out)
    if not is_finished(base_out):
        torch.manual_seed(training.seed)
        model, windows = VLA(model_config(training, _BASE)), _windows(training, _BASE)
        processor = make_processor(model.config, training.task.embodiment, windows)
        if not _run(training, BASE, model, processor, windows, base_stages(training), base_out):
            return None
    start, variant = load_policy(base_out), VARIANTS[training.variant]
    assert isinstance(start.model, VLA)
    model = VLA(model_config(training, variant))
    model.load_state_dict(start.model.state_dict())
    windows = _windows(training, variant)
    if not _run(training, training.variant, model, start.processor, windows, [variant_stage(training)], out):
        return None
    return load_policy(out)


def model_config(training: PixelTraining, variant: Variant) -> ModelConfig:
    """The model's geometry under the variant's attention rule."""
    geometry = preset(training.preset, horizon=training.horizon)
    return geometry.with_mask(variant.mask_variant, variant.window, variant.offset)


def base_stages(training: PixelTraining) -> list[Stage]:
    """`warmup_vision` and `pretrain_cerebellum`, as long as the training says."""
    lengths = training.warmup_steps, training.base_steps
    return [_sized(stage, num_steps, training) for stage, num_steps in zip(STAGES[:2], lengths, strict=True)]


def variant_stage(training: PixelTraining) -> Stage:
    """The shipped recipe's last stage with the variant's own prefixes, hidden columns and weights of errors."""
    variant = VARIANTS[training.variant]
    return replace(
        _sized(STAGES[2], training.variant_steps, training),
        name="posttrain_async" if variant.uses_prefix else "posttrain_sync",
        async_probability=0.5 if variant.uses_prefix else 0.0,
        max_prefix=training.max_prefix if variant.uses_prefix else 0,
        hide_probability=variant.hide_probability,
        reweight_errors=variant.reweight,
    )


def _sized(stage: Stage, num_steps: int, training: PixelTraining) -> Stage:
    num_warmup_steps = min(stage.num_warmup_steps, num_steps // 8)
    return replace(stage, num_steps=num_steps, batch_size=training.batch_size, num_warmup_steps=num_warmup_steps)


def _windows(training: PixelTraining, variant: Variant) -> Windows[Any]:
    """Without stale prefixes, those of the base."""
    return task_windows(
        training.task,
        training.num_windows,
        training.horizon,
        training.seed,
        variant.stale_share,
        training.max_prefix,
    )


def _run(
    training: PixelTraining,
    what: str,
    model: VLA,
    processor: Processor,
    windows: Windows[Any],
    stages: Sequence[Stage],
    out: Path,
) -> bool:
    """Train, then write the policy directory `out` as a whole; False if `stop_after` ended it before."""
    is_base, run, partial = what == BASE, out.with_name(f"{out.name}.run"), out.with_name(f"{out.name}.new")
    loop = LoopConfig(
        directory=run,
        seed=2 * training.seed + (0 if is_base else 1),
        precision=training.precision,
        save_every=training.save_every,
        stop_after=training.stop_after,
        show_progress=False,
    )
    if not train_stages(model, processor, [windows] * len(stages), stages, loop):
        return False
    # Others go on from the base, so none of its digits is lost. It was trained under another rule than a variant, whose
    # history therefore begins with its own stage; its recipe tells the rest.
    save_run(
        partial,
        run,
        model,
        processor,
        stage_records(model.config, stages),
        describe(training, what),
        _card(training, out.name, model.config, stages),
        torch.float32 if is_base else torch.bfloat16,
    )
    partial.replace(out)
    shutil.rmtree(run)
    return True


def describe(training: PixelTraining, what: str) -> dict[str, Any]:
    """All that made the base or the variant, as JSON, without where and how fast it was run."""
    skipped = {"task", "variant", "num_threads", "save_every", "stop_after"}
    said: dict[str, Any] = {"recipe": "pixel-training", "task": training.task.name, "variant": what}
    stages = base_stages(training)
    if what == BASE:
        skipped.add("variant_steps")
    else:
        said["rule"] = asdict(VARIANTS[what])
        stages.append(variant_stage(training))
    said |= {f.name: getattr(training, f.name) for f in fields(training) if f.name not in skipped}
    return json.loads(json.dumps(said | {"stages": [asdict(stage) for stage in stages]}))


def _card(training: PixelTraining, name: str, config: ModelConfig, stages: Sequence[Stage]) -> str:
    steps = ", ".join(f"`{stage.name}` {stage.num_steps}" for stage in stages)
    return f"""# {name}

A {parameter_table(config).total / 1e6:.1f} M parameter vision-language-action policy (`{config.name}`, attention rule
`{config.mask_variant}`, offset {config.position_offset}, horizon {config.horizon}) for the simulated task
`{training.task.name}`, one of those that a study compares. Steps of {training.batch_size} windows: {steps}. It has never seen a
real robot and is of no use for one. `recipe.json` has all settings. License: Apache-2.0.

![loss curves](curves.png)
"""
