"""Small policies that act from state vectors, in every variant of asynchronous post-training: for studies on a CPU.

A base policy learns to act without a prefix, once for each (task, horizon, seed); every variant goes on from its weights.

    <directory>/<task>-h<H>-base-seed<seed>/       a `StatePolicy` directory with the curves of its training
    <directory>/<task>-h<H>-<variant>-seed<seed>/
    <directory>/<task>-h<H>-windows-seed<seed>.npz and ...-stale-windows-...: expert windows, made once
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cerebella.batch import Batch
from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.windows import expert_windows
from cerebella.interfaces import PolicyMetadata
from cerebella.models.config import MaskVariant, ModelConfig
from cerebella.models.state_model import StateModel, state_config
from cerebella.policies.state_policy import StatePolicy, told_how_far
from cerebella.processing.actions import rolled_forward, to_relative
from cerebella.processing.motion import MotionProcessor, batch_without_scene
from cerebella.processing.statistics import measure_statistics
from cerebella.training.held_source import Held
from cerebella.training.logs import CURVES
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.stages import Stage, StageName
from cerebella.types import FloatArray

BASE = "base"
STATE_DIM, ACTION_DIM = 33, 32
"""Padded widths: as in every preset, and one slot of the state for `told_how_far`. The last layer of the model is as wide
inside as its output: with a narrow one it learns next to nothing."""


@dataclass(frozen=True)
class Variant:
    """How a policy learns to be run asynchronously.

    Args:
        mask_variant, window, offset: the attention rule, see `models.attention_mask`.
        hide_probability: of a prefix column. reweight: weigh errors behind a prefix by the sampler's own.
        uses_prefix: half of the windows show a clean prefix of 1..max_prefix rows.
        stale_share: share of windows whose first rows were promised by a plan from an older observation.
        roll_forward: no prefix, but a state that has been moved to the end of one (see `StatePolicy`).
    """

    mask_variant: MaskVariant = "causal"
    window: int = 4
    offset: int = 0
    hide_probability: float = 0.0
    reweight: bool = False
    uses_prefix: bool = True
    stale_share: float = 0.0
    roll_forward: bool = False


_PAPER = Variant("lambda", offset=10, hide_probability=0.5, reweight=True)
VARIANTS: Mapping[str, Variant] = {
    "sync": Variant(uses_prefix=False),
    "clean": Variant(),
    "offset": Variant(offset=10),
    "band": Variant("band"),
    "lambda": Variant("lambda"),
    "hide": Variant(hide_probability=0.5),
    "reweight": Variant(reweight=True),
    "all": _PAPER,
    "released": replace(_PAPER, mask_variant="band"),
    "stale": Variant(stale_share=0.4),
    "all_stale": replace(_PAPER, stale_share=0.4),
    "band_stale": Variant("band", stale_share=0.4),
    "roll_forward": Variant(uses_prefix=False, roll_forward=True),
}
"""`sync`: the base for as many steps more. `clean`: training-time real-time chunking. `all`: the tricks of the
Xiaomi-Robotics-0 paper together. `released`: what its released code does. `stale`, `all_stale`, `band_stale`: prefixes as they are when
a plan was overtaken by events. Each of the others adds one trick to `clean`."""


@dataclass(frozen=True)
class StateTraining:
    """One policy.

    Args:
        task: what it shall do. horizon: rows of a chunk. variant: a name of `VARIANTS`.
        seed: decides windows, initial weights and every draw.
        num_windows: expert windows, 30 Hz.
        base_steps, variant_steps: optimiser steps of the base and of the variant behind it.
        batch_size: windows per step.
        base_rate, variant_rate: peak learning rates; a cosine takes them to 0.
        max_prefix: longest prefix, rows; below the horizon.
        width, num_layers, num_flow_steps: of the model.
        num_threads: of the CPU. save_every: steps between two checkpoints.
        stop_after: end after so many steps of the base, or of the variant, in one call; the next call continues.

    Raises:
        ValueError: an unknown variant, or a prefix that fills a chunk.
    """

    task: Task[Any]
    horizon: int
    variant: str
    seed: int = 0
    num_windows: int = 60_000
    base_steps: int = 2000
    variant_steps: int = 600
    batch_size: int = 64
    base_rate: float = 4e-3
    variant_rate: float = 2e-3
    max_prefix: int = 8
    width: int = 64
    num_layers: int = 3
    num_flow_steps: int = 5
    num_threads: int = 1
    save_every: int = 500
    stop_after: int | None = None

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"unknown variant {self.variant!r}; known variants: {', '.join(VARIANTS)}")
        if not 1 <= self.max_prefix < self.horizon:
            raise ValueError(f"max_prefix must be in 1..{self.horizon - 1} (rows); got {self.max_prefix}")

    def path(self, what: str) -> str:
        """The file name of one of its parts: a variant, `base`, or windows."""
        return f"{self.task.name.removeprefix('dynamic/')}-h{self.horizon}-{what}-seed{self.seed}"


def train_state_policy(training: StateTraining, directory: Path) -> StatePolicy | None:
    """Train the base if nobody has, then the variant; what is finished is loaded, what was killed continues.

    Two processes must not train one base at the same time.

    Returns:
        The policy; None when `stop_after` ended the call before it was finished.
    """
    torch.set_num_threads(training.num_threads)
    out = directory / training.path(training.variant)
    if is_finished(out):
        return StatePolicy.load(out)
    base_out = directory / training.path(BASE)
    if not is_finished(base_out):
        base = Variant(uses_prefix=False)
        torch.manual_seed(training.seed)
        processor = measure_processor(training, directory)
        model = StateModel(model_config(training, base))
        stage = _stage(training, base, "pretrain_cerebellum", training.base_steps, training.base_rate)
        if not _run(training, base, model, processor, stage, 2 * training.seed, directory, base_out):
            return None
    start, variant = StatePolicy.load(base_out), VARIANTS[training.variant]
    model = StateModel(model_config(training, variant))
    model.load_state_dict(start.model.state_dict())
    name = "posttrain_async" if variant.uses_prefix else "posttrain_sync"
    stage = _stage(training, variant, name, training.variant_steps, training.variant_rate)
    if not _run(training, variant, model, start.processor, stage, 2 * training.seed + 1, directory, out):
        return None
    return StatePolicy.load(out)


def is_finished(policy: Path) -> bool:
    """True if the directory holds a policy whose training has ended."""
    return (policy / "config.json").is_file()


def encoded_windows(training: StateTraining, variant: Variant, processor: MotionProcessor, directory: Path) -> Batch:
    """All windows of a run as the model sees them, with targets; each has `horizon` rows."""
    states, actions, committed = _windows(training, variant.stale_share, directory)
    horizon = training.horizon
    num_rolled = np.zeros(len(states), dtype=np.int64)
    if variant.roll_forward:
        states, actions, num_rolled = _behind_a_prefix(training, states, actions)
    actions = np.ascontiguousarray(actions[:, :horizon])
    targets = processor.encode_targets(states, actions, np.ones(actions.shape, dtype=np.bool_))
    targets = targets._replace(state=told_how_far(targets.state, torch.from_numpy(num_rolled)))
    return batch_without_scene(**targets._asdict(), prefix_length=torch.from_numpy(committed.astype(np.int64)))


def _behind_a_prefix(
    training: StateTraining, states: FloatArray, actions: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Windows that begin 0..max_prefix rows later, seen from where those rows will leave the robot; how many rows."""
    generator = np.random.default_rng([training.seed, training.horizon])
    shift = generator.integers(0, training.max_prefix + 1, len(states))
    rows = shift[:, None] + np.arange(training.horizon)
    last = np.take_along_axis(actions, np.maximum(shift - 1, 0)[:, None, None], axis=1)[:, 0]
    moved = rolled_forward(training.task.state_embodiment, states, last)
    seen = np.where((shift > 0)[:, None], moved, states).astype(np.float32)
    return seen, np.take_along_axis(actions, rows[..., None], axis=1), shift


