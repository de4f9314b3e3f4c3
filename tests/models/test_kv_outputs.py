"""A layer that hands out its keys and values computes what it computed before, with and without recomputing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer

from cerebella.batch import Batch
from cerebella.models.kv_outputs import give_out_keys_and_values
from cerebella.models.vla import VLA


def gradients(model: VLA, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Keys and values, and what a loss that sees nothing else sends back."""
    model.train().zero_grad()
    context = model.encode(batch)
    sum((x.square().sum() for x in [*context.keys, *context.values]), torch.zeros(())).backward()
    return [*context.keys, *context.values], {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("recompute", [False, True])
def test_same_context_same_gradients(
    recompute: bool, make_model: Callable[..., VLA], make_batch: Callable[..., Batch]
) -> None:
    stock, model = make_model(), make_model()
    batch = make_batch(stock.config)
    seen: list[int] = []
    for layer in model.brain.model.language_model.layers:

        def wrap(layer: nn.Module) -> None:
            layer.register_forward_hook(lambda _, __, output: seen.append(len(output)))

        give_out_keys_and_values(_layer(layer), wrap, recompute)
    expected, expected_gradients = gradients(stock, batch)
    given, given_gradients = gradients(model, batch)
    assert seen == [3] * len(model.brain.model.language_model.layers), "hooks see stream, keys and values"
    assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
    assert given_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(given_gradients[name], gradient, rtol=1e-6, atol=1e-7)


def test_recomputing_keeps_less(make_model: Callable[..., VLA], make_batch: Callable[..., Batch]) -> None:
    def num_kept(recompute: bool) -> int:
        model = make_model()
        for layer in model.brain.model.language_model.layers:
            give_out_keys_and_values(_layer(layer), recompute=recompute)
        kept: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            context = model.train().encode(make_batch(model.config))
        assert context.keys[0].requires_grad
        return sum(kept.values())

    assert num_kept(True) < 0.6 * num_kept(False)


def test_a_filled_cache_is_continued(make_model: Callable[..., VLA]) -> None:
    """Generation: the second call must see the keys and values of the first."""
    stock, model = make_model(), make_model()
    for layer in model.brain.model.language_model.layers:
        give_out_keys_and_values(_layer(layer))
    streams = []
    for one in (stock, model):
        cache = DynamicCache()
        for ids in (torch.tensor([[1, 2, 3]]), torch.tensor([[4]])):
            with torch.no_grad():
                output = one.brain.model.language_model(input_ids=ids, past_key_values=cache, use_cache=True)
        streams.append(output.last_hidden_state)
        assert cache.get_seq_length() == 4
    assert torch.equal(*streams)


def test_twice_is_a_mistake(make_model: Callable[..., VLA]) -> None:
    layer = _layer(make_model().brain.model.language_model.layers[1])
    give_out_keys_and_values(layer)
    with pytest.raises(ValueError, match="layer 1 gives out its keys and values already"):
        give_out_keys_and_values(layer)


def _layer(layer: nn.Module) -> Qwen3VLTextDecoderLayer:
    assert isinstance(layer, Qwen3VLTextDecoderLayer)
    return layer
