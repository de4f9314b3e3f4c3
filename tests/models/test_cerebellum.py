from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from cerebella.models.attention_mask import action_mask_between
from cerebella.models.cerebellum import rotary_frequencies, rotary_table
from cerebella.models.config import MASK_VARIANTS, ModelConfig
from cerebella.models.context import Context
from cerebella.models.vla import VLA

MakeModel = Callable[..., VLA]
MakeContext = Callable[..., Context]
MakeInputs = Callable[..., dict[str, Tensor]]


def _velocity(model: VLA, context: Context, inputs: dict[str, Tensor], prefix: list[int]) -> Tensor:
    return model.velocity(
        context,
        inputs["state"],
        inputs["actions"],
        torch.tensor([0.3, 0.8]),
        inputs["action_mask"],
        torch.tensor(prefix),
    )


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_attention_is_exactly_zero_outside_the_mask(
    variant: str,
    make_model: MakeModel,
    make_context: MakeContext,
    make_inputs: MakeInputs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights come out of the kernel that the model uses: attention to an identity matrix."""
    model = make_model(mask_variant=variant)
    context, prefix = make_context(model.config), [3, 5]
    attend = torch.nn.functional.scaled_dot_product_attention
    seen: list[Tensor] = []

    def probe(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
        identity = torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1)
        seen.append(attend(query, key, identity, attn_mask=attn_mask))
        return attend(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", probe)
    with torch.no_grad():
        _velocity(model, context, make_inputs(model.config), prefix)
    assert len(seen) == model.config.num_layers
    num_context = context.is_valid.shape[1]
    actions = action_mask_between(variant, 8, torch.tensor(prefix), model.config.mask_window)
    for weights in seen:
        assert weights.shape == (2, model.config.num_heads, 10, num_context + 10)
        sink, state, rows = weights[:, :, 0], weights[:, :, 1], weights[:, :, 2:, num_context + 2 :]
        assert sink[..., num_context + 1 :].eq(0).all()
        assert state[..., num_context + 2 :].eq(0).all()
        expected = actions[:, None].expand_as(rows)
        assert rows[~expected].eq(0).all()
        assert rows[expected].gt(0).all()
        to_context = weights[..., :num_context]
        valid = context.is_valid[:, None, None].expand_as(to_context)
        assert to_context[~valid].eq(0).all()
        assert to_context[valid].gt(0).all()
        assert weights[:, :, 2:, num_context : num_context + 2].gt(0).all()


def _reaches(model: VLA, context: Context, inputs: dict[str, Tensor], prefix: int, row: int) -> list[bool]:
    """Which action rows (as inputs) the velocity of `row` depends on, for sample 0."""
    actions = inputs["actions"].clone().requires_grad_()
    out = _velocity(model, context, inputs | {"actions": actions}, [prefix, prefix])
    (gradient,) = torch.autograd.grad(out[0, row].sum(), actions)
    assert gradient[1].eq(0).all(), "one sample leaked into another"
    return gradient[0].ne(0).any(dim=1).tolist()


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_one_layer_depends_on_exactly_what_it_may_see(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model(mask_variant=variant, num_layers=1)
    context = make_context(model.config)
    mask = action_mask_between(variant, 8, torch.tensor([3]), model.config.mask_window)[0]
    for seed in (2, 3):
        inputs = make_inputs(model.config, seed=seed)
        for row in range(3, 8):
            assert _reaches(model, context, inputs, 3, row) == mask[row].tolist()


def test_depth_relays_what_the_mask_cut(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    """A band of w rows reaches w rows further with every layer; independence of far rows is not claimed."""
    for num_layers in (1, 2, 3):
        model = make_model(mask_variant="band", mask_window=2, num_layers=num_layers)
        reached = _reaches(model, make_context(model.config), make_inputs(model.config), 1, 7)
        assert reached == [7 - row <= 2 * num_layers for row in range(8)]


def test_prefix_rows_have_no_velocity(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    velocity = _velocity(model, make_context(model.config), make_inputs(model.config), [0, 6])
    assert velocity[1, :6].eq(0).all()
    assert velocity[1, 6:].ne(0).all()
    assert velocity[0].ne(0).all()


def test_unused_action_slots_cannot_be_read(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    inputs["action_mask"][:, :, 3:] = 0
    changed = inputs["actions"].clone()
    changed[:, :, 3:] = 1e3
    assert torch.equal(
        _velocity(model, context, inputs, [2, 2]), _velocity(model, context, inputs | {"actions": changed}, [2, 2])
    )


def test_a_shared_context_head_equals_repeated_heads(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    grouped, plain = make_model(num_kv_heads=1), make_model(num_kv_heads=2)
    plain.cerebellum.load_state_dict(grouped.cerebellum.state_dict())
    context = make_context(grouped.config)
    repeated = replace(
        context,
        keys=[key.expand(-1, 2, -1, -1) for key in context.keys],
        values=[value.expand(-1, 2, -1, -1) for value in context.values],
    )
    inputs = make_inputs(grouped.config)
    torch.testing.assert_close(
        _velocity(grouped, context, inputs, [0, 3]), _velocity(plain, repeated, inputs, [0, 3]), rtol=0, atol=1e-6
    )


def test_rotation_equals_the_brains_on_three_equal_axes(make_config: Callable[..., ModelConfig]) -> None:
    config = make_config()
    text = Qwen3VLTextConfig(**config.brain["text_config"])
    positions = torch.tensor([[0, 1, 5, 300], [7, 8, 18, 511]])
    theirs = Qwen3VLTextRotaryEmbedding(text)(torch.zeros(1), positions[None].expand(3, -1, -1))
    frequencies = rotary_frequencies(config.head_dim, config.rope_theta)
    ours = rotary_table(positions, frequencies, torch.float32)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine[:, 0], other)


def test_the_offset_and_the_brains_length_matter(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    near, far = make_model(position_offset=0), make_model(position_offset=10)
    context, inputs = make_context(near.config), make_inputs(near.config)
    velocity = _velocity(near, context, inputs, [0, 3])
    assert not torch.allclose(velocity, _velocity(far, context, inputs, [0, 3]), atol=1e-4)
    moved = replace(context, last_position=context.last_position + torch.tensor([0, 9]))
    after = _velocity(near, moved, inputs, [0, 3])
    torch.testing.assert_close(after[0], velocity[0])
    assert not torch.allclose(after[1], velocity[1], atol=1e-4)
