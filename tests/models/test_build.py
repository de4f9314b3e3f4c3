"""A model without numbers, for loaders: what no checkpoint stores is right, and nothing is touched in another type."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models.checkpoint import load_weights, save_weights
from cerebella.models.config import preset
from cerebella.models.vla import VLA, build

MakeModel = Callable[..., VLA]
MakeInputs = Callable[..., dict[str, Tensor]]
MakeBatch = Callable[..., Batch]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotary_frequencies_survive_the_meta_device(make_model: MakeModel, dtype: torch.dtype) -> None:
    ordinary = make_model()
    empty = build(ordinary.config, dtype)
    expected, found = dict(ordinary.named_buffers()), dict(empty.named_buffers())
    assert list(found) == list(expected)
    assert len(found) == 5
    for name, buffer in expected.items():
        assert torch.equal(found[name], buffer), name
        assert found[name].dtype == torch.float32, name
    assert {parameter.dtype for parameter in empty.parameters()} == {dtype}
    assert [name for name, _ in empty.named_parameters()] == [name for name, _ in ordinary.named_parameters()]
    assert empty.brain.lm_head.weight is empty.brain.model.get_input_embeddings().weight


def test_on_the_meta_device_it_costs_nothing(make_model: MakeModel) -> None:
    assert {p.device.type for p in build(make_model().config, device="meta").parameters()} == {"meta"}


def test_the_released_size_has_the_released_number_of_tensors() -> None:
    empty = build(preset("xr0"), torch.bfloat16, "meta")
    assert sum(parameter.numel() for parameter in empty.parameters()) == 4_716_274_176
    assert len(list(empty.parameters())) == 932


def test_filled_it_computes_what_an_ordinary_model_computes(
    make_model: MakeModel, make_inputs: MakeInputs, make_batch: MakeBatch, tmp_path: Path
) -> None:
    model = make_model()
    save_weights(model, tmp_path, torch.float32)
    filled = build(model.config).eval()
    load_weights(filled, tmp_path)
    batch, inputs = make_batch(model.config), make_inputs(model.config)
    noise = torch.randn(inputs["actions"].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (m.sample(m.encode(batch), inputs["state"], noise, inputs["action_mask"]) for m in (model, filled))
    assert torch.equal(one, two)


@pytest.mark.parametrize("horizon", [1, 3, 13])
def test_the_horizon_is_that_of_the_tensors(
    make_model: MakeModel, make_inputs: MakeInputs, make_batch: MakeBatch, horizon: int
) -> None:
    """Under the causal rule the first rows do not depend on how many follow."""
    model = make_model(mask_variant="causal", position_offset=0)
    batch, inputs = make_batch(model.config), make_inputs(model.config)
    noise = torch.randn(2, 13, model.config.action_dim, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(noise)
    with torch.no_grad():
        context = model.encode(batch)
        longest = model.sample(context, inputs["state"], noise, mask)
        actions = model.sample(context, inputs["state"], noise[:, :horizon], mask[:, :horizon])
    torch.testing.assert_close(actions, longest[:, :horizon], rtol=0, atol=1e-5)


def test_an_empty_horizon_is_refused(make_model: MakeModel, make_inputs: MakeInputs, make_batch: MakeBatch) -> None:
    model = make_model()
    inputs = make_inputs(model.config)
    nothing = torch.zeros(2, 0, model.config.action_dim)
    with pytest.raises(ValueError, match=r"actions must be float\[2, 1, 5\]; got \[2, 0, 5\]"):
        model.sample(model.encode(make_batch(model.config)), inputs["state"], nothing, nothing)


def test_inputs_take_the_number_type_of_the_weights(
    make_model: MakeModel, make_inputs: MakeInputs, make_batch: MakeBatch
) -> None:
    model = make_model().bfloat16()
    batch, inputs = make_batch(model.config), make_inputs(model.config)
    lengths = torch.tensor([2, 0])
    with torch.no_grad():
        context = model.encode(batch)
        noise = torch.randn_like(inputs["actions"])
        actions = model.sample(context, inputs["state"], noise, inputs["action_mask"], inputs["actions"], lengths)
        velocity = model.velocity(context, inputs["state"], noise, torch.tensor([0.2, 0.4]), inputs["action_mask"])
    assert (actions.dtype, velocity.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(actions[0, :2], inputs["actions"][0, :2].bfloat16())
