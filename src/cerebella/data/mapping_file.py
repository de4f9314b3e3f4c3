"""A `DatasetMap` in a JSON file: what names alone cannot say, e.g. slices, rotations, the ends of a gripper.

    {
      "state":  [{"column": "observation.state", "start": 0, "stop": 3, "names": ["x", "y", "z"], "unit": "mm"},
                 {"column": "observation.state", "start": 3, "stop": 7, "names": ["rx", "ry", "rz"], "rotation": "quat_xyzw"}],
      "action": [{"column": "action", "start": 0, "stop": 1, "names": ["gripper"], "gripper_ends": [0.8, 0.0]}],
      "views":  {"base": "observation.images.top"},
      "prompt": "task_index"
    }

`prompt` (a column) or `fixed_prompt` (one instruction for all) may be left out: then the task of each frame counts. `sent` (a column)
may say where the set keeps what was really sent.
"""

from pathlib import Path
from typing import Any

from cerebella.data.mapping import DatasetMap
from cerebella.data.slices import Slice
from cerebella.embodiment import Embodiment, read_json_object

_FIELDS = ("state", "action", "views", "prompt", "fixed_prompt", "sent")


def read_map(path: Path, embodiment: Embodiment) -> DatasetMap:
    """The map in a file, for one embodiment.

    Raises:
        FileNotFoundError: no such file. ValueError: a field is missing, unknown or does not fit the embodiment; names the
            file.
    """
    fields = read_json_object(path)
    if unknown := [name for name in fields if name not in _FIELDS]:
        raise ValueError(f"{path} is no map: unknown field {unknown[0]!r}; known fields: {', '.join(_FIELDS)}")
    try:
        slices = {what: tuple(_slice(entry) for entry in fields.pop(what)) for what in ("state", "action")}
        return DatasetMap(**slices, **{"views": {}, **fields}, embodiment=embodiment)
    except KeyError as error:
        raise ValueError(f"{path} is no map: the field {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no map for {embodiment.name!r}: {error}") from error


def _slice(entry: dict[str, Any]) -> Slice:
    ends = entry.get("gripper_ends")
    return Slice(**{**entry, "names": tuple(entry["names"]), "gripper_ends": None if ends is None else tuple(ends)})
