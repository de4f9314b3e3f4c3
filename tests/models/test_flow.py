import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cerebella.models import flow


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_flow_time_follows_its_law() -> None:
    num_draws = 100_000
    drawn = flow.sample_flow_time((num_draws,), torch.Generator().manual_seed(0)).double().sort().values
    assert drawn[0] >= 0
    assert drawn[-1] <= flow.MAX_FLOW_TIME
    expected = 1 - (1 - drawn / flow.MAX_FLOW_TIME) ** 1.5
    empirical = torch.arange(1, num_draws + 1) / num_draws
    kolmogorov_smirnov = (empirical - expected).abs().max().item() * num_draws**0.5
    assert kolmogorov_smirnov < 1.95, "beyond the 0.1 % quantile"


def test_flow_time_repeats_with_its_generator() -> None:
    first, again = (flow.sample_flow_time((3, 2), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)


def test_the_path_is_straight() -> None:
    noise, actions = _random(2, 3, 4), _random(2, 3, 4, seed=1)
    assert torch.equal(flow.interpolate(noise, actions, torch.zeros(2)), noise)
    assert torch.equal(flow.interpolate(noise, actions, torch.ones(2)), actions)
    halfway = flow.interpolate(noise, actions, torch.full((2,), 0.5))
    torch.testing.assert_close(halfway + 0.5 * flow.target_velocity(noise, actions), actions)


@pytest.mark.parametrize("num_steps", [1, 5, 8])
def test_euler_is_exact_on_flows_with_a_closed_form(num_steps: int) -> None:
    start, goal = _random(2, 3, 4).double(), _random(2, 3, 4, seed=1).double()
    straight = flow.euler(lambda _x, _time: goal - start, start, num_steps)
    torch.testing.assert_close(straight, goal)
    growing = flow.euler(lambda x, _time: x, start, num_steps)
    torch.testing.assert_close(growing, start * (1 + 1 / num_steps) ** num_steps)
    timed = flow.euler(lambda x, time: time[:, None, None].expand_as(x), start, num_steps)
    torch.testing.assert_close(timed, start + (num_steps - 1) / (2 * num_steps))


def test_euler_needs_a_step() -> None:
    with pytest.raises(ValueError, match="num_flow_steps must be 1 or more; got 0"):
        flow.euler(lambda x, _time: x, torch.zeros(1, 1, 1), 0)


def test_join_prefix_takes_rows_bit_for_bit() -> None:
    prefix, rest = _random(2, 4, 3), _random(2, 4, 3, seed=1)
    joined = flow.join_prefix(prefix, rest, torch.tensor([0, 3]))
    assert torch.equal(joined[0], rest[0])
    assert torch.equal(joined[1, :3], prefix[1, :3])
    assert torch.equal(joined[1, 3:], rest[1, 3:])


def test_error_weight_is_relative_to_the_mean_of_active_entries() -> None:
    actions = torch.zeros(2, 4, 1)
    sampled = torch.tensor([[9.0, 1.0, 2.0, 30.0], [7.0, 7.0, 7.0, 7.0]])[..., None]
    mask = torch.ones(2, 4, 1)
    mask[0, 3] = 0
    weight = flow.error_weight(sampled, actions, mask, torch.tensor([1, 0]))
    assert weight[0, 1:3, 0].tolist() == pytest.approx([1 / 1.5, 2 / 1.5])
    assert weight[0, 3, 0].item() == 5.0, "inactive entries are clamped without the division"
    assert weight[1].eq(1).all(), "no prefix, no re-weighting"


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_error_weight_stays_in_its_range(seed: int, scale: float) -> None:
    sampled, mask = _random(3, 6, 2, seed=seed) * scale, (_random(3, 6, 2, seed=seed + 1) > 0).float()
    weight = flow.error_weight(sampled, torch.zeros(3, 6, 2), mask, torch.tensor([1, 2, 5]))
    assert weight.min() >= 0.5
    assert weight.max() <= 5.0


def test_a_constant_error_has_a_known_loss() -> None:
    horizon, width, error = 6, 2, 0.3
    losses = flow.flow_losses(
        torch.full((1, horizon, width), error), torch.zeros(1, horizon, width), torch.ones(1, 6, 2)
    )
    assert losses.mse.item() == pytest.approx(error**2)
    num_frequencies = horizon // 2 + 1
    assert losses.frequency.item() == pytest.approx(error * horizon / num_frequencies)
    assert losses.total.item() == pytest.approx(0.5 * losses.mse.item() + losses.frequency.item())


def test_losses_give_no_gradient_to_prefix_rows() -> None:
    predicted = _random(3, 6, 2).requires_grad_()
    prefix_length = torch.tensor([0, 2, 5])
    mask = torch.ones(3, 6, 2)
    weight = flow.error_weight(_random(3, 6, 2, seed=2), torch.zeros(3, 6, 2), mask, prefix_length)
    flow.flow_losses(predicted, _random(3, 6, 2, seed=1), mask, weight, prefix_length).total.backward()
    assert predicted.grad is not None
    is_noisy = flow.rows_are_noisy(prefix_length, 6).expand_as(predicted)
    assert predicted.grad[~is_noisy].eq(0).all()
    assert predicted.grad[is_noisy].ne(0).all()


def test_masked_entries_do_not_count_in_the_squared_error() -> None:
    predicted, target, mask = _random(2, 5, 3), _random(2, 5, 3, seed=1), torch.ones(2, 5, 3)
    mask[:, :, 2] = 0
    changed = predicted.clone()
    changed[:, :, 2] += 100
    before, after = (flow.flow_losses(x, target, mask).mse for x in (predicted, changed))
    assert torch.equal(before, after)


def test_mixed_prefixes_average_their_frequency_losses() -> None:
    predicted, target, mask = _random(3, 7, 2), _random(3, 7, 2, seed=1), torch.ones(3, 7, 2)
    lengths = [0, 3, 6]
    together = flow.flow_losses(predicted, target, mask, prefix_length=torch.tensor(lengths)).frequency
    alone = [
        flow.flow_losses(
            predicted[b : b + 1], target[b : b + 1], mask[:1], prefix_length=torch.tensor([length])
        ).frequency
        for b, length in enumerate(lengths)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_a_batch_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="no active entry"):
        flow.flow_losses(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), torch.zeros(1, 3, 2))
