"""Guidance against the Gaussian oracle (dense, NumPy), against hand-computed numbers, and on a small real model."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cerebella.batch import Batch
from cerebella.models import flow
from cerebella.models.context import Context
from cerebella.models.guidance import Velocity, guidance_gain, guidance_weights, guide, nearest
from cerebella.models.vla import VLA
from cerebella.runtime.instruments import gaussian
from cerebella.runtime.instruments.gaussian import GaussianChunks, autoregressive

MakeModel = Callable[..., VLA]
MakeContext = Callable[..., Context]
MakeInputs = Callable[..., dict[str, Tensor]]
H = 8


def weights_of(d: int, s: int, rows: int = H, ramp: Any = "soft", horizon: int = H) -> list[float]:
    return guidance_weights(torch.tensor([d]), torch.tensor([s]), torch.tensor([rows]), horizon, ramp)[0].tolist()


def oracle_velocity(process: GaussianChunks) -> Velocity:
    """The oracle's velocity as a torch function of float64[B, H, 1], differentiable in x."""
    mean = torch.from_numpy(process.mean)

    def velocity(x: Tensor, flow_time: Tensor) -> Tensor:
        tau = float(flow_time[0])
        matrix = torch.from_numpy(process.velocity_matrix(tau))
        return (mean + (x[..., 0] - tau * mean) @ matrix.T)[..., None]

    return velocity


def test_weights_by_hand() -> None:
    """d = 2, s = 3 of H = 8: rows 2, 3, 4 have u = 3/4, 2/4, 1/4."""
    ramp = [u * (math.exp(u) - 1) / (math.e - 1) for u in (0.75, 0.5, 0.25)]
    assert weights_of(2, 3) == pytest.approx([1, 1, *ramp, 0, 0, 0], abs=1e-7)
    assert ramp == pytest.approx([0.4875510, 0.1887703, 0.0413240], abs=1e-7)


@pytest.mark.parametrize(
    ("d", "s", "rows", "wanted"),
    [
        (2, 3, 8, [1, 1, 0, 0, 0, 0, 0, 0]),
        (0, 8, 8, [0] * 8),
        (0, 1, 8, [0] * 8),
        (8, 8, 8, [1] * 8),
        (6, 4, 8, [1] * 6 + [0] * 2),
        (0, 3, 0, [0] * 8),
    ],
)
def test_hard_weights_are_one_or_zero(d: int, s: int, rows: int, wanted: list[float]) -> None:
    assert weights_of(d, s, rows, "hard") == wanted


def test_a_frozen_row_counts_fully_even_where_rows_are_free() -> None:
    assert weights_of(6, 4) == [1] * 6 + [0] * 2
    assert weights_of(8, 8) == [1] * 8


def test_where_the_plan_ends_the_pull_ends() -> None:
    whole, short = weights_of(2, 1), weights_of(2, 1, rows=4)
    assert short == whole[:4] + [0] * 4
    assert all(weight > 0 for weight in whole[:7])


def test_soft_weights_fall_row_by_row_and_samples_do_not_mix() -> None:
    cases = [(0, 1, 8), (3, 2, 8), (5, 3, 6), (0, 8, 8), (2, 6, 2)]
    together = guidance_weights(*(torch.tensor(numbers) for numbers in zip(*cases, strict=True)), horizon=H)
    for row, case in zip(together.tolist(), cases, strict=True):
        assert row == weights_of(*case)
        assert all(0 <= after <= before <= 1 for before, after in pairwise(row))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((3, 1, 2), r"num_frozen must lie in 0\.\.\[2\] \(rows\); got \[3\]"),
        ((0, 0, 2), r"execute_horizon must lie in 1\.\.8 \(rows\); got \[0\]"),
        ((0, 9, 2), r"execute_horizon must lie in 1\.\.8"),
        ((0, 1, 9), r"num_rows must lie in 0\.\.8"),
        ((0.0, 1, 2), r"num_frozen must be int64\[B\]"),
    ],
)
def test_impossible_rows_are_refused(numbers: tuple[float, ...], message: str) -> None:
    d, s, rows = (torch.tensor([number]) for number in numbers)
    with pytest.raises(ValueError, match=message):
        guidance_weights(d, s, rows, H)


