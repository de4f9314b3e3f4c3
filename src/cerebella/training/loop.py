"""The one training loop: stages in, a trained model out; stops and resumes anywhere with the same numbers.

Every random draw is a function of (seed, stage, step), and the order of the windows a function of (seed, stage), so a
checkpoint holds weights and optimiser state only, and two half runs equal one whole run bit for bit.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from cerebella.models.vla import VLA
from cerebella.processing.processor import Processor
from cerebella.training.flow_objective import flow_objective
from cerebella.training.stages import Part, Stage
from cerebella.training.vision_objective import VisionHeads, vision_objective
from cerebella.types import Sample, SceneTruth

Precision = Literal["float32", "bfloat16"]


class WindowSource(Protocol):
    """Training windows that can be drawn by index; the same index always gives the same window."""

    def __len__(self) -> int: ...

    def samples(self, indices: np.ndarray) -> list[Sample]:
        """The windows at `indices`."""
        ...

    def truth(self, indices: np.ndarray) -> SceneTruth:
        """Where the objects are in their pictures; needed by the vision objective only."""
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How to run the stages, none of which changes what is learnt except `seed` and `precision`.

    Args:
        directory: for `checkpoint.pt` and `curves.jsonl`. save_every, log_every: steps.
        precision: `bfloat16` computes the forward pass in autocast; weights and optimiser stay float32.
        stop_after: stop (resumably) after so many steps in this call; None runs to the end.
    """

    directory: Path
    seed: int = 0
    precision: Precision = "float32"
    save_every: int = 500
    log_every: int = 20
    stop_after: int | None = None
    show_progress: bool = True


def run_stages(
    model: VLA,
    heads: VisionHeads,
    processor: Processor,
    sources: Sequence[WindowSource],
    stages: Sequence[Stage],
    config: LoopConfig,
) -> bool:
    """Train in place through all stages, from the checkpoint in `config.directory` if there is one.

    Args:
        sources: the windows of each stage.

    Returns:
        True when the last stage is finished; False when `stop_after` ended the call before.

    Raises:
        ValueError: the checkpoint belongs to other stages or another seed.
    """
    config.directory.mkdir(parents=True, exist_ok=True)
    start_stage, start_step, optimizer_state = _resume(model, heads, stages, config)
    num_left = config.stop_after
    for index in range(start_stage, len(stages)):
        stage = stages[index]
        modules = nn.ModuleDict({"model": model, "heads": heads})
        optimizer = make_optimizer(modules, stage)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        end = stage.num_steps if num_left is None else min(stage.num_steps, start_step + num_left)
        log = _Curve(config, stage, start_step)
        model.train()
        for step in log.steps(start_step, end):
            losses = _train_step(model, heads, processor, sources[index], stage, index, step, optimizer, config)
            log.record(step, losses, optimizer.param_groups[0]["lr"])
            if (step + 1) % config.save_every == 0:
                _save(model, heads, optimizer, stages, index, step + 1, config)
        if num_left is not None:
            num_left -= end - start_step
        if end < stage.num_steps or (num_left == 0 and index + 1 < len(stages)):
            _save(model, heads, optimizer, stages, index, end, config)
            return False
        _save(model, heads, None, stages, index + 1, 0, config)
        start_step, optimizer_state = 0, None
    model.eval()
    return True


def _train_step(
    model: VLA,
    heads: VisionHeads,
    processor: Processor,
    source: WindowSource,
    stage: Stage,
    stage_index: int,
    step: int,
    optimizer: torch.optim.Optimizer,
    config: LoopConfig,
) -> dict[str, float]:
    indices = draw_indices(len(source), stage.batch_size, step, (config.seed, stage_index))
    batch = processor.encode_samples(source.samples(indices))
    generator = torch.Generator().manual_seed(_seed(config.seed, stage_index, step))
    autocast = torch.autocast("cpu", torch.bfloat16) if config.precision == "bfloat16" else nullcontext()
    with autocast:
        if stage.objective == "vision":
            losses = vision_objective(model, heads, batch, source.truth(indices), processor.images)
        else:
            losses = flow_objective(model, batch, stage, generator)
    for group in optimizer.param_groups:
        group["lr"] = stage.learning_rate_at(step)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, stage.clip_norm)
    if not torch.isfinite(norm):
        raise FloatingPointError(
            f"stage {stage.name!r}, step {step}: the gradient norm is {norm.item()}; lower learning_rate "
            f"({stage.learning_rate}) or use precision='float32'"
        )
    optimizer.step()
    return {name: value.item() for name, value in losses.items()} | {"gradient_norm": norm.item()}