def _windows(
    training: StateTraining, stale_share: float, directory: Path
) -> tuple[FloatArray, FloatArray, NDArray[np.int32]]:
    """States, actions with `horizon + max_prefix` rows, and committed lengths; from the file if there is one."""
    kind = "windows" if not stale_share else "stale-windows"
    path = directory / f"{training.path(kind)}.npz"
    if not path.is_file():
        made = expert_windows(
            training.task,
            training.num_windows,
            training.horizon + training.max_prefix,
            training.seed,
            committed_share=stale_share,
            max_delay=training.max_prefix,
        )
        directory.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".new.npz")
        np.savez(partial, states=made.observed(False), actions=made.actions, committed=made.committed_length)
        partial.replace(path)
    with np.load(path) as stored:
        return stored["states"], stored["actions"], stored["committed"]


def measure_processor(training: StateTraining, directory: Path) -> MotionProcessor:
    """Statistics of the undisturbed windows: those of every variant."""
    robot = training.task.state_embodiment
    states, actions, _ = _windows(training, 0.0, directory)
    relative = to_relative(robot, actions[:, : training.horizon], states)
    is_fixed = [not dimension.relative for dimension in robot.actions]
    statistics = measure_statistics(relative, states, robot.name, robot.control_mode, is_fixed)
    return MotionProcessor(robot, statistics, training.horizon, STATE_DIM, ACTION_DIM)