def test_other_bad_arguments_are_named() -> None:
    one = torch.tensor([1])
    with pytest.raises(ValueError, match="ramp is 'linear'; known ramps: soft, hard"):
        guidance_weights(one, one, one, H, "linear")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"weights must have the shape of plan \[1, 8, 1\]; got \[1, 8\]"):
        guide(lambda x, _: x, torch.zeros(1, 8, 1), torch.zeros(1, 8))
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="beta must be above 0"):
            guide(lambda x, _: x, torch.zeros(1, 8, 1), torch.zeros(1, 8, 1), beta=beta)


def test_gain_by_hand() -> None:
    """tau = 0.4: 0.6 / 0.4 * (0.16 + 0.36) / 0.36 = 13/6."""
    times = torch.tensor([0.0, 1e-9, 0.1, 0.4, 0.5, 0.999, 1.0], dtype=torch.float64)
    assert guidance_gain(times).tolist() == pytest.approx([5, 5, 5, 13 / 6, 2, 5, 5])
    assert guidance_gain(times, beta=1.5).tolist() == [1.5] * 7
    assert guidance_gain(times.bfloat16()).dtype == torch.float32


def test_the_nearest_candidate_by_hand() -> None:
    """Two action dimensions; the length of a row counts, not its square, and later rows count less."""
    plan = torch.zeros(1, 3, 2)
    candidates = torch.zeros(1, 3, 3, 2)
    candidates[0, 0, 1] = torch.tensor([3.0, 4.0])  # 0.5 * 5
    candidates[0, 1, 0] = torch.tensor([2.0, 0.0])  # 1.0 * 2
    candidates[0, 1, 1] = torch.tensor([0.0, 0.9])  # 0.5 * 0.9
    candidates[0, 2, 2] = 1e6  # free
    weights = torch.tensor([1.0, 0.5, 0.0])[None, :, None].expand(1, 3, 2)
    assert nearest(candidates, plan, weights).tolist() == [2]
    assert nearest(candidates[:, :2], plan, weights).tolist() == [1]
    masked = weights * torch.tensor([0.0, 1.0])
    assert nearest(candidates[:, :2], plan, masked).tolist() == [1]
    assert nearest(candidates[:, :2], plan, weights * torch.tensor([1.0, 0.0])).tolist() == [0]


def test_the_nearest_of_equals_is_the_first_and_what_has_no_weight_does_not_count() -> None:
    candidates = torch.randn(2, 5, H, 3, generator=torch.Generator().manual_seed(0))
    plan = torch.full((2, H, 3), math.nan)
    weights = torch.zeros(2, H, 3)
    assert nearest(candidates, plan, weights).tolist() == [0, 0]
    plan[1, 0], weights[1, 0] = candidates[1, 3, 0], 1.0
    assert nearest(candidates, plan, weights).tolist() == [0, 3]
    with pytest.raises(ValueError, match=r"candidates must be float\[2, 1\.\., 8, 3\]"):
        nearest(candidates[:, :0], plan, weights)
    with pytest.raises(ValueError, match="weights float"):
        nearest(candidates, plan, weights[..., 0])