def make_optimizer(modules: nn.ModuleDict, stage: Stage) -> torch.optim.Optimizer:
    """AdamW over the stage's parts (the vision heads learn with the vision objective); freezes everything else."""
    decayed, undecayed = [], []
    for name, parameter in modules.named_parameters():
        learns = part_of(name) in stage.trains or (stage.objective == "vision" and name.startswith("heads."))
        parameter.requires_grad_(learns)
        if learns:
            is_exempt = parameter.ndim < 2 or any(key in name for key in ("norm", "adaln", "embed", "sink"))
            (undecayed if is_exempt else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": stage.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)


def part_of(name: str) -> Part | None:
    """The part of the model that a parameter of `{"model": VLA, "heads": ...}` belongs to; None for the heads."""
    if name.startswith("model.cerebellum."):
        return "cerebellum"
    if name.startswith("model.brain.model.visual."):
        return "vision"
    if "embed_tokens" in name or "lm_head" in name:
        return "embeddings"
    return "language" if name.startswith("model.brain.") else None


def draw_indices(num_windows: int, batch_size: int, step: int, seed: tuple[int, ...]) -> np.ndarray:
    """Indices of one step: epochs of a seeded permutation, int64[batch_size]; any step without the ones before it."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // num_windows
    drawn = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        order = _permutation(num_windows, int(epoch), seed)
        drawn[epochs == epoch] = order[positions[epochs == epoch] % num_windows]
    return drawn


_PERMUTATIONS: dict[tuple[int, int, tuple[int, ...]], np.ndarray] = {}


def _permutation(num_windows: int, epoch: int, seed: tuple[int, ...]) -> np.ndarray:
    """The order of one epoch; the newest two are kept."""
    key = (num_windows, epoch, seed)
    if key not in _PERMUTATIONS:
        while len(_PERMUTATIONS) > 1:
            del _PERMUTATIONS[next(iter(_PERMUTATIONS))]
        _PERMUTATIONS[key] = np.random.default_rng([*seed, epoch]).permutation(num_windows)
    return _PERMUTATIONS[key]


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big") >> 1


def _run_key(stages: Sequence[Stage], config: LoopConfig) -> str:
    fields = {"stages": [asdict(stage) for stage in stages], "seed": config.seed, "precision": config.precision}
    return json.dumps(fields, sort_keys=True)


def _save(
    model: VLA,
    heads: VisionHeads,
    optimizer: torch.optim.Optimizer | None,
    stages: Sequence[Stage],
    stage_index: int,
    step: int,
    config: LoopConfig,
) -> None:
    """Write beside and rename, so that a killed run always leaves a whole checkpoint."""
    path = config.directory / "checkpoint.pt"
    state: dict[str, object] = {
        "run": _run_key(stages, config),
        "stage": stage_index,
        "step": step,
        "model": model.state_dict(),
        "heads": heads.state_dict(),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
    }
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def _resume(
    model: VLA, heads: VisionHeads, stages: Sequence[Stage], config: LoopConfig
) -> tuple[int, int, dict[str, object] | None]:
    path = config.directory / "checkpoint.pt"
    if not path.is_file():
        return 0, 0, None
    state = torch.load(path, weights_only=True)
    if state["run"] != _run_key(stages, config):
        raise ValueError(
            f"{path} belongs to a run with other stages, seed or precision; choose another directory or delete it"
        )
    model.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    _forget_lost_steps(config.directory / "curves.jsonl", stages, state["stage"], state["step"])
    return state["stage"], state["step"], state["optimizer"]


def _forget_lost_steps(curves: Path, stages: Sequence[Stage], stage_index: int, step: int) -> None:
    """Drop the rows that a killed run wrote after its last checkpoint; those steps are about to be done again."""
    position = {stage.name: index for index, stage in enumerate(stages)}
    rows = [json.loads(line) for line in curves.read_text().splitlines()] if curves.is_file() else []
    kept = [row for row in rows if (position[row["stage"]], row["train_step"]) <= (stage_index, step)]
    curves.write_text("".join(json.dumps(row) + "\n" for row in kept))


class _Curve:
    """Progress bar and `curves.jsonl` of one stage; averages over `log_every` steps."""

    def __init__(self, config: LoopConfig, stage: Stage, start_step: int) -> None:
        self.config, self.stage = config, stage
        self.pending: list[Mapping[str, float]] = []
        self.started_s, self.num_done = time.perf_counter(), 0
        self.path = config.directory / "curves.jsonl"
        self.bar = tqdm(
            total=stage.num_steps, initial=start_step, desc=stage.name, disable=not config.show_progress, mininterval=1
        )

    def steps(self, start: int, end: int) -> Iterator[int]:
        """Count from `start` to `end`, with the bar."""
        yield from range(start, end)
        self.bar.close()

    def record(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """Remember one step; write a line every `log_every` steps and at the end."""
        self.pending.append(losses)
        self.num_done += 1
        self.bar.update()
        if (step + 1) % self.config.log_every and step + 1 != self.stage.num_steps:
            return
        mean = {name: float(np.mean([row[name] for row in self.pending])) for name in losses}
        self.pending = []
        rate = self.num_done * self.stage.batch_size / (time.perf_counter() - self.started_s)
        self.bar.set_postfix(loss=f"{mean['loss']:.3f}", samples_per_s=f"{rate:.0f}")
        row = {"stage": self.stage.name, "train_step": step + 1, "learning_rate": learning_rate} | mean
        with self.path.open("a") as file:
            file.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}) + "\n")
