"""A data set is known by what lies in it."""

from pathlib import Path

import pytest

from cerebella.data.formats import is_shards, open_store
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.xr0_episodes import XR0Episodes
from tests.data import lerobot_sets as sets
from tests.data.test_xr0_episodes import write_set


def test_every_format_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "xr0").mkdir()
    assert isinstance(open_store(sets.write_v3(tmp_path / "v3")), LeRobotStore)
    assert isinstance(open_store(sets.write_v2(tmp_path / "v2")), LeRobotStore)
    assert isinstance(open_store(write_set(tmp_path / "xr0"), tmp_path / "xr0"), XR0Episodes)
    assert not is_shards(str(tmp_path / "v3"))
    assert is_shards("s3://bucket/shards")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard-000000.tar").touch()
    assert is_shards(str(tmp_path / "shards"))


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    (tmp_path / "demos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no data set '.*demo'. Did you mean '.*demos'\?"):
        open_store(tmp_path / "demo")
    with pytest.raises(FileNotFoundError, match=r"demos is no data set: it has neither meta/info.json"):
        open_store(tmp_path / "demos")