def test_the_nearest_of_many_draws_of_the_oracle_is_what_conditioning_gives() -> None:
    """Of very many chunks the one that is nearest to a plan in its first rows goes on as the plan's process would."""
    process, rng = autoregressive(H), np.random.default_rng(0)
    plan = torch.from_numpy(process.draw(64, rng))[..., None]
    weights = torch.tensor([1.0, 1.0] + [0.0] * (H - 2), dtype=plan.dtype)[None, :, None].expand(64, H, 1)
    errors = []
    for num_candidates in (1, 512):
        draws = torch.from_numpy(process.draw(64 * num_candidates, rng)).reshape(64, num_candidates, H, 1)
        chosen = draws[torch.arange(64), nearest(draws, plan, weights)]
        wanted = np.stack([process.after(row[:2, 0].numpy()).mean for row in plan])
        errors.append(float(np.abs(chosen[:, 2:, 0].numpy() - wanted).mean()))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("use_jacobian", [True, False])
@pytest.mark.parametrize("ramp", ["soft", "hard"])
@pytest.mark.parametrize(("num_flow_steps", "beta"), [(1, 5.0), (5, 5.0), (10, 10.0)])
def test_guided_sampler_equals_the_dense_one(use_jacobian: bool, ramp: Any, num_flow_steps: int, beta: float) -> None:
    """M-8: ours differentiates, theirs multiplies by the Jacobian's closed form."""
    horizon, d, s = 16, 4, 4
    rng = np.random.default_rng(0)
    ar = autoregressive(horizon)
    process = GaussianChunks(rng.normal(size=horizon), ar.covariance)
    noise, plan = rng.normal(size=(32, horizon)), process.draw(32, rng) + 1
    weights = np.array(weights_of(d, s, horizon, ramp, horizon), dtype=np.float64)
    theirs = gaussian.sample_guided(process, noise, plan, weights, beta, num_flow_steps, use_jacobian)
    target, pull = torch.from_numpy(plan)[..., None], torch.from_numpy(weights)[None, :, None].expand(32, -1, 1)
    guided = guide(oracle_velocity(process), target, pull, use_jacobian, beta)
    ours = flow.euler(guided, torch.from_numpy(noise)[..., None], num_flow_steps)[..., 0]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-6)
    if num_flow_steps > 1:
        other = gaussian.sample_guided(process, noise, plan, weights, beta, num_flow_steps, not use_jacobian)
        assert np.abs(other - theirs).max() > 1e-2, "the two methods are not the same thing"


