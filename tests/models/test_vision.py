"""The vision tower without loops over pictures against the stock one."""

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from cerebella.models.brain import build_brain
from cerebella.models.config import preset
from cerebella.models.vision import PACKED_ATTENTION, see

CONFIG = preset("nano")
EQUAL, UNEQUAL = [[1, 4, 6]] * 3, [[1, 4, 6], [1, 2, 2], [1, 4, 6]]


def brain() -> Qwen3VLForConditionalGeneration:
    torch.manual_seed(0)
    return build_brain(CONFIG)


@pytest.mark.parametrize("grid", [EQUAL, UNEQUAL, EQUAL[:1]], ids=["equal", "unequal", "one"])
def test_tokens_taps_and_gradients_are_those_of_the_stock_tower(grid: list[list[int]]) -> None:
    ours = brain()
    sizes = torch.tensor(grid)
    pixels = torch.randn(int(sizes.prod(dim=1).sum()), 3 * 2 * 8 * 8)
    tokens, taps = see(ours, pixels, sizes)
    weights = [torch.randn_like(x) for x in (tokens, *taps)]
    torch.stack([(x * w).sum() for x, w in zip((tokens, *taps), weights, strict=True)]).sum().backward()
    gradient = ours.model.visual.patch_embed.proj.weight.grad
    assert gradient is not None
    gradient = gradient.clone()

    stock = brain()
    stock.model.visual.config._attn_implementation = "sdpa"
    seen = stock.model.visual(pixels, grid_thw=sizes)
    torch.testing.assert_close(tokens, seen.pooler_output)
    for tap, expected in zip(taps, seen.deepstack_features, strict=True):
        torch.testing.assert_close(tap, expected)
    seen_all = (seen.pooler_output, *seen.deepstack_features)
    torch.stack([(x * w).sum() for x, w in zip(seen_all, weights, strict=True)]).sum().backward()
    torch.testing.assert_close(gradient, stock.model.visual.patch_embed.proj.weight.grad)


def test_pictures_do_not_see_each_other() -> None:
    ours, sizes = brain(), torch.tensor(EQUAL)
    pixels = torch.randn(3 * 24, 3 * 2 * 8 * 8)
    changed = pixels.clone()
    changed[24:48] += 1.0
    with torch.no_grad():
        before, after = see(ours, pixels, sizes)[0], see(ours, changed, sizes)[0]
    assert torch.equal(before[:6], after[:6])
    assert torch.equal(before[12:], after[12:])
    assert not torch.allclose(before[6:12], after[6:12])


def test_a_new_brain_uses_it() -> None:
    ours = brain()
    assert ours.model.visual.config._attn_implementation == PACKED_ATTENTION
    assert ours.model.language_model.config._attn_implementation == "sdpa"
