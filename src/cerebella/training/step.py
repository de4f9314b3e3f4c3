"""One optimiser step on given data: losses, backward pass, clipping, AdamW. The loop draws, logs and saves around it."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cerebella.training.objectives import step_losses
from cerebella.training.parallel import TrainedModules, World, accumulate, clip_gradients, mean_count
from cerebella.training.sources import TrainingBatch
from cerebella.training.stages import Stage

Precision = Literal["float32", "bfloat16", "pure_bfloat16"]
ALONE = World(0, 1, torch.device("cpu"))


def train_on(
    modules: TrainedModules,
    batches: Sequence[TrainingBatch],
    stage: Stage,
    seed: tuple[int, ...],
    optimizer: torch.optim.Optimizer,
    precision: Precision = "float32",
    world: World = ALONE,
) -> dict[str, float]:
    """Move the weights once; what is logged of it.

    Args:
        batches: the micro-batches of this process, on its device.
        seed: (run seed, stage index, step), decides every draw.
        optimizer: of the stage, at the step's learning rate.
        precision: as in `LoopConfig`.

    Raises:
        FloatingPointError: a gradient is no number any more.
    """
    num_windows = sum(batch.num_windows for batch in batches)
    num_tokens = None
    if any(batch.language is not None for batch in batches):
        count = sum(batch.language.num_counted for batch in batches if batch.language is not None)
        num_tokens = mean_count(torch.tensor(count, device=world.device), world)
    optimizer.zero_grad(set_to_none=True)
    total: dict[str, Tensor] = {}
    with attention(precision, world.device):
        for position, batch in enumerate(batches):
            accumulate(modules, is_last=position + 1 == len(batches))
            share = batch.num_windows / num_windows if num_windows else 0.0
            with autocast(precision, world.device):
                losses = modules(partial(step_losses, modules, batch, stage, seed, share, num_tokens))
            losses["loss"].backward()
            for name, value in losses.items():
                total[name] = total[name] + value.detach() if name in total else value.detach()
    norm = clip_gradients([p for group in optimizer.param_groups for p in group["params"]], stage.clip_norm)
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"stage {stage.name!r}, step {seed[-1]}: the gradient norm is {norm}; lower learning_rate "
            f"({stage.learning_rate}) or use precision='float32'"
        )
    optimizer.step()
    return {name: value.item() for name, value in total.items()} | {"gradient_norm": norm}


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 on float32 weights, or in the weights' own type."""
    if precision != "bfloat16":
        yield
        return
    with warnings.catch_warnings(), torch.autocast(device.type, torch.bfloat16):
        # A norm takes bfloat16 with float32 weights here; that this is not the fastest way is no news to anybody.
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
        yield


def attention(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Which attention takes part in a step, forwards and backwards: torch's own, or `WrittenOutAttention`."""
    is_slow = device.type == "cpu" and precision != "float32"
    return WrittenOutAttention() if is_slow else nullcontext()


class WrittenOutAttention(TorchFunctionMode):
    """Inside, `scaled_dot_product_attention` is two products and a softmax wherever a gradient will be taken.

    On a CPU in bfloat16 the backward pass of torch's fused kernel takes five to ten times as long as theirs at the lengths
    of small models (`bench/training_step.py`). Forwards the fused kernel is the fast one: without a gradient it stays.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention and torch.is_grad_enabled():
            return _attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `torch.nn.functional.scaled_dot_product_attention` computes, softmax in float32."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value))
    scores = (query @ key.transpose(-2, -1)).float() * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return F.dropout(scores.softmax(dim=-1).to(value.dtype), dropout_p) @ value