def test_the_jacobian_is_transposed() -> None:
    """The oracle's Jacobian is symmetric and cannot tell; a triangular flow can."""
    rng = np.random.default_rng(1)
    matrix = np.triu(rng.normal(size=(H, H)))
    noise, plan = rng.normal(size=(1, H)), rng.normal(size=(1, H))
    weights = np.linspace(1, 0, H)
    x, tau = noise.copy(), 0.0
    for tau in (0.0, 0.5):
        jacobian = np.eye(H) + (1 - tau) * matrix
        error = weights * (plan - (x + (1 - tau) * x @ matrix.T))
        x = x + (x @ matrix.T + (5.0 if tau == 0 else 2.0) * (jacobian.T @ error[0])) / 2
    linear = torch.from_numpy(matrix)
    guided = guide(
        lambda x, _: (x[..., 0] @ linear.T)[..., None],
        torch.from_numpy(plan)[..., None],
        torch.from_numpy(weights)[None, :, None],
    )
    ours = flow.euler(guided, torch.from_numpy(noise)[..., None], 2)
    np.testing.assert_allclose(ours[..., 0].numpy(), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_flow_steps", [50, 200])
def test_prefix_sampler_with_the_exact_denoiser_is_exact(num_flow_steps: int) -> None:
    """M-8: our frozen rows and Euler steps, driven by the oracle's conditional flow."""
    horizon, d, num_samples = 16, 4, 20_000
    process, prefix = autoregressive(horizon), np.full(d, 1.5)
    after = process.after(prefix)
    conditional = oracle_velocity(after)
    length = torch.full((num_samples,), d)

    def velocity(x: Tensor, flow_time: Tensor) -> Tensor:
        behind = torch.cat([torch.zeros_like(x[:, :d]), conditional(x[:, d:], flow_time)], dim=1)
        return behind.masked_fill(~flow.rows_are_noisy(length, horizon), 0.0)

    noise = torch.from_numpy(np.random.default_rng(2).normal(size=(num_samples, horizon, 1)))
    start = flow.join_prefix(torch.full_like(noise, 1.5), noise, length)
    sampled = flow.euler(velocity, start, num_flow_steps)[..., 0].numpy()
    assert (sampled[:, :d] == 1.5).all()
    deviation = (sampled[:, d:].mean(axis=0) - after.mean) / (sampled[:, d:].std(axis=0) / num_samples**0.5)
    assert np.abs(deviation).max() < 3
    ratio = sampled[:, d:].var(axis=0) / np.diag(after.covariance)
    noise_of_ratio = 3 * (2 / num_samples) ** 0.5
    assert ratio.max() < 1 + noise_of_ratio
    assert ratio.min() > 1 - noise_of_ratio - 4.2 / num_flow_steps, "Euler steps narrow this process by about 4.1 / n"
    np.testing.assert_allclose(
        sampled, gaussian.sample_after(process, prefix, noise[..., 0].numpy(), num_flow_steps), atol=1e-9
    )


def sample_guided(model: VLA, context: Context, inputs: dict[str, Tensor], weights: Tensor, **options: Any) -> Tensor:
    noise = torch.randn(inputs["actions"].shape, generator=torch.Generator().manual_seed(9)).to(weights.dtype)
    return model.sample_guided(
        context, inputs["state"], noise, inputs["action_mask"], inputs["actions"], weights, **options
    )


def sample_plain(model: VLA, context: Context, inputs: dict[str, Tensor]) -> Tensor:
    noise = torch.randn(inputs["actions"].shape, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return model.sample(context, inputs["state"], noise, inputs["action_mask"])


def soft(model: VLA, cases: list[tuple[int, int]]) -> Tensor:
    d, s = (torch.tensor(numbers) for numbers in zip(*cases, strict=True))
    horizon = model.config.horizon
    return guidance_weights(d, s, torch.full_like(d, horizon), horizon)


@pytest.mark.parametrize("use_jacobian", [True, False])
def test_without_weight_the_sampler_is_the_plain_one_bit_for_bit(
    use_jacobian: bool, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    """d = 0 and s = H; alone, and beside a sample that is pulled."""
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    plain = sample_plain(model, context, inputs)
    free = sample_guided(model, context, inputs, soft(model, [(0, 8), (0, 8)]), use_jacobian=use_jacobian)
    assert torch.equal(free, plain)
    assert not free.requires_grad
    mixed = sample_guided(model, context, inputs, soft(model, [(0, 8), (3, 2)]), use_jacobian=use_jacobian)
    assert torch.equal(mixed[0], plain[0])
    assert not torch.isclose(mixed[1], plain[1]).any()


@pytest.mark.parametrize("use_jacobian", [True, False])
def test_one_step_of_a_real_model_equals_its_explicit_jacobian(
    use_jacobian: bool, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    context, inputs = make_context(model.config, 1), make_inputs(model.config, 1)
    weights = soft(model, [(2, 2)])
    shape = inputs["actions"].shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(9))

    def denoised(x: Tensor) -> Tensor:
        x = x.view(shape)
        velocity = model.velocity(context, inputs["state"], x, torch.zeros(1), inputs["action_mask"])
        return (x + velocity).flatten()

    jacobian = torch.autograd.functional.jacobian(denoised, noise.flatten())
    assert isinstance(jacobian, Tensor)
    with torch.no_grad():
        end = denoised(noise.flatten())
        error = (weights[..., None] * (inputs["actions"] - end.view(shape))).flatten()
        expected = end + 5.0 * (jacobian.T @ error if use_jacobian else error)
    ours = sample_guided(model, context, inputs, weights, use_jacobian=use_jacobian, num_flow_steps=1)
    torch.testing.assert_close(ours.flatten(), expected, rtol=0, atol=2e-5)


def test_each_sample_has_its_own_numbers_and_method(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    noise = torch.randn(inputs["actions"].shape, generator=torch.Generator().manual_seed(9))
    weights, through = soft(model, [(1, 2), (4, 3)]), torch.tensor([True, False])
    together = sample_guided(model, context, inputs, weights, use_jacobian=through)
    for b in range(2):
        chosen = torch.tensor([b])
        one = {name: tensor[chosen] for name, tensor in inputs.items()}
        alone = model.sample_guided(
            context.take(chosen),
            one["state"],
            noise[chosen],
            one["action_mask"],
            one["actions"],
            weights[chosen],
            bool(through[b]),
        )
        torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-5)


def test_unused_slots_and_what_lies_beyond_the_plan_pull_at_nothing(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    """M-9 and M-13 for guidance: garbage under a mask or behind the plan changes no bit."""
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    inputs["action_mask"][:, :, 3:] = 0
    weights = guidance_weights(torch.tensor([2, 3]), torch.tensor([1, 2]), torch.tensor([4, 5]), 8)
    changed = inputs["actions"].clone()
    changed[:, :, 3:], changed[0, 4:], changed[1, 5:] = torch.inf, torch.nan, torch.nan
    one = sample_guided(model, context, inputs, weights)
    assert torch.equal(one, sample_guided(model, context, inputs | {"actions": changed}, weights))
    assert one.isfinite().all()


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's RMSNorm in autocast
@pytest.mark.parametrize("kind", ["bfloat16", "autocast"])
def test_half_precision_follows(
    kind: str, make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    context, inputs = make_context(model.config), make_inputs(model.config)
    weights = soft(model, [(2, 2), (1, 4)])
    exact = sample_guided(model, context, inputs, weights)
    if kind == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            rounded = sample_guided(model, context, inputs, weights)
    else:
        model.to(torch.bfloat16)
        half = replace(
            context, keys=[x.bfloat16() for x in context.keys], values=[x.bfloat16() for x in context.values]
        )
        rounded = sample_guided(model, half, inputs, weights.bfloat16())
        assert rounded.dtype == torch.bfloat16
    assert torch.cosine_similarity(rounded.float().flatten(), exact.flatten(), dim=0) > 0.999


def test_no_parameter_gets_a_gradient_and_the_brain_is_not_asked(make_model: MakeModel, make_batch: Any) -> None:
    model = make_model()
    batch: Batch = make_batch(model.config)
    context = model.encode(batch)
    assert context.keys[0].requires_grad
    assert batch.actions is not None
    inputs = {"state": batch.state, "actions": batch.actions, "action_mask": batch.action_mask}
    calls = []
    hook = model.brain.model.language_model.register_forward_hook(lambda *_: calls.append(1))
    sampled = sample_guided(model, context, inputs, soft(model, [(2, 2), (2, 2)]))
    hook.remove()
    assert not calls
    assert not sampled.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_inference_mode_keeps_no_gradient_and_is_refused(
    make_model: MakeModel, make_context: MakeContext, make_inputs: MakeInputs
) -> None:
    model = make_model()
    inputs, weights = make_inputs(model.config), soft(model, [(2, 2), (2, 2)])
    with torch.inference_mode():
        context = make_context(model.config)
        with pytest.raises(ValueError, match=r"under torch\.no_grad, not in inference mode"):
            sample_guided(model, context, inputs, weights)
    with pytest.raises(ValueError, match=r"under torch\.no_grad, not in inference mode"):
        sample_guided(model, context, inputs, weights)
    with pytest.raises(ValueError, match=r"weights float\[2, 8\]; got \[2, 8, 5\] and \[2, 7\]"):
        sample_guided(model, make_context(model.config), inputs, weights[:, :7])
