from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models import brain, flow
from cerebella.models.config import MASK_VARIANTS
from cerebella.models.context import Context
from cerebella.models.vla import VLA

MakeModel = Callable[..., VLA]
MakeContext = Callable[..., Context]
MakeInputs = Callable[..., dict[str, Tensor]]
MakeBatch = Callable[..., Batch]


def _noise(model: VLA, batch_size: int = 2, seed: int = 9) -> Tensor:
    shape = (batch_size, model.config.horizon, model.config.action_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _sample(model: VLA, context: Context, inputs: dict[str, Tensor], lengths: list[int], prefix: Tensor) -> Tensor:
    with torch.no_grad():
        return model.sample(
            context,
            inputs["state"],
            _noise(model, len(lengths)).to(prefix.dtype),
            inputs["action_mask"],
            prefix,
            torch.tensor(lengths),
        )


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_prefix_rows_come_out_bit_for_bit(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model(mask_variant=variant)
    context, inputs = make_context(model.config), make_inputs(model.config)
    for length in range(model.config.horizon):
        sampled = _sample(model, context, inputs, [length, length // 2], inputs["actions"])
        assert sampled.isfinite().all()
        assert torch.equal(sampled[0, :length], inputs["actions"][0, :length])
        assert torch.equal(sampled[1, : length // 2], inputs["actions"][1, : length // 2])
        assert not torch.isclose(sampled[0, length:], inputs["actions"][0, length:]).any()


def test_a_prefix_as_long_as_the_chunk_is_refused(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"0\.\.7 \(rows of 8\); got \[8, 0\]"):
        _sample(model, make_context(model.config), make_inputs(model.config), [8, 0], torch.zeros(2, 8, 5))


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_an_empty_prefix_is_no_prefix_bit_for_bit(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model(mask_variant=variant)
    context, inputs = make_context(model.config), make_inputs(model.config)
    with torch.no_grad():
        plain = model.sample(context, inputs["state"], _noise(model), inputs["action_mask"])
    assert torch.equal(plain, _sample(model, context, inputs, [0, 0], torch.full((2, 8, 5), 1e6)))


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_what_lies_beyond_the_prefix_is_not_read(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model(mask_variant=variant)
    context, inputs = make_context(model.config), make_inputs(model.config)
    lengths = [1, 4]
    is_noisy = flow.rows_are_noisy(torch.tensor(lengths), 8)
    zeros, garbage = (inputs["actions"].masked_fill(is_noisy, value) for value in (0.0, float("nan")))
    assert torch.equal(
        _sample(model, context, inputs, lengths, zeros), _sample(model, context, inputs, lengths, garbage)
    )


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_a_batch_of_prefixes_equals_one_by_one(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model(mask_variant=variant)
    context, inputs, lengths = make_context(model.config, 4), make_inputs(model.config, 4), [0, 2, 5, 7]
    together = _sample(model, context, inputs, lengths, inputs["actions"])
    noise = _noise(model, 4)
    for b, length in enumerate(lengths):
        one = slice(b, b + 1)
        alone = Context(
            [key[one] for key in context.keys],
            [value[one] for value in context.values],
            context.is_valid[one],
            context.last_position[one],
        )
        with torch.no_grad():
            sampled = model.sample(
                alone,
                inputs["state"][one],
                noise[one],
                inputs["action_mask"][one],
                inputs["actions"][one],
                torch.tensor([length]),
            )
        torch.testing.assert_close(sampled[0], together[b], rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [1, 3, 7])
def test_later_rows_move_continuously_with_the_prefix(
    length: int, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model().double()
    inputs = {name: tensor.double() for name, tensor in make_inputs(model.config).items()}
    context = make_context(model.config)
    context = replace(context, keys=[k.double() for k in context.keys], values=[v.double() for v in context.values])

    def moved(step: float) -> Tensor:
        prefix = inputs["actions"].clone()
        prefix[:, length - 1] += step
        return _sample(model, context, inputs, [length, length], prefix)[:, length:]

    still = moved(0.0)
    slopes = [(moved(step) - still).abs().max().item() / step for step in (1e-3, 1e-4)]
    assert slopes[0] > 0
    assert slopes[0] == pytest.approx(slopes[1], rel=0.05)


def test_scene_and_state_reach_every_noisy_row(
    make_model: MakeModel, make_batch: MakeBatch, make_inputs: MakeInputs
) -> None:
    """Also behind a long prefix: no mask may cut the view of the scene."""
    model = make_model()
    batch = make_batch(model.config)
    inputs = make_inputs(model.config)
    assert batch.pixel_values is not None
    with torch.no_grad():
        context = model.encode(batch)
        words = batch.input_ids.clone()
        words[:, -4] += 1
        others = (
            model.encode(replace(batch, pixel_values=batch.pixel_values.flip(0))),
            model.encode(replace(batch, input_ids=words)),
        )
    reference = _sample(model, context, inputs, [6, 2], inputs["actions"])
    changed_state = inputs | {"state": inputs["state"] + 1}
    results = [_sample(model, other, inputs, [6, 2], inputs["actions"]) for other in others]
    results.append(_sample(model, context, changed_state, [6, 2], inputs["actions"]))
    for result in results:
        for b, length in enumerate((6, 2)):
            assert (result[b, length:] - reference[b, length:]).abs().amax(dim=1).gt(1e-6).all()


def test_padding_changes_nothing(make_model: MakeModel, make_batch: MakeBatch, make_inputs: MakeInputs) -> None:
    model = make_model()
    padded, alone = make_batch(model.config, (3, 9)), make_batch(model.config, (3,))
    assert padded.pixel_values is not None
    alone = replace(alone, pixel_values=padded.pixel_values[:16])
    with torch.no_grad():
        long, short = model.encode(padded), model.encode(alone)
    num_tokens = short.is_valid.shape[1]
    assert long.is_valid[0].sum() == num_tokens
    assert long.last_position[0] == short.last_position[0]
    for one, other in zip(long.keys + long.values, short.keys + short.values, strict=True):
        torch.testing.assert_close(one[:1, :, :num_tokens], other, rtol=0, atol=1e-5)
    inputs = make_inputs(model.config)
    first = {name: tensor[:1] for name, tensor in inputs.items()}
    with torch.no_grad():
        both = model.sample(long, inputs["state"], _noise(model), inputs["action_mask"])
        one = model.sample(short, first["state"], _noise(model)[:1], first["action_mask"])
    torch.testing.assert_close(both[:1], one, rtol=0, atol=1e-5)


def test_positions_count_image_rows_not_image_tokens(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(model.config, (3, 5), grid=8)
    positions = brain.position_ids(model.brain, batch)
    num_rows, num_image_tokens = 4, 16
    last = 1 + 1 + num_rows + 1 + 5 - 1
    assert positions.max().item() == last == batch.input_ids.shape[1] - 1 - num_image_tokens + num_rows
    with torch.no_grad():
        assert model.encode(batch).last_position.tolist() == [last - 2, last]


def test_a_brain_without_cameras_reads_text_only(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    words = torch.arange(10, 16)[None]
    batch = replace(
        make_batch(model.config, (3,)),
        input_ids=words,
        attention_mask=torch.ones_like(words),
        mm_token_type_ids=torch.zeros_like(words),
        pixel_values=None,
        image_grid_thw=None,
    )
    with torch.no_grad():
        context = model.encode(batch)
    assert len(context) == 1
    assert len(context.keys) == model.config.num_layers
    assert context.last_position.tolist() == [5]


def _gradients(model: VLA, batch: Batch, context: Context) -> dict[str, bool]:
    """Which parameters got a gradient other than 0."""
    assert batch.actions is not None
    model.zero_grad()
    times = torch.full((len(context),), 0.5)
    velocity = model.velocity(context, batch.state, batch.actions, times, batch.action_mask)
    velocity.square().sum().backward()
    return {name: p.grad is not None and bool(p.grad.ne(0).any()) for name, p in model.named_parameters()}


def test_gradients_reach_the_brain_through_the_cache(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model().train()
    batch = make_batch(model.config)
    reached = _gradients(model, batch, model.encode(batch))
    assert all(has for name, has in reached.items() if name.startswith("cerebellum."))
    for name in (
        "brain.model.visual.patch_embed.proj.weight",
        "brain.model.language_model.embed_tokens.weight",
        "brain.model.language_model.layers.0.mlp.down_proj.weight",
        "brain.model.language_model.layers.2.self_attn.k_proj.weight",
        "brain.model.language_model.layers.2.self_attn.v_proj.weight",
    ):
        assert reached[name], name


def test_gradients_stop_at_a_detached_context(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model().train()
    batch = make_batch(model.config)
    reached = _gradients(model, batch, model.encode(batch).detach())
    assert not any(has for name, has in reached.items() if name.startswith("brain."))
    assert all(has for name, has in reached.items() if name.startswith("cerebellum."))


def test_repeating_a_context_repeats_its_samples(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    repeated = {name: tensor.repeat_interleave(3, dim=0) for name, tensor in inputs.items()}
    once = model.velocity(context, inputs["state"], inputs["actions"], torch.ones(2) / 2, inputs["action_mask"])
    often = model.velocity(
        context.repeat_interleave(3), repeated["state"], repeated["actions"], torch.ones(6) / 2, repeated["action_mask"]
    )
    torch.testing.assert_close(often, once.repeat_interleave(3, dim=0), rtol=0, atol=2e-6)


def test_gradient_checkpointing_of_the_language_model_is_refused(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model().train()
    model.brain.model.language_model.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="gradient checkpointing"):
        model.encode(make_batch(model.config))


@pytest.mark.parametrize(("name", "shape"), [("state", (2, 1, 7)), ("actions", (2, 8, 32)), ("action_mask", (2, 7, 5))])
def test_wrong_shapes_are_named(
    name: str, shape: tuple[int, ...], make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    inputs = make_inputs(model.config) | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=rf"^{name} must be float\[2, "):
        model.velocity(
            make_context(model.config), inputs["state"], inputs["actions"], torch.zeros(2), inputs["action_mask"]
        )


def test_a_prefix_length_needs_a_prefix(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    with pytest.raises(ValueError, match=r"prefix_length is \[0, 2\].*no action_prefix"):
        model.sample(context, inputs["state"], _noise(model), inputs["action_mask"], prefix_length=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"action_prefix must have the shape of noise \[2, 8, 5\]; got \[2, 3, 5\]"):
        _sample(model, context, inputs, [3, 3], torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"int64\[2\] \(rows\); got \[1\]"):
        model.sample(
            context, inputs["state"], _noise(model), inputs["action_mask"], inputs["actions"], torch.tensor([3])
        )
