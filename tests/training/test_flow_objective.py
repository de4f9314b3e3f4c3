"""The flow objective of the loop: the stored losses of the released architecture, its laws, and its switches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models import checkpoint
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.training.flow_objective import DRAW_BLOCK, FlowDraws, draw_flow, draw_prefix_lengths, flow_objective
from cerebella.training.stages import Stage, xr0_posttrain

GOLDEN = Path(__file__).parents[1] / "golden"
POSTTRAIN = replace(xr0_posttrain(is_async=True), flow_repeats=1)


@pytest.fixture(scope="module")
def golden() -> tuple[VLA, Batch, dict[str, Tensor]]:
    config = checkpoint.read_released_config(GOLDEN / "xr0-tiny.config.json").with_mask("band")
    model = VLA(config)
    checkpoint.load_weights(model, GOLDEN / "xr0-tiny.weights.safetensors")
    data = load_file(GOLDEN / "xr0-tiny.data.safetensors")
    trained = load_file(GOLDEN / "xr0-tiny.train.safetensors")
    batch = Batch(
        input_ids=data["input_ids"],
        attention_mask=data["attention_mask"],
        mm_token_type_ids=(data["input_ids"] == config.brain["image_token_id"]).long(),
        pixel_values=data["pixel_values"],
        image_grid_thw=data["image_grid_thw"],
        state=data["state"],
        action_mask=data["action_mask"],
        actions=trained["target_actions"],
        prefix_length=torch.zeros(2, dtype=torch.int64),
    )
    return model, batch, trained


def draws_of(trained: dict[str, Tensor], length: int, horizon: int = 10) -> FlowDraws:
    hidden = torch.zeros(horizon, dtype=torch.bool)
    return FlowDraws(torch.full((2,), length), hidden, trained["noise"], trained["flow_time"])


@pytest.mark.parametrize("length", [0, 1, 3, 6])
def test_the_training_step_gives_the_golden_losses(length: int, golden: tuple[VLA, Batch, dict[str, Tensor]]) -> None:
    model, batch, trained = golden
    model.train()
    losses = flow_objective(model, batch, POSTTRAIN, draws_of(trained, length))
    for ours, theirs in (("loss", "loss"), ("mse", "loss_mse"), ("frequency", "loss_freq")):
        assert losses[ours].item() == pytest.approx(trained[f"p{length}.{theirs}"].item(), abs=1e-4)
    losses["loss"].backward()
    assert model.brain.model.language_model.layers[0].self_attn.q_proj.weight.grad is not None
    model.zero_grad(set_to_none=True)


def test_every_switch_changes_the_golden_loss(golden: tuple[VLA, Batch, dict[str, Tensor]]) -> None:
    model, batch, trained = golden
    draws = draws_of(trained, 3)
    batch = replace(batch, action_mask=batch.action_mask * (torch.arange(32) < 20))
    with torch.no_grad():
        released = flow_objective(model, batch, POSTTRAIN, draws)["loss"]
        for switch in (
            {"reweight_errors": False},
            {"frequency_weight": 0.0},
            {"mse_weight": 0.0},
            {"noise_in_unused_slots": False},
            {"frequency_is_masked": True},
        ):
            assert abs(flow_objective(model, batch, replace(POSTTRAIN, **switch), draws)["loss"] - released) > 1e-3
        hidden = replace(draws, hidden_columns=torch.ones(10, dtype=torch.bool))
        assert abs(flow_objective(model, batch, POSTTRAIN, hidden)["loss"] - released) > 1e-5


def test_repeats_share_one_look_of_the_brain(golden: tuple[VLA, Batch, dict[str, Tensor]]) -> None:
    """Twice the same draw gives the loss of one, and the brain is asked once."""
    model, batch, trained = golden
    once = draws_of(trained, 3)
    twice = replace(
        once, noise=once.noise.repeat_interleave(2, dim=0), flow_time=once.flow_time.repeat_interleave(2, dim=0)
    )
    calls = []
    hook = model.brain.model.language_model.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        one = flow_objective(model, batch, POSTTRAIN, once)["loss"]
        two = flow_objective(model, batch, replace(POSTTRAIN, flow_repeats=2), twice)["loss"]
    hook.remove()
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert len(calls) == 2


def test_a_frozen_brain_gets_no_gradient(golden: tuple[VLA, Batch, dict[str, Tensor]]) -> None:
    model, batch, trained = golden
    stage = replace(POSTTRAIN, trains=("cerebellum",))
    flow_objective(model, batch, stage, draws_of(trained, 0))["loss"].backward()
    assert all(parameter.grad is None for parameter in model.brain.parameters())
    assert model.cerebellum.sink.weight.grad is not None
    model.zero_grad(set_to_none=True)


def windows(num: int, horizon: int = 8, committed: int = 0) -> Batch:
    config = preset("micro", horizon=horizon)
    nothing = torch.zeros(num, 1, dtype=torch.int64)
    return Batch(
        input_ids=nothing,
        attention_mask=nothing,
        mm_token_type_ids=nothing,
        pixel_values=None,
        image_grid_thw=None,
        state=torch.zeros(num, 1, config.state_dim),
        action_mask=torch.ones(num, horizon, config.action_dim),
        actions=torch.zeros(num, horizon, config.action_dim),
        prefix_length=torch.full((num,), committed),
    )


@pytest.mark.parametrize("prefix_draw", ["sample", "batch"])
def test_draws_do_not_depend_on_how_a_step_is_cut(prefix_draw: str) -> None:
    stage = replace(POSTTRAIN, prefix_draw=prefix_draw, flow_repeats=2)  # pyright: ignore[reportArgumentType]
    num = 2 * DRAW_BLOCK + 10
    whole = draw_flow(stage, windows(num), (1, 2, 3))
    for start, end in ((0, 5), (DRAW_BLOCK - 3, DRAW_BLOCK + 4), (100, num)):
        part = draw_flow(stage, windows(end - start), (1, 2, 3), first_window=start)
        assert torch.equal(part.prefix_length, whole.prefix_length[start:end])
        assert torch.equal(part.hidden_columns, whole.hidden_columns)
        assert torch.equal(part.noise, whole.noise[2 * start : 2 * end])
        assert torch.equal(part.flow_time, whole.flow_time[2 * start : 2 * end])
    assert len(whole.prefix_length.unique()) == (1 if prefix_draw == "batch" else 7)
    assert not torch.equal(draw_flow(stage, windows(num), (1, 2, 4)).noise, whole.noise)


def test_the_papers_prefix_law_is_uniform_from_zero() -> None:
    """Chi-square against 1/7 each; 22.46 is its 99.9 % quantile at 6 degrees of freedom."""
    num = 70_000
    stage = replace(POSTTRAIN, prefix_law="uniform_0_to_max")
    seen = torch.bincount(draw_prefix_lengths(stage, num, torch.Generator().manual_seed(0)), minlength=7).double()
    assert ((seen - num / 7) ** 2 / (num / 7)).sum() < 22.46


def test_one_length_for_a_batch_still_respects_what_was_committed() -> None:
    stage = replace(POSTTRAIN, prefix_draw="batch")
    batch = replace(windows(4), prefix_length=torch.tensor([0, 2, 5, 0]))
    for step in range(8):
        lengths = draw_flow(stage, batch, (0, 0, step)).prefix_length
        assert (lengths >= torch.tensor([0, 2, 5, 0])).all()
        assert lengths[0] == lengths[3]


def test_a_prefix_as_long_as_the_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="up to 6 rows, but its chunks have 4; max_prefix must be at most 3"):
        draw_flow(POSTTRAIN, windows(2, horizon=4), (0, 0, 0))


def test_the_released_settings_are_those_of_its_configuration() -> None:
    stage: Stage = xr0_posttrain(is_async=True)
    assert [stage.learning_rate_at(step) for step in (0, 1000, 2000)] == pytest.approx([5e-7, 5.025e-5, 1e-4])
    assert stage.learning_rate_at(30_000) == pytest.approx(5e-7)
    assert (stage.flow_repeats, stage.mse_weight, stage.frequency_weight) == (4, 0.5, 1.0)
    assert xr0_posttrain(is_async=False).max_prefix == 0
