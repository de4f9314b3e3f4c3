import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cerebella.models.attention_mask import (
    NUM_ALWAYS_VISIBLE,
    action_mask_between,
    draw_hidden_columns,
    full_mask,
    token_mask,
    token_positions,
)
from cerebella.models.config import MASK_VARIANTS

DRAWINGS = {
    "causal": """
        x . . . . . . .
        x x . . . . . .
        x x x . . . . .
        x x x x . . . .
        x x x x x . . .
        x x x x x x . .
        x x x x x x x .
        x x x x x x x x""",
    "band": """
        x . . . . . . .
        x x . . . . . .
        x x x . . . . .
        . x x x . . . .
        . . x x x . . .
        . . . x x x . .
        . . . . x x x .
        . . . . . x x x""",
    "lambda": """
        x . . . . . . .
        x x . . . . . .
        x x x . . . . .
        x x x x . . . .
        x x x x x . . .
        . . . x x x . .
        . . . x x x x .
        . . . x x x x x""",
    "full": """
        x x x . . . . .
        x x x . . . . .
        x x x . . . . .
        x x x x x x x x
        x x x x x x x x
        x x x x x x x x
        x x x x x x x x
        x x x x x x x x""",
}
CASES = st.integers(1, 12).flatmap(
    lambda horizon: st.tuples(
        st.just(horizon), st.lists(st.integers(0, horizon - 1), min_size=1, max_size=4), st.integers(1, 6)
    )
)


@pytest.mark.parametrize("variant", MASK_VARIANTS)
def test_variants_match_their_drawings(variant: str) -> None:
    drawn = [[mark == "x" for mark in line.split()] for line in DRAWINGS[variant].strip().splitlines()]
    mask = action_mask_between(variant, 8, torch.tensor([3]), 2)
    assert mask[0].tolist() == drawn


@pytest.mark.parametrize("variant", MASK_VARIANTS)
@given(case=CASES)
def test_every_variant_keeps_the_axioms(variant: str, case: tuple[int, list[int], int]) -> None:
    horizon, lengths, window = case
    mask = action_mask_between(variant, horizon, torch.tensor(lengths), window)
    for b, length in enumerate(lengths):
        alone = action_mask_between(variant, horizon, torch.tensor([length]), window)
        assert torch.equal(mask[b], alone[0])
        assert mask[b].diagonal().all()
        assert not mask[b, :length, length:].any(), "a prefix row saw a noisy row"
        if length == 0 and variant == "lambda":
            assert torch.equal(mask[b], action_mask_between("causal", horizon, torch.tensor([0]), window)[0])


@given(case=CASES, seed=st.integers(0, 99))
def test_hiding_touches_only_early_prefix_columns_of_noisy_rows(case: tuple[int, list[int], int], seed: int) -> None:
    horizon, lengths, window = case
    hidden = draw_hidden_columns(horizon, 0.5, torch.Generator().manual_seed(seed))
    prefix_length = torch.tensor(lengths)
    open_mask = action_mask_between("band", horizon, prefix_length, window)
    mask = action_mask_between("band", horizon, prefix_length, window, hidden)
    for b, length in enumerate(lengths):
        last_hideable = max(0, length - NUM_ALWAYS_VISIBLE)
        expected = open_mask[b].clone()
        expected[length:, :last_hideable] &= ~hidden[:last_hideable]
        assert torch.equal(mask[b], expected)


def test_sink_and_state_never_see_actions() -> None:
    mask = token_mask("full", 4, torch.tensor([1]), 2)[0]
    assert mask[0].tolist() == [True] + [False] * 5
    assert mask[1].tolist() == [True, True] + [False] * 4
    assert mask[2:, :2].all()


def test_padding_of_the_context_is_invisible() -> None:
    is_valid = torch.tensor([[True, True, False], [True, True, True]])
    mask = full_mask(is_valid, token_mask("causal", 2, torch.tensor([0, 0]), 1))
    assert mask.shape == (2, 1, 4, 7)
    assert not mask[0, 0, :, 2].any()
    assert mask[1, 0, :, :3].all()


def test_positions_count_on_and_jump_at_the_first_noisy_row() -> None:
    positions = token_positions(torch.tensor([20, 5]), 4, torch.tensor([2, 0]), 10)
    assert positions.tolist() == [[21, 22, 23, 24, 35, 36], [6, 7, 18, 19, 20, 21]]


@given(case=CASES, offset=st.integers(0, 20), last=st.integers(0, 500))
def test_distance_between_noisy_and_clean_rows(case: tuple[int, list[int], int], offset: int, last: int) -> None:
    horizon, lengths, _ = case
    positions = token_positions(torch.full((len(lengths),), last), horizon, torch.tensor(lengths), offset)
    for row, length in zip(positions[:, 2:], lengths, strict=True):
        clean, noisy = row[:length], row[length:]
        assert clean.tolist() == list(range(last + 3, last + 3 + length))
        assert (noisy - torch.arange(length, horizon)).unique().tolist() == [last + 3 + offset]


def test_hidden_columns_are_drawn_at_the_given_rate() -> None:
    drawn = draw_hidden_columns(20_000, 0.5, torch.Generator().manual_seed(0))
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert not draw_hidden_columns(50, 0.0).any()


@pytest.mark.parametrize("length", [-1, 8, 9])
def test_a_prefix_that_leaves_nothing_to_decide_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"0\.\.7.*got \[{length}\]"):
        action_mask_between("causal", 8, torch.tensor([length]), 2)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"'sparse'.*causal, band, lambda, full"):
        action_mask_between("sparse", 8, torch.tensor([0]), 2)
    with pytest.raises(ValueError, match=r"int64\[B\]"):
        action_mask_between("causal", 8, torch.tensor([0.0]), 2)
    with pytest.raises(ValueError, match=r"hidden_columns must be bool\[8\]"):
        action_mask_between("causal", 8, torch.tensor([0]), 2, torch.ones(7, dtype=torch.bool))
