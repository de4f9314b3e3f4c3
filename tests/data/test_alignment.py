"""Nearest really is nearest, whatever the streams; ages and gaps say what happened."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.data.alignment import Gap, align, nearest

times = st.lists(st.integers(0, 10_000), min_size=1, max_size=40, unique=True).map(lambda t: np.sort(t) / 100)


@given(times, st.lists(st.floats(-10, 120), max_size=30))
def test_no_other_measurement_is_nearer(measured: np.ndarray, wanted: list[float]) -> None:
    found = nearest(measured, wanted)
    distance = np.abs(np.asarray(wanted, dtype=np.float64)[:, None] - measured)
    np.testing.assert_array_equal(found.index, distance.argmin(axis=1))  # argmin: the earlier of two
    np.testing.assert_allclose(found.age_s, np.asarray(wanted) - measured[found.index])


@given(times, times, st.floats(0.5, 50))
def test_the_timeline_lies_where_all_streams_are_and_never_goes_back(
    first: np.ndarray, second: np.ndarray, rate_hz: float
) -> None:
    start, end = max(first[0], second[0]), min(first[-1], second[-1])
    if start > end:
        with pytest.raises(ValueError, match="do not overlap"):
            align({"first": first, "second": second}, rate_hz)
        return
    timeline = align({"first": first, "second": second}, rate_hz)
    assert timeline.tick_s[0] == start
    assert timeline.tick_s[-1] <= end + 1e-6 / rate_hz + 1e-9
    assert timeline.tick_s[-1] + 1 / rate_hz > end - 1e-9
    for name, measured in (("first", first), ("second", second)):
        stream = timeline.streams[name]
        assert (np.diff(stream.index) >= 0).all()
        longest = np.diff(measured).max() if len(measured) > 1 else 0.0
        assert stream.largest_age_s <= longest / 2 + 1e-6


def test_a_slow_camera_beside_fast_joints() -> None:
    camera, joints = np.arange(0, 2, 1 / 16), np.arange(0, 2, 1 / 512)
    timeline = align({"camera": camera, "joints": joints}, 32)
    assert len(timeline.tick_s) == 63  # up to the last picture at 31/16 s
    seen = timeline.streams["camera"]
    assert seen.index[:7].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert seen.num_repeated == 31
    assert seen.largest_age_s == pytest.approx(1 / 32)
    assert timeline.streams["joints"].largest_age_s <= 1 / 1024 + 1e-9
    assert timeline.is_fresh(0.005).tolist()[:4] == [True, False, True, False]


def test_a_pause_is_reported_where_it_matters() -> None:
    camera = np.array([0.0, 0.1, 0.2, 0.7, 0.8, 0.9])
    found = nearest(camera, [0.3, 0.5])
    assert found.gaps == (Gap(0.2, 0.7),)
    assert found.age_s.tolist() == pytest.approx([0.1, -0.2])
    assert found.is_fresh(0.15).tolist() == [True, False]
    assert nearest(camera, [0.75, 0.85]).gaps == ()


@pytest.mark.parametrize(
    ("streams", "rate_hz", "said"),
    [
        ({}, 30, "needs a stream and a rate above 0 Hz; got 0 streams"),
        ({"a": [0, 1]}, 0, "got 1 streams and 0 Hz"),
        ({"a": []}, 30, "a holds no measurement"),
        ({"a": [0, 1, 1]}, 30, r"a: measured_s must rise; measurement 2 is at 1\.0 s, the one before at 1\.0 s"),
        ({"a": [0, float("nan")]}, 30, "a: measured_s must be finite seconds"),
        ({"a": [0, 1], "b": [5, 6]}, 30, r"do not overlap: b starts at 5\.0 s, a ends at 1\.0 s"),
    ],
)
def test_impossible_streams_are_refused(streams: dict[str, list[float]], rate_hz: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        align(streams, rate_hz)
