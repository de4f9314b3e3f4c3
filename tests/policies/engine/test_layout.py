from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.models import brain
from cerebella.policies.engine.layout import plan
from cerebella.policies.engine.vision import VisionTower

from .scene import make_batch, small_config, small_model

SIDES = st.integers(1, 4).map(lambda side: 2 * side)
PARTS = st.lists(st.one_of(st.integers(0, 5), st.tuples(SIDES, SIDES)), min_size=1, max_size=4)
MODEL = small_model()


@settings(max_examples=60, deadline=None)
@given(samples=st.lists(PARTS, min_size=1, max_size=3), bucket=st.integers(1, 20))
def test_positions_equal_those_of_the_brain(samples: list[list[int | tuple[int, int]]], bucket: int) -> None:
    samples = [[3, *sample] for sample in samples]
    batch = make_batch(MODEL.config, samples)
    laid_out = plan(batch, merge_size=2, bucket=bucket)
    expected = brain.position_ids(MODEL.brain, batch)
    is_valid = batch.attention_mask.bool()
    length = is_valid.shape[1]
    assert laid_out.layout.length % bucket == 0
    assert 0 <= laid_out.layout.length - length < bucket
    assert torch.equal(laid_out.positions[:, :, :length][:, is_valid], expected[:, is_valid])
    assert torch.equal(laid_out.last_position, expected.amax(dim=(0, 2)))
    flat = torch.zeros(len(batch) * laid_out.layout.length, dtype=torch.int64)
    flat[laid_out.image_index] = 1
    assert torch.equal(flat.view(len(batch), -1)[:, :length], batch.mm_token_type_ids)


@pytest.mark.parametrize("grids", [((8, 8), (8, 8)), ((4, 6), (2, 2), (6, 4)), ((2, 12),)])
def test_the_vision_tower_equals_the_brains(grids: tuple[tuple[int, int], ...]) -> None:
    visual = MODEL.brain.model.visual
    tower = VisionTower(visual)
    batch = make_batch(MODEL.config, [[2, *grids]])
    assert batch.pixel_values is not None
    with torch.no_grad():
        expected = visual(batch.pixel_values, grid_thw=batch.image_grid_thw)
        tokens, taps = tower(batch.pixel_values, *tower.constants(grids), grids)
    torch.testing.assert_close(tokens, expected.pooler_output, atol=1e-5, rtol=1e-5)
    assert len(taps) == len(expected.deepstack_features) == 2
    for tap, wanted in zip(taps, expected.deepstack_features, strict=True):
        torch.testing.assert_close(tap, wanted, atol=1e-5, rtol=1e-5)


def test_wrong_inputs_are_named() -> None:
    batch = make_batch(small_config(), [[2, (4, 4), 3], [4, (4, 4)]])
    with pytest.raises(ValueError, match="padded on the right"):
        plan(replace(batch, attention_mask=batch.attention_mask.flip(1)), 2, 1)
    grids = batch.image_grid_thw
    assert grids is not None
    with pytest.raises(ValueError, match=r"more image tokens than pictures \(1"):
        plan(replace(batch, image_grid_thw=grids[:1]), 2, 1)
    with pytest.raises(ValueError, match="3 pictures, but image tokens for 2"):
        plan(replace(batch, image_grid_thw=torch.cat([grids, grids[:1]])), 2, 1)
    with pytest.raises(ValueError, match=r"4 image tokens for picture 1, which has 8 \(4 x 2\)"):
        plan(replace(batch, image_grid_thw=torch.tensor([[1, 4, 4], [1, 8, 4]])), 2, 1)
    with pytest.raises(ValueError, match="one frame each"):
        plan(replace(batch, image_grid_thw=grids * torch.tensor([2, 1, 1])), 2, 1)
