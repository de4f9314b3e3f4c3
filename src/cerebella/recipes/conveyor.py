"""From nothing to the shipped `conveyor` policy: expert windows, three stages, a policy directory.

Nothing is downloaded: tokenizer, statistics and weights are all made here, and the seed decides them.
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import COLOURS, CONVEYOR
from cerebella.envs.dynamic.conveyor_data import Windows, expert_windows
from cerebella.envs.dynamic.conveyor_prompts import all_prompts
from cerebella.models.config import ModelConfig, preset
from cerebella.models.vla import VLA, parameter_table
from cerebella.processing.actions import to_relative
from cerebella.processing.images import ImageConfig
from cerebella.processing.processor import Processor
from cerebella.processing.prompt import robot_prompt
from cerebella.processing.statistics import measure_statistics
from cerebella.processing.tokenizer import train_tokenizer
from cerebella.recipes.policy_files import save_run, stage_records
from cerebella.training.loop import LoopConfig, Precision, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage
from cerebella.training.vision_objective import VisionHeads
from cerebella.types import Sample, SceneTruth

STAGES = (
    Stage(
        name="warmup_vision",
        objective="vision",
        trains=("vision", "language", "embeddings"),
        num_steps=1500,
        batch_size=64,
        learning_rate=1.5e-3,
        weight_decay=0.02,
    ),
    Stage(
        name="pretrain_cerebellum",
        objective="flow",
        trains=("cerebellum",),
        num_steps=800,
        batch_size=64,
        learning_rate=2e-3,
        weight_decay=0.02,
    ),
    Stage(
        name="posttrain_async",
        objective="flow",
        trains=("vision", "language", "cerebellum"),
        num_steps=800,
        batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.02,
        flow_repeats=2,
        async_probability=0.5,
        max_prefix=6,
        hide_probability=0.5,
    ),
)


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
    config = preset(recipe.preset, horizon=recipe.horizon)
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
    sources = [
        Shuffled(ConveyorSource(committed if stage.max_prefix else windows), processor) for stage in recipe.stages
    ]
    torch.manual_seed(recipe.seed)
    model = VLA(config)
    modules = trained_modules(model, vision=VisionHeads(config.brain["text_config"]["hidden_size"], len(COLOURS) + 1))
    run = recipe.out / "run"
    loop = LoopConfig(
        directory=run,
        seed=recipe.seed,
        precision=recipe.precision,
        save_every=recipe.save_every,
        stop_after=recipe.stop_after,
        show_progress=recipe.show_progress,
    )
    if not run_stages(modules, sources, recipe.stages, loop):
        return [path for path in (run / "checkpoints", run / "curves.jsonl") if path.exists()]
    records = stage_records(config, recipe.stages)
    paths = save_run(recipe.out, run, model, processor, records, describe(recipe), model_card(recipe, config))
    shutil.rmtree(run)
    return paths


@dataclass(frozen=True)
class ConveyorSource:
    """Expert windows as the training loop wants them; kinds of objects are the part colours and the gripper."""

    windows: Windows

    def __len__(self) -> int:
        return len(self.windows)

    def samples(self, indices: np.ndarray) -> list[Sample]:
        """Windows by index, pictures rendered now."""
        return self.windows.samples(indices)

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """Where the parts and the gripper are in the pictures of `samples`."""
        seen = self.windows.truth(indices)
        gripper = np.full((len(indices), 1), len(COLOURS))
        return SceneTruth(
            is_present=np.concatenate([seen.is_present, np.ones((len(indices), 1), dtype=np.bool_)], axis=1),
            class_index=np.concatenate([seen.colour, gripper], axis=1).astype(np.int64),
            pixel=np.concatenate([seen.part_uv, seen.gripper_uv[:, None]], axis=1),
            target_index=seen.target,
            num_classes=len(COLOURS) + 1,
        )


def make_processor(
    config: ModelConfig, embodiment: Embodiment, windows: Windows, tokenizer: Qwen2Tokenizer | None = None
) -> Processor:
    """Statistics from the windows; the tokenizer of a brain that exists, or one from the task's own sentences."""
    if tokenizer is None:
        vocab_size = config.brain["text_config"]["vocab_size"]
        tokenizer = train_tokenizer([robot_prompt(embodiment.views, prompt) for prompt in all_prompts()], vocab_size)
    states = windows.state.proprioception
    relative = to_relative(embodiment, windows.actions, states)
    statistics = measure_statistics(
        relative,
        states,
        embodiment.name,
        embodiment.control_mode,
        fixed_dimensions=[not dimension.relative for dimension in embodiment.actions],
    )
    return Processor(
        embodiment=embodiment,
        statistics=statistics,
        tokenizer=tokenizer,
        images=ImageConfig(patch_size=config.brain["vision_config"]["patch_size"]),
        horizon=config.horizon,
        model_state_dim=config.state_dim,
        model_action_dim=config.action_dim,
    )


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
