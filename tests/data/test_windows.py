"""Windows are counted from lengths alone, and located again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.data.windows import Run, WindowIndex

lengths = st.lists(st.integers(0, 12), max_size=8)


@given(lengths, st.integers(1, 5), st.data())
def test_every_start_frame_with_enough_rows_is_one_window(frames: list[int], horizon: int, data: st.DataObject) -> None:
    min_valid = data.draw(st.integers(1, horizon))
    index = WindowIndex.of_lengths(frames, horizon, min_valid)
    expected = [(e, s) for e, n in enumerate(frames) for s in range(n) if s + min_valid <= n]
    assert [index.locate(i) for i in range(len(index))] == expected


@given(lengths, st.data())
def test_runs_hold_each_asked_window_once_and_stay_inside_an_episode(frames: list[int], data: st.DataObject) -> None:
    index = WindowIndex.of_lengths(frames, 2)
    asked = data.draw(st.lists(st.integers(0, max(0, len(index) - 1)), unique=True) if len(index) else st.just([]))
    runs = list(index.runs(asked))
    assert [run.first + i for run in runs for i in range(run.length)] == sorted(asked)
    for run in runs:
        assert [index.locate(run.first + i) for i in range(run.length)] == [
            (run.episode, run.start + i) for i in range(run.length)
        ]


def test_neighbours_are_one_run_and_episodes_are_not() -> None:
    index = WindowIndex.of_lengths([4, 1, 5], horizon=2)  # 3, 0 and 4 windows
    assert len(index) == 7
    assert list(index.runs([6, 2, 3, 1])) == [Run(0, 1, 2, 1), Run(2, 0, 1, 3), Run(2, 3, 1, 6)]


def test_a_released_episode_of_30_steps_has_one_window() -> None:
    assert len(WindowIndex.of_lengths([29, 30, 31], 30)) == 0 + 1 + 2


@pytest.mark.parametrize(
    ("lengths", "horizon", "min_valid", "said"),
    [
        ([4], 0, None, "horizon must be 1 row or more; got 0"),
        ([4], 3, 4, r"min_valid must be in 1..3 rows .*; got 4"),
        ([4, -1], 3, None, "episode 1 has a negative length: -1"),
    ],
)
def test_impossible_windows_are_refused(lengths: list[int], horizon: int, min_valid: int | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WindowIndex.of_lengths(lengths, horizon, min_valid)


def test_a_window_beyond_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no window 7; windows are 0\.\.2"):
        WindowIndex.of_lengths([4], 2).locate(7)
