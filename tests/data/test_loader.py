"""What comes out depends on mixture and step alone; faults are named or counted; threads end."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from cerebella.data.episodes import DataFault
from cerebella.data.loader import Loader, MixedBatch
from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.sources import RobotGroup
from tests.data.memory import MemoryStore, Talk, robot_source


def make_mixture(num_lanes: int = 4, batch_size: int = 16) -> Mixture:
    sources = (
        robot_source("a", [40, 25, 60]),
        robot_source("b", [90], robot="other"),
        Talk("t", 11),
    )
    return Mixture(MixtureSpec(sources, (3, 1, 1), 1 / 6, seed=5, num_lanes=num_lanes, shuffle_windows=64), batch_size)


def describe(batch: MixedBatch) -> tuple[list[tuple[str, float, int]], list[str]]:
    """Robot, state and pixel of every sample, and what is talked about; ends of rows in their order."""
    samples = [(s.robot_type, float(s.state[0]), int(s.images["base"][0, 0, 0])) for s in batch.samples]
    return samples, [conversation.turns[0][1] for conversation in batch.conversations]


def take(loader: Loader, num_steps: int) -> list[tuple[list[tuple[str, float, int]], list[str]]]:
    with loader:
        return [describe(next(loader)) for _ in range(num_steps)]


def test_a_sample_is_the_window_that_it_says() -> None:
    with Loader(make_mixture(), num_workers=1) as loader:
        batch = next(loader)
    assert batch.step == 0
    (sample, *_) = batch.by_group()[RobotGroup("toy", "joint")]
    frame = int(sample.state[0]) % 1000
    assert sample.images["base"].dtype == np.uint8
    assert int(sample.images["base"][0, 0, 0]) == frame
    np.testing.assert_array_equal(sample.actions[:, 0], sample.state[0] + [0.5, 1.5, 2.5])
    assert sample.is_valid.all()


def test_workers_do_not_change_the_order() -> None:
    expected = take(Loader(make_mixture(), num_workers=0), 25)
    for num_workers in (1, 3):
        assert take(Loader(make_mixture(), num_workers=num_workers), 25) == expected


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_together_draw_what_one_rank_draws(num_ranks: int) -> None:
    whole = take(Loader(make_mixture(), num_workers=0), 20)
    parts = [take(Loader(make_mixture(), rank, num_ranks, num_workers=1), 20) for rank in range(num_ranks)]
    for step, (samples, talk) in enumerate(whole):
        rows = [parts[rank][step] for rank in range(num_ranks)]
        assert len({(len(s), len(t)) for s, t in rows}) == 1
        assert [row for s, _ in rows for row in s] == samples
        assert [text for _, t in rows for text in t] == talk


@pytest.mark.parametrize("stop", [1, 7, 13])
def test_a_cursor_resumes_exactly(stop: int) -> None:
    whole = take(Loader(make_mixture(), num_workers=1), 20)
    first = Loader(make_mixture(), num_workers=1)
    assert take(first, stop) == whole[:stop]
    rest = Loader(make_mixture(), num_workers=2, cursor=first.cursor())
    assert take(rest, 20 - stop) == whole[stop:]


def test_an_epoch_gives_every_window_once() -> None:
    source = robot_source("a", [22, 32])  # 20 and 30 windows
    with Loader(Mixture(MixtureSpec((source,), shuffle_windows=16), 10)) as loader:
        states = [s.state[0] for _ in range(5) for s in next(loader).samples]
    assert sorted(states) == [1000 * e + f for e, n in enumerate((20, 30)) for f in range(n)]


def test_every_frame_is_decoded_once_per_epoch_in_runs() -> None:
    source = robot_source("a", [130], run_length=16)
    assert isinstance(source.store, MemoryStore)
    with Loader(Mixture(MixtureSpec((source,), shuffle_windows=64), 16), num_workers=0) as loader:
        for _ in range(8):
            next(loader)
    decoded = sorted(source.store.decoded)
    assert [frame for _, start, stop in decoded for frame in range(start, stop)] == list(range(128))
    assert min(stop - start for _, start, stop in decoded) >= 16


def test_a_fault_names_file_and_episode() -> None:
    source = robot_source("a", [40, 40], broken={1: 20})
    said = r"a\.mp4, episode 1: corrupt video: frame 20 does not decode"
    with Loader(Mixture(MixtureSpec((source,)), 4)) as loader, pytest.raises(DataFault, match=said):
        take(loader, 40)


def test_skipped_windows_are_counted_and_their_rows_go_to_others() -> None:
    def run(num_workers: int, steps: Sequence[int], cursor: dict[str, int | str] | None = None) -> tuple:
        mixture = Mixture(MixtureSpec((robot_source("a", [42, 42], broken={1: 20}),), shuffle_windows=40), 8)
        with Loader(mixture, num_workers=num_workers, on_fault="skip", cursor=cursor) as loader:
            rows = [describe(next(loader))[0] for _ in steps]
            return rows, loader.report, loader.cursor()

    rows, report, _ = run(0, range(20))
    assert all(len(row) == 8 for row in rows)
    assert report.num_skipped > 0
    assert [str(fault) for fault in report.faults] == ["a.mp4, episode 1: corrupt video: frame 20 does not decode"]
    assert max(state for row in rows for _, state, _ in row if state >= 1000) < 1020
    assert run(2, range(20))[0] == rows
    _, _, cursor = run(2, range(9))
    assert run(1, range(11), cursor)[0] == rows[9:]


def test_a_pool_without_anything_to_read_is_an_error() -> None:
    source = robot_source("a", [42], broken={0: 0})
    with (
        Loader(Mixture(MixtureSpec((source,)), 4), on_fault="skip") as loader,
        pytest.raises(ValueError, match=r"none of \d+ windows of a can be read: a\.mp4, episode 0"),
    ):
        next(loader)


def test_parts_of_a_batch_are_the_shares_that_ranks_would_get() -> None:
    with Loader(make_mixture(), num_workers=0) as loader:
        batch = [next(loader) for _ in range(7)][-1]
    parts = batch.split(2)
    halves = [take(Loader(make_mixture(), rank, 2, num_workers=0), 7)[-1] for rank in range(2)]
    assert [describe(part) for part in parts] == halves
    assert sum(map(len, batch.by_group().values())) == len(batch.samples)
    with pytest.raises(ValueError, match="4 lanes of this rank do not divide into 3 parts"):
        batch.split(3)


def test_closing_ends_the_threads_and_the_batches() -> None:
    with Loader(make_mixture(), num_workers=2) as loader:
        next(loader)
        assert any("cerebella-loader" in thread.name for thread in threading.enumerate())
    assert not any("cerebella-loader" in thread.name for thread in threading.enumerate())
    with pytest.raises(ValueError, match="the loader is closed"):
        next(loader)


def test_foreign_cursors_and_impossible_ranks_are_refused() -> None:
    with Loader(make_mixture()) as loader:
        cursor = loader.cursor()
    with pytest.raises(ValueError, match="the cursor belongs to the mixture"):
        Loader(make_mixture(batch_size=8), cursor=cursor)
    with pytest.raises(ValueError, match="num_lanes 4 must be a multiple of the number of ranks"):
        Loader(make_mixture(), rank=0, num_ranks=3)
    with pytest.raises(ValueError, match="num_workers must be 0 or more"):
        Loader(make_mixture(), num_workers=-1)
