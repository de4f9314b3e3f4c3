import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.processing.augmentation import Augmentation

NOISE = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
GRADIENT = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (80, 100, 3)).copy()
COLOUR_ONLY = Augmentation(crop_fraction=1.0, probability=1.0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_seed_decides_everything_and_sizes_stay(seed: int) -> None:
    views = [NOISE[0], GRADIENT]
    first, again = (Augmentation().apply(views, np.random.default_rng(seed)) for _ in range(2))
    for ours, same, original in zip(first, again, views, strict=True):
        np.testing.assert_array_equal(ours, same)
        assert ours.shape == original.shape
        assert ours.dtype == np.uint8


def test_views_share_colours_but_not_the_crop() -> None:
    for seed in range(5):
        one, two = COLOUR_ONLY.apply([NOISE[0], NOISE[0]], np.random.default_rng(seed))
        np.testing.assert_array_equal(one, two)
        assert (one != NOISE[0]).any()
    crops = Augmentation(probability=0.0)
    pairs = [crops.apply([NOISE[0], NOISE[0]], np.random.default_rng(seed)) for seed in range(5)]
    assert any((one != two).any() for one, two in pairs)


def test_a_crop_shows_95_percent_somewhere_inside() -> None:
    """On a ramp of 2 levels per pixel, a window of 95 columns spans 188 levels, at every place it can be."""
    starts = set()
    for seed in range(60):
        (crop,) = Augmentation(probability=0.0).apply([GRADIENT], np.random.default_rng(seed))
        starts.add(int(crop.min()))
        assert int(crop.max()) - int(crop.min()) == pytest.approx(188, abs=1)
    assert len(starts) == 6


def test_colour_changes_come_half_of_the_time_and_stay_within_their_range() -> None:
    """Mid grey has no contrast and no saturation, so only brightness can move it: by at most 32/255."""
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    levels = [int(Augmentation().apply([grey], np.random.default_rng(seed))[0][0, 0, 0]) for seed in range(300)]
    assert 0.4 < np.mean([level != 100 for level in levels]) < 0.6
    assert 86 <= min(levels) < 90
    assert 110 < max(levels) <= 113


def test_no_colour_and_no_crop_is_the_identity() -> None:
    (same,) = Augmentation(crop_fraction=1.0, probability=0.0).apply([NOISE[0]], np.random.default_rng(0))
    np.testing.assert_array_equal(same, NOISE[0])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"crop_fraction": 0.0}, "crop_fraction must be above 0 and at most 1; got 0.0"),
        ({"probability": 1.5}, "probability must be in 0..1; got 1.5"),
        ({"contrast": (1.5, 0.5)}, "contrast factors must be 0 or more, lowest first; got 1.5 to 0.5"),
        ({"brightness": 2.0}, "brightness factors must be 0 or more"),
    ],
)
def test_bad_amounts_are_named(fields: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Augmentation(**fields)  # pyright: ignore[reportArgumentType]
