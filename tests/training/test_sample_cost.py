"""The formulas against what PyTorch counts on a real model."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cerebella.batch import Batch
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.training.sample_cost import Recomputed, Sight, sample_cost
from cerebella.training.stages import Part, Stage

CONFIG = preset("nano", horizon=16)
SIDE = CONFIG.brain["vision_config"]["patch_size"]
SIGHT = Sight(views=((16 * SIDE, 12 * SIDE),), num_text_tokens=40)
STAGE = Stage("posttrain_sync", "flow", ("vision", "language", "cerebellum"), 1, 1, 1.0, flow_repeats=2)
BATCH_SIZE = 2


def batch() -> Batch:
    image = torch.full((SIGHT.num_tokens(CONFIG) - 40,), CONFIG.brain["image_token_id"])
    ids = torch.cat([torch.full((20,), 5), image, torch.full((20,), 6)]).repeat(BATCH_SIZE, 1)
    shape = (BATCH_SIZE, CONFIG.horizon, CONFIG.action_dim)
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == CONFIG.brain["image_token_id"]).long(),
        pixel_values=torch.randn(BATCH_SIZE * SIGHT.num_patches(CONFIG)[0], 6 * SIDE**2),
        image_grid_thw=torch.tensor([[1, 16, 12]] * BATCH_SIZE),
        state=torch.randn(BATCH_SIZE, 1, CONFIG.state_dim),
        action_mask=torch.ones(shape),
        actions=torch.randn(shape),
    )


def loss(model: VLA, trains_brain: bool) -> Tensor:
    seen, repeats = batch(), STAGE.flow_repeats
    with torch.set_grad_enabled(trains_brain):
        context = model.encode(seen).repeat_interleave(repeats)
    assert seen.actions is not None
    state, actions, mask = (x.repeat_interleave(repeats, dim=0) for x in (seen.state, seen.actions, seen.action_mask))
    return model.velocity(context, state, actions, torch.rand(len(actions)), mask).float().square().mean()


def model(trains: tuple[Part, ...], dtype: torch.dtype) -> VLA:
    vla = VLA(CONFIG).to(dtype).train()
    vla.requires_grad_(False)
    for part, module in (
        ("vision", vla.brain.model.visual),
        ("language", vla.brain.model.language_model.layers),
        ("cerebellum", vla.cerebellum),
    ):
        module.requires_grad_(part in trains)
    return vla


@pytest.mark.parametrize(
    "trains",
    [("vision", "language", "cerebellum"), ("language", "cerebellum"), ("cerebellum",), ("vision", "cerebellum")],
)
def test_operations(trains: tuple[Part, ...]) -> None:
    """Within a tenth: the last brain layer gets a gradient through its keys and values only, which the formula ignores."""
    vla = model(trains, torch.float32)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss(vla, trains_brain=len(trains) > 1).backward()
    expected = counter.get_total_flops() / BATCH_SIZE
    given = sample_cost(CONFIG, replace(STAGE, trains=trains), SIGHT).flops
    assert given == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("trains", [("vision", "language", "cerebellum"), ("language", "cerebellum"), ("cerebellum",)])
def test_kept_bytes(trains: tuple[Part, ...]) -> None:
    """Within a quarter: here normalisation keeps more than the fused kernels that the formula counts."""
    vla = model(trains, torch.bfloat16)
    own = {parameter.untyped_storage().data_ptr() for parameter in vla.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss(vla, trains_brain=len(trains) > 1)
    measured = sum(x.untyped_storage().nbytes() for x in kept.values()) / BATCH_SIZE
    assert sample_cost(CONFIG, replace(STAGE, trains=trains), SIGHT).kept_bytes == pytest.approx(measured, rel=0.25)


def test_recomputing_trades_memory_for_operations() -> None:
    ways: list[tuple[Recomputed, ...]] = [(), ("vision",), ("vision", "language")]
    costs = [sample_cost(CONFIG, STAGE, SIGHT, way) for way in ways]
    assert costs[0].kept_bytes > costs[1].kept_bytes > costs[2].kept_bytes
    assert costs[0].flops < costs[1].flops < costs[2].flops < 4 / 3 * costs[0].flops
    assert [cost.peak_bytes > 0 for cost in costs] == [False, True, True]


def test_prefixes_cost_the_sampler_and_choices_their_queries() -> None:
    asynchronous = replace(STAGE, name="posttrain_async", async_probability=0.5, max_prefix=6)
    assert sample_cost(CONFIG, asynchronous, SIGHT).flops > sample_cost(CONFIG, STAGE, SIGHT).flops
    blind = replace(asynchronous, reweight_errors=False)
    assert sample_cost(CONFIG, blind, SIGHT).flops == sample_cost(CONFIG, STAGE, SIGHT).flops
    choice = Stage("pretrain_brain", "choice", ("vision", "language"), 1, 1, 1.0)
    longer = Sight(SIGHT.views, SIGHT.num_text_tokens + 2 + CONFIG.horizon)
    words = sample_cost(CONFIG, choice, longer, is_conversation=True)
    assert sample_cost(CONFIG, choice, SIGHT).flops == words.flops
    spoken = sample_cost(CONFIG, choice, replace(longer, num_answer_tokens=8), is_conversation=True)
    assert spoken.kept_bytes - words.kept_bytes == 8 * 10 * CONFIG.brain["text_config"]["vocab_size"]
