"""Vision-language conversations in JSON lines, as LLaVA, Qwen and their descendants write them, in and out.

One record a line: `{"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt",
"value": "..."}]}`. `image` is a path, a list of paths, or absent; relative paths start at the folder of the file.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from cerebella.data.episodes import DataFault
from cerebella.data.windows import Run, WindowIndex
from cerebella.types import Conversation, ImageArray, Role

_ROLES: Mapping[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_NAMES: Mapping[Role, str] = {"user": "human", "assistant": "gpt"}


class RecordSource:
    """The records of one file as a source of a mixture. Holds where each line starts, 16 bytes a record.

    Args:
        path: the JSON lines. image_root: where relative image paths start; the folder of the file if not given.
        name: the path if not given.

    Raises:
        FileNotFoundError: no such file. ValueError: it holds no record, or is a JSON list instead of lines.
    """

    group = None
    run_length = 1

    def __init__(self, path: Path, image_root: Path | None = None, name: str | None = None) -> None:
        self.path, self.name = path, str(path) if name is None else name
        self.image_root = path.parent if image_root is None else image_root
        starts: list[int] = []
        numbers: list[int] = []
        position = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    starts.append(position)
                    numbers.append(number)
                position += len(line)
                if number == 1 and line.lstrip().startswith(b"["):
                    raise ValueError(f"{path} is a JSON list; write one record per line (JSON lines)")
        if not starts:
            raise ValueError(f"{path} holds no record")
        self._starts, self._numbers = np.array(starts, dtype=np.int64), np.array(numbers, dtype=np.int64)
        self.windows = WindowIndex(np.array([0, len(starts)], dtype=np.int64))

    def part(self, lane: int, num_lanes: int) -> None:
        """Every lane draws from all records."""

    def read(self, run: Run) -> list[Conversation]:
        """Neighbouring records.

        Raises:
            DataFault: a record is malformed, or a picture is missing or broken; names the line.
        """
        records = []
        with self.path.open("rb") as file:
            for index in range(run.first, run.first + run.length):
                file.seek(self._starts[index])
                where = f"{self.path}, line {self._numbers[index]}"
                records.append(read_record(file.readline(), self.image_root, where))
        return records


def read_record(line: str | bytes, image_root: Path, where: str) -> Conversation:
    """One line as a conversation with its pictures.

    Args:
        where: what to call it in messages.

    Raises:
        DataFault: see `RecordSource.read`.
    """
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataFault("metadata", where, None, f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataFault("metadata", where, None, f"a record must be a JSON object; got a {type(record).__name__}")
    paths = record.get("image", [])
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise DataFault("metadata", where, None, f"'image' must be a path or a list of paths; got {paths!r}")
    turns = _turns(record, where)
    images = tuple(_picture(image_root / path, where) for path in paths)
    try:
        return Conversation(images, turns, where)
    except ValueError as error:
        raise DataFault("metadata", where, None, str(error)) from error


def write_records(
    path: Path, conversations: Iterable[Conversation], image_format: Literal["png", "jpg"] = "png"
) -> int:
    """Write JSON lines, and the pictures into `images/` beside them; returns the number of records.

    `png` keeps every pixel, `jpg` (quality 95) is smaller. An existing file is replaced.
    """
    folder = path.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, conversation in enumerate(conversations, start=1):
            names = [f"{path.stem}-{count - 1:08d}-{i}.{image_format}" for i in range(len(conversation.images))]
            for name, image in zip(names, conversation.images, strict=True):
                Image.fromarray(image).save(folder / name, quality=95)
            turns = [{"from": _NAMES[role], "value": text} for role, text in conversation.turns]
            pictures = {"image": [f"images/{name}" for name in names]} if names else {}
            file.write(json.dumps({**pictures, "conversations": turns}, ensure_ascii=False) + "\n")
    return count


def _turns(record: Mapping[str, object], where: str) -> tuple[tuple[Role, str], ...]:
    entries = record.get("conversations")
    if not isinstance(entries, list):
        raise DataFault("metadata", where, None, f"'conversations' must be a list of turns; it has {sorted(record)}")
    turns: list[tuple[Role, str]] = []
    for entry in entries:
        speaker, text = (entry.get("from"), entry.get("value")) if isinstance(entry, dict) else (None, None)
        if not (isinstance(speaker, str) and speaker in _ROLES and isinstance(text, str)):
            detail = f"a turn must have 'from' ({', '.join(_ROLES)}) and 'value' (text); got {str(entry)[:200]}"
            raise DataFault("metadata", where, None, detail)
        turns.append((_ROLES[speaker], text))
    return tuple(turns)


def _picture(path: Path, where: str) -> ImageArray:
    """uint8[h, w, 3] RGB."""
    if not path.is_file():
        raise DataFault("missing file", where, None, f"there is no picture {path}")
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # what Pillow raises for broken files
        raise DataFault("corrupt video", where, None, f"the picture {path} cannot be read: {error}") from error
