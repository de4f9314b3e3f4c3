"""Shards in object storage (fsspec's memory): there and back, one range request a run, one shard set per lane."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from cerebella.data.episodes import DataFault
from cerebella.data.loader import Loader
from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.shards import ShardSource, write_shards
from cerebella.data.windows import Run
from cerebella.types import Conversation, Sample

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def url() -> Iterator[str]:
    yield "memory://set"
    if MEMORY.exists("/set"):
        MEMORY.rm("/set", recursive=True)


def sample(i: int, robot: str = "toy") -> Sample:
    generator = np.random.default_rng(i)
    picture = generator.integers(0, 256, (4 + i % 3, 8, 3), dtype=np.uint8)
    actions = generator.normal(size=(5, 2)).astype(np.float32)
    return Sample(
        {"base": picture},
        np.array([i], dtype=np.float32),
        f"do {i}, schön",
        actions,
        actions > 0,
        robot,
        "joint",
        i % 5,
    )


def talk(i: int) -> Conversation:
    pictures = tuple(np.full((4, 4, 3), i, dtype=np.uint8) for _ in range(2))
    return Conversation(pictures, (("user", f"<image><image>{i}"), ("assistant", "yes")), f"made {i}")


def test_samples_come_back_bit_by_bit(url: str) -> None:
    assert write_shards(url, (sample(i) for i in range(10)), records_per_shard=4, picture_format="png") == 10
    source = ShardSource(url)
    assert source.group == ("toy", "joint")
    assert np.diff(source.windows.offsets).tolist() == [4, 4, 2]
    read = [record for run in source.windows.runs(range(10)) for record in source.read(run)]
    for i, record in enumerate(read):
        assert isinstance(record, Sample)
        wanted = sample(i)
        np.testing.assert_array_equal(record.images["base"], wanted.images["base"])
        for name in ("state", "actions", "is_valid"):
            np.testing.assert_array_equal(getattr(record, name), getattr(wanted, name))
        assert (record.prompt, record.num_committed) == (wanted.prompt, wanted.num_committed)


def test_conversations_come_back_and_any_part_of_a_shard_can_be_read(tmp_path: Path) -> None:
    write_shards(str(tmp_path), (talk(i) for i in range(9)), records_per_shard=9)
    source = ShardSource(str(tmp_path))
    assert source.group is None
    read = source.read(Run(0, 3, 4, 3))
    assert [record.turns[0][1] for record in read if isinstance(record, Conversation)] == [
        f"<image><image>{i}" for i in range(3, 7)
    ]
    assert all(abs(int(r.images[1].mean()) - i) < 2 for i, r in enumerate(read, 3) if isinstance(r, Conversation))


def test_a_run_is_one_range_request(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(url, (sample(i) for i in range(20)), records_per_shard=20)
    source = ShardSource(url)
    asked: list[tuple[str, int | None, int | None]] = []
    cat_file = MEMORY.cat_file

    def record(path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        asked.append((path, start, end))
        return cat_file(path, start=start, end=end, **options)

    monkeypatch.setattr(source._filesystem, "cat_file", record)
    source.read(Run(0, 0, 5, 0))
    source.read(Run(0, 5, 15, 5))
    assert [path.rsplit(".", 1)[1] for path, _, _ in asked] == ["index", "tar", "tar"]
    assert asked[1][1] == 0
    assert asked[1][2] == asked[2][1]


def test_each_lane_reads_its_own_shards_once_an_epoch(url: str) -> None:
    write_shards(url, (sample(i) for i in range(24)), records_per_shard=4)
    seen: list[set[int]] = []
    for rank in range(2):
        mixture = Mixture(MixtureSpec((ShardSource(url, run_length=2),), num_lanes=2, shuffle_windows=16), 4)
        with Loader(mixture, rank, 2, num_workers=1) as loader:
            drawn = [int(s.state[0]) for _ in range(6) for s in next(loader).samples]
        assert Counter(drawn) == Counter(set(drawn))
        seen.append(set(drawn))
    assert seen[0] == {i for i in range(24) if i // 4 % 2 == 0}
    assert seen[0] | seen[1] == set(range(24))


def test_fewer_shards_than_lanes_is_an_error(url: str) -> None:
    write_shards(url, (sample(i) for i in range(4)))
    with pytest.raises(ValueError, match="has 1 shards for 2 lanes; write more"):
        Mixture(MixtureSpec((ShardSource(url),), num_lanes=2), 4).lane(0, 0)


def test_damaged_shards_are_named(url: str) -> None:
    write_shards(url, (sample(i) for i in range(8)), records_per_shard=4)
    whole = MEMORY.cat_file("/set/shard-000001.tar")
    run, source = Run(1, 0, 4, 4), ShardSource(url)
    MEMORY.pipe_file("/set/shard-000001.tar", whole[:700])
    with pytest.raises(DataFault, match=r"/set/shard-000001\.tar: wrong length: the bytes 0\.\.\d+ end at 700"):
        source.read(run)
    MEMORY.pipe_file("/set/shard-000001.tar", b"x" * len(whole))
    with pytest.raises(DataFault, match=r"shard-000001\.tar: metadata: after 0 of 4 records"):
        source.read(run)
    MEMORY.rm("/set/shard-000001.tar")
    with pytest.raises(DataFault, match=r"shard-000001\.tar: missing file"):
        source.read(run)
    MEMORY.pipe_file("/set/shard-000001.index", b"123")
    with pytest.raises(DataFault, match=r"shard-000001\.index: wrong length: 3 bytes instead of 40"):
        ShardSource(url).read(run)


def test_unfinished_foreign_and_mixed_sets_are_refused(url: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"memory://set has no shards\.json"):
        ShardSource(url)
    with pytest.raises(ValueError, match="there is no record to write"):
        write_shards(url, [])
    with pytest.raises(ValueError, match="one kind of record; got conversations, toy/joint"):
        write_shards(url, [sample(0), talk(0)])
    write_shards(url, [sample(0)])
    with pytest.raises(ValueError, match="holds shards already"):
        write_shards(url, [sample(0)])
    MEMORY.pipe_file("/set/shards.json", json.dumps({"version": 2}).encode())
    with pytest.raises(ValueError, match="is not of version 1"):
        ShardSource(url)
    MEMORY.pipe_file("/set/shards.json", b"{")
    with pytest.raises(ValueError, match=r"shards\.json is damaged"):
        ShardSource(url)
