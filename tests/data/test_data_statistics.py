"""Streaming statistics equal those of everything at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.data.statistics import QUANTILES, PictureStatistics, RunningStatistics, merge
from cerebella.types import ImageArray

CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(cuts=CUTS, seed=st.integers(0, 2**31), offset=st.floats(-1e4, 1e4))
def test_streamed_equals_at_once(cuts: list[int], seed: int, offset: float) -> None:
    values = np.random.default_rng(seed).normal(offset, 1, size=(sum(cuts), 2, 3))
    running, parts = RunningStatistics((2, 3)), []
    for start, stop in zip(np.cumsum([0, *cuts[:-1]]), np.cumsum(cuts), strict=True):
        running.update(values[start:stop])
        part = RunningStatistics((2, 3))
        part.update(values[start:stop])
        parts.append(part.summary())
    whole, merged = running.summary(), merge(parts)
    assert running.is_exact
    for summary in (whole, merged):
        np.testing.assert_allclose(summary["mean"], values.mean(0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(summary["std"], values.std(0), rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(summary["min"], values.min(0))
        np.testing.assert_array_equal(summary["max"], values.max(0))
        assert summary["count"].tolist() == [len(values)]
    for name, quantile in QUANTILES.items():
        np.testing.assert_allclose(whole[name], np.quantile(values, quantile, axis=0))
        assert (merged[name] >= values.min(0)).all()
        assert (merged[name] <= values.max(0)).all()


@given(cuts=CUTS, limit=st.integers(4, 60))
def test_too_many_values_are_thinned_evenly(cuts: list[int], limit: int) -> None:
    running = RunningStatistics((), max_values=limit)
    for start, stop in zip(np.cumsum([0, *cuts[:-1]]), np.cumsum(cuts), strict=True):
        running.update(np.arange(start, stop))
    kept, count = running.kept()[:, 0], sum(cuts)
    assert len(kept) <= limit
    assert len(set(np.diff(kept))) <= 1  # every 2^k-th row, from the first one on
    assert kept[0] == 0
    assert running.is_exact == (count <= limit)
    assert running.summary()["mean"].tolist() == pytest.approx([(count - 1) / 2])


def test_pictures_from_a_histogram() -> None:
    rng = np.random.default_rng(0)
    pictures: list[ImageArray] = [rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(3)]
    running = PictureStatistics()
    for picture in pictures:
        running.update(picture)
    pixels = np.stack(pictures).reshape(-1, 3) / 255
    summary = running.summary()
    for name, expected in (("mean", pixels.mean(0)), ("std", pixels.std(0)), ("min", pixels.min(0))):
        np.testing.assert_allclose(summary[name].reshape(3), expected, atol=1e-12)
    exact = np.quantile(pixels, 0.9, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(summary["q90"].reshape(3), exact)
    assert summary["count"].tolist() == [3]


def test_nothing_has_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least 1 row; got none"):
        RunningStatistics((2,)).summary()
    with pytest.raises(ValueError, match="at least 1 picture; got none"):
        PictureStatistics().summary()
