"""What must hold around an action prefix and is not a matter of one module: reach, offsets, padded slots."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cerebella.models.config import MASK_VARIANTS
from cerebella.models.context import Context
from cerebella.models.vla import VLA

MakeModel = Callable[..., VLA]
MakeContext = Callable[..., Context]
MakeInputs = Callable[..., dict[str, Tensor]]


def reached_rows(model: VLA, context: Context, inputs: dict[str, Tensor], row: int) -> list[bool]:
    """Which of the prefix rows 0..2 the velocity of `row` depends on."""
    actions = inputs["actions"].clone().requires_grad_()
    length = torch.full((len(context),), 3)
    out = model.velocity(context, inputs["state"], actions, torch.full((2,), 0.4), inputs["action_mask"], length)
    (gradient,) = torch.autograd.grad(out[0, row].sum(), actions)
    return gradient[0, :3].ne(0).any(dim=1).tolist()


@pytest.mark.parametrize("variant", ["causal", "lambda", "full"])
def test_rows_that_see_each_other_relay_the_whole_prefix(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    """M-4: behind two layers only a band is out of reach; no other rule may be said to cut a far row off the prefix."""
    model = make_model(mask_variant=variant, mask_window=2, num_layers=2)
    context, inputs = make_context(model.config), make_inputs(model.config)
    for row in range(3, 8):
        assert reached_rows(model, context, inputs, row) == [True] * 3
    shallow = make_model(mask_variant=variant, mask_window=2, num_layers=1)
    sees_far = reached_rows(shallow, make_context(shallow.config), inputs, 7)
    assert sees_far == [variant != "lambda"] * 3


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_training_and_inference_seat_the_rows_alike(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    """M-6: one Euler step of the sampler is the training pass, with and without a prefix: same mask, same offset."""
    model = make_model(mask_variant=variant, position_offset=10)
    context, inputs = make_context(model.config), make_inputs(model.config)
    length = torch.tensor([0, 3])
    noise = torch.randn(inputs["actions"].shape, generator=torch.Generator().manual_seed(9))
    noise[1, :3] = inputs["actions"][1, :3]
    with torch.no_grad():
        velocity = model.velocity(context, inputs["state"], noise, torch.zeros(2), inputs["action_mask"], length)
        sampled = model.sample(
            context, inputs["state"], noise, inputs["action_mask"], inputs["actions"], length, num_flow_steps=1
        )
    assert torch.equal(sampled, noise + velocity)


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_padded_slots_of_a_prefix_cannot_reach_real_ones(
    variant: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    """M-9: slots 3 and 4 are unused; in sample 1 a whole arm (slots 0 to 2) is masked instead."""
    model = make_model(mask_variant=variant)
    context, inputs = make_context(model.config), make_inputs(model.config)
    inputs["action_mask"][0, :, 3:] = 0
    inputs["action_mask"][1, :, :3] = 0
    is_used = inputs["action_mask"].bool()
    noise = torch.randn(is_used.shape, generator=torch.Generator().manual_seed(9))

    def sampled(prefix: Tensor) -> Tensor:
        with torch.no_grad():
            out = model.sample(
                context, inputs["state"], noise, inputs["action_mask"], prefix, torch.tensor([2, 5]), num_flow_steps=3
            )
        return out[is_used]

    changed = inputs["actions"].masked_fill(~is_used, 1e3)
    assert torch.equal(sampled(inputs["actions"]), sampled(changed))
    moved = inputs["actions"] + is_used.float()
    assert not torch.equal(sampled(inputs["actions"]), sampled(moved))