def model_config(training: StateTraining, variant: Variant) -> ModelConfig:
    """The model's geometry and attention rule."""
    return state_config(
        STATE_DIM,
        ACTION_DIM,
        training.horizon,
        variant.mask_variant,
        variant.window,
        variant.offset,
        hidden_size=training.width,
        num_layers=training.num_layers,
        num_flow_steps=training.num_flow_steps,
    )


def _stage(training: StateTraining, variant: Variant, name: StageName, num_steps: int, rate: float) -> Stage:
    return Stage(
        name=name,
        objective="flow",
        trains=("cerebellum",),
        num_steps=num_steps,
        batch_size=training.batch_size,
        learning_rate=rate,
        num_warmup_steps=min(100, num_steps // 10),
        weight_decay=0.02,
        flow_repeats=1,
        async_probability=0.5 if variant.uses_prefix else 0.0,
        max_prefix=training.max_prefix if variant.uses_prefix else 0,
        hide_probability=variant.hide_probability,
        reweight_errors=variant.reweight,
        frequency_is_masked=True,
    )


def _run(
    training: StateTraining,
    variant: Variant,
    model: StateModel,
    processor: MotionProcessor,
    stage: Stage,
    seed: int,
    directory: Path,
    out: Path,
) -> bool:
    """Train in `<out>/run/`, then write the policy; False if `stop_after` ended it before."""
    run = out / "run"
    loop = LoopConfig(run, seed, save_every=training.save_every, stop_after=training.stop_after, show_progress=False)
    source = Held(encoded_windows(training, variant, processor, directory))
    if not run_stages(trained_modules(model), [source], [stage], loop):
        return False
    robot, config = processor.embodiment, model.config
    reads_prefix = variant.uses_prefix or variant.roll_forward
    metadata = PolicyMetadata(
        policy_id=out.name,
        embodiment=robot,
        horizon=config.horizon,
        mask_variant=config.mask_variant,
        max_trained_prefix=training.max_prefix if reads_prefix else 0,
        statistics_hash=processor.statistics.hash,
    )
    shutil.copyfile(run / CURVES, out / CURVES)
    StatePolicy(model, processor, metadata, roll_forward=variant.roll_forward).save(out)
    shutil.rmtree(run)
    return True
