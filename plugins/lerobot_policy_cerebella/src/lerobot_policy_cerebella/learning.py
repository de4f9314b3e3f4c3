"""The training side of the policy: LeRobot's batches to Cerebella's own flow objective."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor, nn

from cerebella.models.vla import VLA
from cerebella.processing.processor import Processor
from cerebella.training.flow_objective import draw_flow, flow_objective
from cerebella.training.optimizer import part_of
from cerebella.training.stages import Stage
from cerebella.types import Sample
from lerobot_policy_cerebella.configuration_cerebella import CerebellaConfig
from lerobot_policy_cerebella.features import FeatureMap, prompts_of
from lerobot_policy_cerebella.ranks import rank

UNDECAYED = ("norm", "adaln", "embed", "sink")
"""Weight decay spares them, and everything with fewer than two axes."""


def stage_of(config: CerebellaConfig, num_steps: int) -> Stage:
    """The training stage that the config describes.

    Raises:
        ValueError: a part is unknown, or a number out of range.
    """
    is_async = config.max_prefix > 0
    return Stage(
        name="posttrain_async" if is_async else "posttrain_sync",
        objective="flow",
        trains=tuple(config.trains),  # pyright: ignore[reportArgumentType] - Stage checks the names
        num_steps=max(1, num_steps),
        batch_size=1,
        learning_rate=config.optimizer_lr,
        final_learning_rate=config.scheduler_decay_lr,
        num_warmup_steps=config.scheduler_warmup_steps,
        weight_decay=config.optimizer_weight_decay,
        clip_norm=config.optimizer_grad_clip_norm,
        flow_repeats=config.flow_repeats,
        async_probability=config.async_probability if is_async else 0.0,
        max_prefix=config.max_prefix,
        hide_probability=config.hide_probability if is_async else 0.0,
        reweight_errors=config.reweight_errors,
    )


def samples_of(batch: Mapping[str, Any], features: FeatureMap, processor: Processor) -> list[Sample]:
    """One training window per row of a LeRobot batch.

    Raises:
        ValueError: a shape does not fit, or an instruction is missing.
    """
    robot = processor.embodiment
    states, actions = features.state.read(batch[OBS_STATE]), features.action.read(batch[ACTION])
    if actions.shape != (len(states), processor.horizon, robot.action_dim):
        raise ValueError(
            f"{ACTION} must be float[batch, {processor.horizon}, {features.action.num_entries}]; got {list(batch[ACTION].shape)}"
        )
    is_pad = batch.get("action_is_pad")
    is_real = np.ones(actions.shape[:2], dtype=np.bool_) if is_pad is None else ~is_pad.cpu().numpy().astype(np.bool_)
    return [
        Sample(
            images=images,
            state=state,
            prompt=prompt,
            actions=rows,
            is_valid=np.repeat(real[:, None], robot.action_dim, axis=1),
            robot_type=robot.name,
            control_mode=robot.control_mode,
        )
        for images, state, prompt, rows, real in zip(
            features.pictures(batch), states, prompts_of(batch, len(states)), actions, is_real, strict=True
        )
    ]


def losses(
    model: VLA, processor: Processor, samples: list[Sample], stage: Stage, seed: tuple[int, ...], first_window: int = 0
) -> Mapping[str, Tensor]:
    """The flow objective on samples, on the model's device; see `flow_objective`."""
    device = model.cerebellum.sink.weight.device
    batch = processor.encode_samples(samples, as_bytes=True).to(device)
    return flow_objective(model, batch, stage, draw_flow(stage, batch, seed, first_window).to(device))


def losses_of_each(
    model: VLA, processor: Processor, samples: list[Sample], stage: Stage, seed: tuple[int, ...]
) -> list[Mapping[str, Tensor]]:
    """The same for every sample by itself, with the noise that it has in the batch; one pass of the brain each."""
    return [losses(model, processor, [sample], stage, seed, position) for position, sample in enumerate(samples)]


def draw_seed() -> tuple[int, ...]:
    """A seed from torch's generator (which LeRobot seeds and stores), different on every rank."""
    return int(torch.randint(1 << 62, ())), rank()


def freeze_the_rest(model: VLA, stage: Stage) -> None:
    """Let the stage's parts learn, and nothing else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(f"model.{name}") in stage.trains)


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """What learns, in two groups: matrices, and what weight decay spares."""
    return [
        {"params": list(_learning(module, decays=True))},
        {"params": list(_learning(module, decays=False)), "weight_decay": 0.0},
    ]


def _learning(module: nn.Module, decays: bool) -> Iterator[nn.Parameter]:
    for name, parameter in module.named_parameters():
        is_matrix = parameter.ndim >= 2 and not any(word in name.lower() for word in UNDECAYED)
        if parameter.requires_grad and is_matrix == decays:
            yield parameter
