"""Conversations in JSON lines: there and back, other people's spellings, and faults with their line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cerebella.data.episodes import DataFault
from cerebella.data.loader import Loader
from cerebella.data.mixture import Mixture, MixtureSpec
from cerebella.data.records import RecordSource, read_record, write_records
from cerebella.data.windows import Run
from cerebella.types import Conversation

TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def conversations(count: int) -> list[Conversation]:
    return [
        Conversation(
            tuple(picture(10 * i + j) for j in range(i % 3)),
            (("user", "<image>" * (i % 3) + f"question {i} in Überlänge"), ("assistant", f"answer {i}")),
            f"made {i}",
        )
        for i in range(count)
    ]


def test_what_is_written_is_read_pixel_by_pixel(tmp_path: Path) -> None:
    written = conversations(5)
    path = tmp_path / "talk.jsonl"
    assert write_records(path, written) == 5
    source = RecordSource(path)
    assert len(source.windows) == 5
    for index, expected in enumerate(written):
        (read,) = source.read(Run(0, index, 1, index))
        assert read.turns == expected.turns
        assert read.source == f"{path}, line {index + 1}"
        for got, wanted in zip(read.images, expected.images, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_mixture_draws_every_record_once_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    write_records(path, conversations(8), "jpg")
    with Loader(Mixture(MixtureSpec((RecordSource(path),), num_lanes=2), 4)) as loader:
        drawn = [talk.turns[1][1] for _ in range(2) for talk in next(loader).conversations]
    assert sorted(drawn) == [f"answer {i}" for i in range(8)]


@pytest.mark.parametrize("image", ["a.png", ["a.png"]])
def test_other_spellings_and_blank_lines_are_read(tmp_path: Path, image: object) -> None:
    Image.fromarray(picture(0)).convert("RGBA").save(tmp_path / "a.png")
    turns = [{"from": "user", "value": "<image>?"}, {"from": "assistant", "value": "yes"}]
    record = {"id": 7, "image": image, "conversations": turns}
    path = tmp_path / "x.jsonl"
    path.write_text("\n" + json.dumps(record) + "\n\n" + json.dumps({"conversations": TURNS[:0]}))
    source = RecordSource(path)
    assert len(source.windows) == 2
    (read,) = source.read(Run(0, 0, 1, 0))
    np.testing.assert_array_equal(read.images[0], picture(0))
    assert read.turns == (("user", "<image>?"), ("assistant", "yes"))
    with pytest.raises(DataFault, match=r"line 4: metadata: .* turns must be pairs"):
        source.read(Run(0, 1, 1, 1))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object; got a list"),
        ({"image": 3, "conversations": TURNS}, "'image' must be a path or a list of paths; got 3"),
        ({"image": "a.png"}, r"'conversations' must be a list of turns; it has \['image'\]"),
        ({"conversations": [{"from": "system", "value": "x"}]}, r"'from' \(human, user, gpt, assistant\)"),
        ({"conversations": TURNS}, "0 pictures, but 1 times <image>"),
        ({"image": "none.png", "conversations": TURNS}, r"missing file: there is no picture .*none\.png"),
        ({"image": "broken.png", "conversations": TURNS}, r"the picture .*broken\.png cannot be read"),
        ({"image": "a.png", "conversations": TURNS[::-1]}, "turn 0 must be of the user"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, record: Any, said: str) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    line = record if isinstance(record, str) else json.dumps(record)
    with pytest.raises(DataFault, match=rf"x\.jsonl, line 4: .*{said}"):
        read_record(line, tmp_path, "x.jsonl, line 4")


@pytest.mark.parametrize(("content", "said"), [("", "holds no record"), ("[{}]", "is a JSON list; write one record")])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        RecordSource(path)
