"""The step in bfloat16 on a CPU: attention written out is torch's attention, and takes its place only for gradients."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cerebella.training.optimizer import make_optimizer
from cerebella.training.sources import StepRequest
from cerebella.training.step import ALONE, WrittenOutAttention, attention, train_on
from tests.training.tiny import ALL_STAGES, SOURCES, fresh

CPU, GPU = torch.device("cpu"), torch.device("cuda")
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "scaled": {"scale": 0.3},
    "bool mask": {"attn_mask": torch.ones(6, 9, dtype=torch.bool).tril(2)},
    "float mask": {"attn_mask": torch.linspace(-2, 2, 54).view(6, 9)},
    "grouped heads": {"enable_gqa": True},
}


def inputs(num_kv_heads: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 6, 8), (2, num_kv_heads, 9, 8), (2, num_kv_heads, 9, 8))
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def attend(tensors: list[Tensor], options: dict[str, Any]) -> tuple[Tensor, ...]:
    query, key, value = tensors
    seen = F.scaled_dot_product_attention(query, key, value, **options)
    return seen, *torch.autograd.grad(seen.square().sum(), tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_written_out_attention_is_the_same_function(kind: str) -> None:
    tensors = inputs(2 if kind == "grouped heads" else 4)
    expected = attend(tensors, KINDS[kind])
    with WrittenOutAttention():
        found = attend(tensors, KINDS[kind])
    assert "Softmax" not in str(expected[0].grad_fn)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_without_a_gradient_the_fused_kernel_stays() -> None:
    query, key, value = (tensor.detach() for tensor in inputs())
    expected = F.scaled_dot_product_attention(query, key, value)
    with WrittenOutAttention(), torch.no_grad():
        assert torch.equal(F.scaled_dot_product_attention(query, key, value), expected)


def test_it_is_for_bfloat16_on_a_cpu() -> None:
    assert isinstance(attention("bfloat16", CPU), WrittenOutAttention)
    assert isinstance(attention("pure_bfloat16", CPU), WrittenOutAttention)
    assert not isinstance(attention("float32", CPU), WrittenOutAttention)
    assert not isinstance(attention("bfloat16", GPU), WrittenOutAttention)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's RMSNorm in autocast
@pytest.mark.parametrize("index", range(len(ALL_STAGES)))
def test_every_stage_loses_the_same_in_both_types(index: int) -> None:
    stage = ALL_STAGES[index]
    [batch] = SOURCES[index].draw(StepRequest(stage, 0, (0, index), ALONE))
    losses = {}
    for precision in ("float32", "bfloat16"):
        modules = fresh()
        losses[precision] = train_on(
            modules, [batch.to(CPU)], stage, (0, index, 0), make_optimizer(modules, stage), precision
        )
    assert losses["bfloat16"]["loss"] == pytest.approx(losses["float32"]["loss"], rel=0.05)
