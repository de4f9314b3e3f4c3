"""Sequences that share rows: nothing is lost, nobody sees a neighbour, and the brain learns the same."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.batch import NOT_COUNTED, Batch, VisionLanguageBatch
from cerebella.models.brain import word_losses
from cerebella.models.packing import pack
from cerebella.models.vla import VLA


def padded(lengths: list[int], is_left: bool) -> torch.Tensor:
    width = max(lengths) + 2
    rows = [[0] * (width - n) + [1] * n if is_left else [1] * n + [0] * (width - n) for n in lengths]
    return torch.tensor(rows)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.booleans())
def test_every_token_has_one_place_and_sees_its_own_past(lengths: list[int], is_left: bool) -> None:
    mask = padded(lengths, is_left)
    packing = pack(mask)
    tokens = torch.arange(mask.numel()).view(mask.shape)
    rows = packing.rows(tokens)
    assert rows.shape[0] <= len(lengths)
    assert rows.shape[1] == max(lengths)
    assert sorted(rows[packing.is_real].tolist()) == tokens[mask.bool()].tolist()
    assert torch.equal(rows.flatten()[packing.place][mask.bool()], tokens[mask.bool()])
    for row, is_real, sees in zip(rows, packing.is_real, packing.may_attend[:, 0], strict=True):
        assert bool(sees.any(dim=1).all())
        for column in is_real.nonzero().flatten().tolist():
            sample = int(row[column]) // mask.shape[1]
            past = tokens[sample][mask[sample].bool()]
            assert row[sees[column]].tolist() == past[past <= row[column]].tolist()


def test_short_sequences_share_rows() -> None:
    assert len(pack(padded([9, 4, 5, 3, 3, 3], is_left=False)).source) == 3


def test_the_words_of_packed_conversations_cost_what_they_cost_alone(
    make_model: Callable[..., VLA], make_batch: Callable[..., Batch]
) -> None:
    """Also where the pictures come in another order than in the batch, in losses and in every gradient."""
    model = make_model()
    batch = make_batch(model.config, num_words=(2, 12, 3, 4, 13))
    labels = torch.where(batch.input_ids >= 10, batch.input_ids, NOT_COUNTED).where(
        batch.mm_token_type_ids == 0, NOT_COUNTED
    )
    talk = VisionLanguageBatch(
        batch.input_ids,
        batch.attention_mask,
        batch.mm_token_type_ids,
        batch.pixel_values,
        batch.image_grid_thw,
        labels,
    )
    assert len(pack(talk.attention_mask).source) < len(talk)
    losses, sample = word_losses(model.brain, talk)
    assert sample.bincount().tolist() == (labels[:, 1:] != NOT_COUNTED).sum(dim=1).tolist()
    losses.mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.brain.named_parameters() if p.grad is not None}
    model.zero_grad()
    stock = model.brain(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.pixel_values,
        image_grid_thw=batch.image_grid_thw,
        mm_token_type_ids=batch.mm_token_type_ids,
        labels=labels,
    )
    assert stock.loss.item() == pytest.approx(losses.mean().item(), rel=1e-5)
    stock.loss.backward()
    assert sum("deepstack" in name for name in gradients) > 0
    for name, parameter in model.brain.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)
    model.zero_grad()
