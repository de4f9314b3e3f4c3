"""Older sets and other stores as LeRobotDataset v3.0: the same numbers, the same pixels."""

from pathlib import Path

import numpy as np
import pytest

from cerebella.data.convert import convert
from cerebella.data.episodes import DataFault
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.measure import measure_columns
from cerebella.data.validate import validate
from cerebella.data.xr0_episodes import COLUMNS, XR0Episodes
from tests.data import lerobot_sets as sets
from tests.data.test_lerobot_faults import half_video, write_nan
from tests.data.test_xr0_episodes import write_set

LENGTHS = (7, 5, 9)


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_an_older_set_keeps_numbers_and_pixels(tmp_path: Path, version: str) -> None:
    old = LeRobotStore(sets.write_v2(tmp_path / "old", LENGTHS, version))
    converted = convert(old, tmp_path / "new")
    new = LeRobotStore(tmp_path / "new")
    assert (converted.num_episodes, converted.num_frames, converted.num_skipped) == (3, 21, 0)
    assert new.info.version == "v3.0"
    assert validate(tmp_path / "new", "all") == []
    for index, length in enumerate(LENGTHS):
        before, after = old.columns(index), new.columns(index)
        assert set(before) == set(after)
        for name, values in before.items():
            np.testing.assert_array_equal(after[name], values)
        pixels = old.frames(index, sets.TOP, 0, length)
        np.testing.assert_array_equal(new.frames(index, sets.TOP, 0, length), pixels)  # packets were copied
    stats = new.stats()
    np.testing.assert_array_equal(stats["action"]["q50"], measure_columns(old).stats["action"]["q50"])
    assert set(stats[sets.TOP]) == set(stats["action"])
    with pytest.raises(ValueError, match=r"is v3\.0 already"):
        convert(new, tmp_path / "again")


def test_a_broken_episode_stops_or_is_left_out(tmp_path: Path) -> None:
    old = sets.write_v2(tmp_path / "old", LENGTHS)
    write_nan(old)
    with pytest.raises(DataFault, match="episode 1: not finite"):
        convert(LeRobotStore(old), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    half_video(old)
    converted = convert(LeRobotStore(old), tmp_path / "new", "skip")
    assert (converted.num_episodes, converted.num_frames, converted.num_skipped) == (2, 16, 1)
    assert {fault.kind for fault in converted.faults} == {"not finite", "corrupt video"}
    new = LeRobotStore(tmp_path / "new")
    np.testing.assert_array_equal(new.columns(1)["action"][0], sets.action(2, 0))
    assert dict(new.tasks) == {0: sets.TASKS[0]}  # the other one was only in the broken episode
    assert sets.is_picture(new.frames(1, sets.TOP, 4, 5)[0], 2, 4)


def test_episodes_of_the_released_post_training_format(tmp_path: Path) -> None:
    (tmp_path / "xr0").mkdir()
    source = XR0Episodes(write_set(tmp_path / "xr0", ("success", "success")), tmp_path / "xr0")
    converted = convert(source, tmp_path / "new", encoding=sets.ENCODING)
    new = LeRobotStore(tmp_path / "new")
    assert (converted.num_episodes, converted.num_frames) == (2, 24)
    assert new.robot_type == "xr0"
    assert new.episode(1).tasks == source.episode(1).tasks
    for name in COLUMNS:
        np.testing.assert_array_equal(new.columns(1)[name], source.columns(1)[name])
    before, after = (store.frames(1, "observations.ego", 2, 9).astype(int) for store in (source, new))
    assert np.abs(before - after).mean() < 4  # encoded anew
    assert validate(tmp_path / "new", "all") == []
