"""Keys and values as outputs of a brain layer, so that gradients into the K/V cache meet FSDP2 and checkpointing.

The cerebellum's loss reaches the brain through the cache, which a stock layer fills by the way. FSDP2 gathers the
weights of a layer for the backward pass when the gradient of one of the layer's *outputs* arrives, so it would miss a
gradient that comes through the cache alone, and a recomputing layer would fill the cache twice. Here a layer keeps its
keys and values to itself, hands them out beside the stream, and only behind all other hooks do they enter the cache:

    Qwen3VLTextModel -> layer( FSDP2 hooks( [recompute]( attention, MLP ) ) -> stream, keys, values ) -> cache

Nobody outside the layer sees a difference, and `brain.encode` needs no change.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer


def give_out_keys_and_values(
    layer: Qwen3VLTextDecoderLayer, wrap: Callable[[nn.Module], object] | None = None, recompute: bool = False
) -> None:
    """Make keys and values outputs of a layer, in place; the numbers stay the same.

    A call that continues a filled cache (generation) and a call without a cache run as before.

    Args:
        wrap: called with the layer (usually `fully_shard`); hooks that it adds see `(stream, keys, values)`.
        recompute: forget the activations of a cached training call and compute them again in the backward pass.

    Raises:
        ValueError: the layer gives them out already.
    """
    if "forward" in vars(layer):
        raise ValueError(f"layer {layer.self_attn.layer_idx} gives out its keys and values already")
    vars(layer)["forward"] = functools.partial(_forward, layer, recompute)
    if wrap is not None:
        wrap(layer)
    layer.register_forward_hook(_fill_cache, with_kwargs=True)


class _Written:
    """Stands in for a cache inside one layer."""

    def __init__(self) -> None:
        self.states: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        # The values are a view of the projection's output; FSDP2 warns about outputs that are views.
        self.states = keys, values.clone()
        return self.states


def _forward(
    layer: Qwen3VLTextDecoderLayer,
    recompute: bool,
    hidden_states: Tensor,
    past_key_values: Cache | None = None,
    **kwargs: Any,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    stock: Callable[..., Tensor] = type(layer).forward
    if past_key_values is None or past_key_values.get_seq_length(layer.self_attn.layer_idx):
        return stock(layer, hidden_states, past_key_values=past_key_values, **kwargs)

    def run(hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        written = _Written()
        stream = stock(layer, hidden_states, past_key_values=written, **kwargs)
        assert written.states is not None, "Transformers' own checkpointing switches the cache off before it comes here"
        return stream, *written.states

    if recompute and layer.training:
        given = checkpoint(run, hidden_states, use_reentrant=False)
        assert isinstance(given, tuple)
        return given
    return run(hidden_states)


def _fill_cache(
    layer: nn.Module, _: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor | tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    if isinstance(output, Tensor):
        return output
    assert isinstance(layer, Qwen3VLTextDecoderLayer)
    stream, keys, values = output
    kwargs["past_key_values"].update(keys, values, layer.self_attn.layer_idx)
    return stream
