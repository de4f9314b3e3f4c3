"""Rotary positions for a whole batch against Transformers, which goes sample by sample."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.batch import BrainInput
from cerebella.models.brain import build_brain
from cerebella.models.config import preset
from cerebella.models.positions import rope_positions

BRAIN = build_brain(preset("micro"))
grids = st.tuples(st.just(1), st.integers(1, 3).map(lambda n: 2 * n), st.integers(1, 4).map(lambda n: 2 * n))
rows = st.lists(st.one_of(st.integers(1, 5), grids), min_size=1, max_size=5)
"""A sample: runs of text (their length) and pictures (their size in patches)."""


def batch_of(samples: list[list[int | tuple[int, int, int]]], pads_left: bool) -> BrainInput:
    kinds = []
    for sample in samples:
        row: list[int] = []
        for part in sample:
            # One token of text stands between two pictures, as the vision-end and vision-start tokens do.
            row += [0] * part if isinstance(part, int) else [1] * (part[1] * part[2] // 4) + [0]
        kinds.append(row)
    longest = max(len(row) for row in kinds)
    types, mask = torch.zeros(len(kinds), longest, dtype=torch.int64), torch.zeros(len(kinds), longest).long()
    for i, row in enumerate(kinds):
        place = slice(longest - len(row), longest) if pads_left else slice(0, len(row))
        types[i, place], mask[i, place] = torch.tensor(row), 1
    pictures = [part for sample in samples for part in sample if not isinstance(part, int)]
    return BrainInput(
        input_ids=torch.ones_like(types),
        attention_mask=mask,
        mm_token_type_ids=types,
        pixel_values=None,
        image_grid_thw=torch.tensor(pictures) if pictures else None,
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4), st.booleans())
def test_the_positions_are_those_of_transformers(
    samples: list[list[int | tuple[int, int, int]]], pads_left: bool
) -> None:
    batch = batch_of(samples, pads_left)
    expected, _ = BRAIN.model.get_rope_index(
        batch.input_ids,  # pyright: ignore[reportArgumentType]
        mm_token_type_ids=batch.mm_token_type_ids,  # pyright: ignore[reportArgumentType]
        image_grid_thw=batch.image_grid_thw,  # pyright: ignore[reportArgumentType]
        attention_mask=batch.attention_mask,
    )
    assert torch.equal(rope_positions(batch, merge_size=2), expected)


def test_a_picture_in_hidden_columns_moves_nothing() -> None:
    batch = batch_of([[3, (1, 4, 2), 2]], pads_left=False)
    hidden = BrainInput(
        input_ids=torch.ones(1, 12, dtype=torch.int64),
        attention_mask=torch.nn.functional.pad(batch.attention_mask, (0, 4)),
        mm_token_type_ids=torch.nn.functional.pad(batch.mm_token_type_ids, (0, 4), value=1),
        pixel_values=None,
        image_grid_thw=torch.tensor([[1, 4, 2], [1, 4, 4]]),
    )
    assert torch.equal(rope_positions(hidden, 2)[:, :, :8], rope_positions(batch, 2))
    assert not rope_positions(hidden, 2)[:, :, 8:].any()
