"""A model of a few thousand parameters and a tiny training run on it, the same alone and in pieces."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cerebella.batch import NOT_COUNTED, Batch, VisionLanguageBatch
from cerebella.models import flow
from cerebella.models.brain import word_losses
from cerebella.models.config import ModelConfig, preset
from cerebella.models.dummy_image import with_dummy_image
from cerebella.models.vla import VLA
from cerebella.training.parallel import TrainedModules, World, accumulate, clip_gradients, mean_count, mean_over_ranks

ALONE = World(0, 1, torch.device("cpu"))
BATCH_SIZE, GRID, NUM_WORDS, PREFIX = 4, 4, 5, 2
START, END, IMAGE, VIDEO = 60, 61, 62, 63


def _config() -> ModelConfig:
    preset_brain = preset("micro").brain
    text = preset_brain["text_config"] | {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    vision = preset_brain["vision_config"] | {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 1,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
    }
    ids = {"vision_start_token_id": START, "vision_end_token_id": END, "image_token_id": IMAGE, "video_token_id": VIDEO}
    brain = {**preset_brain, **ids, "text_config": text, "vision_config": vision}
    sizes = {"hidden_size": 64, "num_layers": 2, "num_kv_heads": 2, "state_dim": 6, "action_dim": 5, "horizon": 6}
    return preset("micro", brain=brain, **sizes)


CONFIG = _config()


def modules(trains_brain: bool = True) -> TrainedModules:
    """Same weights every time. Token embeddings are frozen, as in post-training."""
    torch.manual_seed(0)
    model = VLA(CONFIG).train()
    model.brain.requires_grad_(trains_brain)
    model.brain.get_input_embeddings().weight.requires_grad_(False)
    return TrainedModules({"model": model, "heads": nn.ModuleDict({"score": nn.Linear(32, 1)})})


def vla(trained: TrainedModules) -> VLA:
    model = trained["model"]
    assert isinstance(model, VLA)
    return model


def adamw(trained: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.1)


def robot_batch(step: int, rows: slice) -> Batch:
    """Rows of the whole batch of a step: one picture and some words each, all of one length."""
    generator = torch.Generator().manual_seed(step % 2)
    head = torch.tensor([7, START, *[IMAGE] * (GRID // 2) ** 2, END]).expand(BATCH_SIZE, -1)
    input_ids = torch.cat([head, torch.randint(8, 60, (BATCH_SIZE, NUM_WORDS), generator=generator)], dim=1)
    pixels = torch.randn(BATCH_SIZE, GRID * GRID, 3 * 2 * 8 * 8, generator=generator)
    shape = (BATCH_SIZE, CONFIG.horizon, CONFIG.action_dim)
    ids = input_ids[rows]
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == IMAGE).long(),
        pixel_values=pixels[rows].flatten(0, 1),
        image_grid_thw=torch.tensor([[1, GRID, GRID]] * len(ids)),
        state=torch.randn(BATCH_SIZE, 1, CONFIG.state_dim, generator=generator)[rows],
        action_mask=torch.ones(shape)[rows],
        actions=torch.randn(shape, generator=generator)[rows],
    )


def text_batch(step: int, rows: slice) -> VisionLanguageBatch:
    """Conversations of which only the first two of a batch show a picture, with 1 to 4 counted words."""
    seen = robot_batch(step, rows)
    has_image = torch.arange(BATCH_SIZE)[rows] < BATCH_SIZE // 2
    labels = torch.full_like(seen.input_ids, NOT_COUNTED)
    for row, num in enumerate(torch.arange(1, BATCH_SIZE + 1)[rows].tolist()):
        labels[row, -num:] = seen.input_ids[row, -num:]
    ids = torch.where(has_image[:, None] | (seen.input_ids < START), seen.input_ids, 9)
    num_images = int(has_image.sum())
    assert seen.pixel_values is not None
    batch = VisionLanguageBatch(
        input_ids=ids,
        attention_mask=seen.attention_mask,
        mm_token_type_ids=(ids == IMAGE).long(),
        pixel_values=seen.pixel_values[: num_images * GRID * GRID] if num_images else None,
        image_grid_thw=torch.tensor([[1, GRID, GRID]] * num_images) if num_images else None,
        labels=labels,
    )
    return with_dummy_image(batch, CONFIG)


def flow_loss(trained: TrainedModules, step: int, rows: slice, trains_brain: bool) -> Tensor:
    """Velocity error, weighted by what the sampler makes of it; only rows 2 and 3 of a batch have a prefix to sample
    for, so with two ranks one of them samples and the other does not.
    """
    model = vla(trained)
    batch = robot_batch(step, rows)
    assert batch.actions is not None
    with torch.set_grad_enabled(trains_brain):
        context = model.encode(batch)
    generator = torch.Generator().manual_seed(1000 + step % 2)
    noise = torch.randn(BATCH_SIZE, *batch.actions.shape[1:], generator=generator)[rows]
    flow_time = torch.rand(BATCH_SIZE, generator=generator)[rows]
    prefix_length = torch.tensor([0, 0, PREFIX, PREFIX])[rows]
    noisy = flow.join_prefix(batch.actions, flow.interpolate(noise, batch.actions, flow_time), prefix_length)
    velocity = model.velocity(context, batch.state, noisy, flow_time, batch.action_mask, prefix_length)
    error = (velocity - flow.target_velocity(noise, batch.actions)).abs().mean(dim=(1, 2))
    if (chosen := prefix_length > 0).any():
        with torch.no_grad():
            sampled = model.sample(
                context.detach().take(chosen),
                batch.state[chosen],
                noise[chosen],
                batch.action_mask[chosen],
                batch.actions[chosen],
                prefix_length[chosen],
            )
        weight = torch.ones(len(error))
        weight[chosen] = (sampled - batch.actions[chosen]).abs().mean(dim=(1, 2))
        error = error * weight
    return error.mean()


def words_loss(trained: TrainedModules, step: int, rows: slice, world: World) -> Tensor:
    """Next words, mean over the counted ones of all ranks; every step touches the head as well."""
    losses, _ = word_losses(vla(trained).brain, text_batch(step, rows))
    return losses.sum() / mean_count(torch.tensor(len(losses)), world)


def train(
    trained: TrainedModules,
    world: World,
    kind: str,
    steps: range,
    optimizer: torch.optim.Optimizer | None = None,
    num_micro_batches: int = 1,
) -> list[float]:
    """Losses of the whole batch; `kind` is `flow`, `frozen` (flow on a frozen brain) or `words` (words and flow)."""
    optimizer = optimizer or adamw(trained)
    curve = []
    for step in steps:
        optimizer.zero_grad()
        total = 0.0
        for rows in micro_batches(world.share(BATCH_SIZE), num_micro_batches):

            def objective(step: int = step, rows: slice = rows) -> Tensor:
                loss = flow_loss(trained, step, rows, trains_brain=kind != "frozen")
                return loss + words_loss(trained, step, rows, world) if kind == "words" else loss

            loss = trained(objective) / num_micro_batches
            accumulate(trained, is_last=rows.stop == world.share(BATCH_SIZE).stop)
            loss.backward()
            total += loss.item()
        clip_gradients([p for p in trained.parameters() if p.requires_grad], max_norm=1.0)
        optimizer.step()
        curve.append(mean_over_ranks({"loss": total}, world)["loss"])
    return curve


def micro_batches(rows: slice, num: int) -> list[slice]:
    size = (rows.stop - rows.start) // num
    return [slice(start, start + size) for start in range(rows.start, rows.stop, size)]


def alone(kind: str, num_steps: int, prepare: Callable[[TrainedModules], Any] = lambda _: None) -> list[float]:
    trained = modules(trains_brain=kind != "frozen")
    prepare(trained)
    return train(trained, ALONE, kind, range(num_steps))
