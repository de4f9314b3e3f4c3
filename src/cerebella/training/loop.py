"""The one training loop: stages in, trained modules out; stops and resumes anywhere with the same numbers.

Every random draw is a function of (seed, stage, step), and so are the data, so a checkpoint holds weights and optimiser
state only, and two half runs equal one whole run bit for bit. The same loop runs in one process and, under torchrun, in
many (`parallel`).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from cerebella.models.dummy_image import with_dummy_image
from cerebella.models.vla import VLA
from cerebella.training.checkpoint import CheckpointStore
from cerebella.training.compiled import compiled_layers
from cerebella.training.logs import VALIDATION, Curve, Log, LogName, append_row, forget_lost_steps, open_logs
from cerebella.training.lora import add_adapters, merge_adapters
from cerebella.training.objectives import action_model_of, model_of
from cerebella.training.optimizer import RunningMean, make_optimizer, set_learning_rate
from cerebella.training.parallel import TrainedModules, World, mean_over_ranks, shard
from cerebella.training.sources import StepRequest, StepSource, TrainingBatch
from cerebella.training.stages import Stage
from cerebella.training.step import ALONE, Precision, autocast, train_on
from cerebella.training.validation import draw_chunk, validate

Recomputed = Literal["vision", "language"]


@dataclass(frozen=True)
class LoopConfig:
    """How to run the stages; only `seed`, `precision` and the adapters change what is learnt.

    Args:
        directory: for `checkpoints/`, `curves.jsonl` and whatever else is written down.
        precision: `bfloat16` computes in autocast, weights and optimiser stay float32; `pure_bfloat16` casts the
            weights, too (half the memory; small updates are lost).
        save_every, log_every: steps. keep: checkpoints that stay. saves_beside: save while training goes on.
        stop_after: stop (resumably) after so many steps in this call; None runs to the end.
        num_micro_batches: passes per step and process; gradients add up. Means over active entries are taken per pass, as
            they are per process; means over windows and tokens are those of the whole step.
        recompute: parts whose activations are computed again in the backward pass instead of being kept.
        lora_rank, lora_alpha: adapters in place of the brain's language weights, see `lora`; 0 is none.
        hybrid: see `parallel.shard`. compile_layers: see `compiled`; in one process.
        validate_every: steps between two looks at the held-out data; 0 is never.
        logs: beside `curves.jsonl`.
    """

    directory: Path
    seed: int = 0
    precision: Precision = "float32"
    save_every: int = 500
    log_every: int = 20
    keep: int = 2
    saves_beside: bool = False
    stop_after: int | None = None
    num_micro_batches: int = 1
    recompute: tuple[Recomputed, ...] = ()
    lora_rank: int = 0
    lora_alpha: float = 16.0
    hybrid: int | None = None
    compile_layers: bool = False
    validate_every: int = 0
    logs: tuple[LogName, ...] = ()
    show_progress: bool = True


def run_stages(
    modules: TrainedModules,
    sources: Sequence[StepSource],
    stages: Sequence[Stage],
    config: LoopConfig,
    held_out: Sequence[TrainingBatch] = (),
    world: World = ALONE,
) -> bool:
    """Train in place through all stages, from the newest checkpoint in `config.directory` if there is one.

    With several processes the modules are sharded, and stay so.

    Args:
        modules: see `objectives.trained_modules` and `touch_modules`. sources: the data of each stage. held_out: for validation, small.

    Returns:
        True when the last stage is finished; False when `stop_after` ended the call before.

    Raises:
        ValueError: not one source for each stage, the checkpoint belongs to other stages or another seed, or compiled
            layers in several processes.
        FloatingPointError: the loss or a gradient is no number any more.
    """
    if len(sources) != len(stages):
        raise ValueError(f"need one source for each stage; got {len(sources)} for {len(stages)}")
    if config.compile_layers and world.size > 1:
        raise ValueError(f"compile_layers works in one process; this run has {world.size}")
    config.directory.mkdir(parents=True, exist_ok=True)
    run = _Run(modules, sources, stages, config, [batch.to(world.device) for batch in held_out], world)
    with compiled_layers(action_model_of(modules)) if config.compile_layers else nullcontext():
        is_finished = run.to_the_end()
    if is_finished and config.lora_rank:
        merge_adapters(model_of(modules))
    modules.eval()
    return is_finished


class _Run:
    """What stays the same over all stages of one call."""

    def __init__(
        self,
        modules: TrainedModules,
        sources: Sequence[StepSource],
        stages: Sequence[Stage],
        config: LoopConfig,
        held_out: Sequence[TrainingBatch],
        world: World,
    ) -> None:
        self.modules, self.sources, self.stages, self.config = modules, sources, stages, config
        self.held_out, self.world = held_out, world
        if config.lora_rank:
            add_adapters(model_of(modules), config.lora_rank, config.lora_alpha, config.seed)
        if config.precision == "pure_bfloat16":
            modules.to(torch.bfloat16)
        if "vision" in config.recompute:
            model_of(modules).brain.model.visual.activation_checkpointing_enable({"use_reentrant": False})
        shard(modules, world, config.hybrid, recompute_language="language" in config.recompute)
        self.store = CheckpointStore(
            config.directory / "checkpoints", config.keep, config.saves_beside, run_settings(stages, config)
        )

    def to_the_end(self) -> bool:
        """See `run_stages`."""
        config, stages = self.config, self.stages
        newest = self.store.newest()
        first_stage = 0 if newest is None else int(newest["position"]["stage"])
        first_step = 0 if newest is None else int(newest["position"]["step"])
        if self.world.is_main:
            forget_lost_steps(config.directory, stages, first_stage, first_step)
        settings = run_settings(stages, config)
        logs = open_logs(config.logs, config.directory, settings) if self.world.is_main else []
        num_left, is_finished = config.stop_after, True
        if newest is not None and first_stage == len(stages):
            self.store.load(nn.ModuleDict({"trained": self.modules}), None)
        for index in range(first_stage, len(stages)):
            is_resumed = newest is not None and index == first_stage
            start, stage = first_step if is_resumed else 0, stages[index]
            end = stage.num_steps if num_left is None else min(stage.num_steps, start + num_left)
            self._stage(index, start, end, is_resumed, logs)
            num_left = None if num_left is None else num_left - (end - start)
            if end < stage.num_steps or (num_left == 0 and index + 1 < len(stages)):
                is_finished = False
                break
        for log in logs:
            log.close()
        self.store.wait()
        return is_finished

    def _stage(self, index: int, start: int, end: int, is_resumed: bool, logs: Sequence[Log]) -> None:
        """Steps `start` to `end` of one stage; leaves a checkpoint behind."""
        stage, config = self.stages[index], self.config
        optimizer = make_optimizer(self.modules, stage)
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state = nn.ModuleDict({"trained": self.modules})
        if is_resumed and start == 0:
            self.store.load(state, None)
        mean = RunningMean(trained, stage.ema_decay) if stage.ema_decay else None
        if mean is not None:
            state["mean"] = mean
        if is_resumed and start > 0:
            self.store.load(state, optimizer)
        self.modules.train()
        self._set_recompute(stage)
        directory = config.directory if self.world.is_main else None
        num_before = sum(stage.num_steps for stage in self.stages[:index])
        curve = Curve(directory, stage, start, num_before, config.log_every, config.show_progress, logs)
        for step in curve.steps(start, end):
            losses = self._step(index, step, optimizer)
            if mean is not None:
                mean.update(trained, step)
            curve.record(step, mean_over_ranks(losses, self.world), stage.learning_rate_at(step))
            done = step + 1
            if config.validate_every and (done % config.validate_every == 0 or done == stage.num_steps):
                self._validate(index, done, num_before, logs)
            if done < end and done % config.save_every == 0:
                self._save(state, optimizer, index, done)
        if end < stage.num_steps:
            self._save(state, optimizer, index, end)
            return
        if mean is not None:
            mean.write_to(trained)
        self._save(nn.ModuleDict({"trained": self.modules}), None, index + 1, 0)

    def _step(self, index: int, step: int, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """One optimiser step; what is logged of it."""
        stage, config, world = self.stages[index], self.config, self.world
        request = StepRequest(stage, step, (config.seed, index), world, config.num_micro_batches)
        batches = [self._placed(batch) for batch in self.sources[index].draw(request)]
        set_learning_rate(optimizer, stage.learning_rate_at(step))
        return train_on(self.modules, batches, stage, (*request.seed, step), optimizer, config.precision, world)

    def _placed(self, batch: TrainingBatch) -> TrainingBatch:
        """On the device; with a blank picture where many processes must go through the vision tower together."""
        batch = batch.to(self.world.device)
        model = None if batch.touch is not None else action_model_of(self.modules)
        if self.world.size == 1 or not isinstance(model, VLA):
            return batch
        config = model.config
        robot = None if batch.robot is None else with_dummy_image(batch.robot, config)
        language = None if batch.language is None else with_dummy_image(batch.language, config)
        return replace(batch, robot=robot, language=language)

    def _set_recompute(self, stage: Stage) -> None:
        """Layers that keep no cache recompute in the stock way; those that do, in the way of `models.kv_outputs`."""
        if "language" in self.config.recompute:
            language = model_of(self.modules).brain.model.language_model
            if stage.objective == "flow":
                language.activation_checkpointing_disable()
            else:
                language.activation_checkpointing_enable({"use_reentrant": False})

    def _validate(self, index: int, done: int, num_before: int, logs: Sequence[Log]) -> None:
        """A row in `validation.jsonl` and a picture; every process computes, one writes."""
        stage = self.stages[index]
        self.modules.eval()
        for number, batch in enumerate(self.held_out):
            with autocast(self.config.precision, self.world.device):
                seen = self.modules(partial(validate, self.modules, batch, stage, self.config.seed))
            row = seen.to_row()
            if not self.world.is_main or not row:
                continue
            append_row(
                self.config.directory / VALIDATION,
                {"stage": stage.name, "train_step": done, "held_out": number} | row,
            )
            path = self.config.directory / "chunks" / f"{stage.name}-{done:06d}-{number}.png"
            has_picture = draw_chunk(seen, path, f"{stage.name}, step {done}")
            for log in logs:
                numbers = {f"held_out_{number}/{k}": v for k, v in row.items() if isinstance(v, float)}
                log.numbers(numbers, num_before + done)
                if has_picture:
                    log.picture(f"held_out_{number}/chunk", path, num_before + done)
        self.modules.train()

    def _save(self, state: nn.ModuleDict, optimizer: torch.optim.Optimizer | None, index: int, step: int) -> None:
        self.store.save({"stage": index, "step": step}, state, optimizer, {})


def run_settings(stages: Sequence[Stage], config: LoopConfig) -> dict[str, Any]:
    """What a checkpoint must have been made with to be continued."""
    return {
        "stages": [asdict(stage) for stage in stages],
        "seed": config.seed,
        "precision": config.precision,
        "lora_rank": config.lora_rank,
        "lora_alpha": config.lora_alpha,
    }
