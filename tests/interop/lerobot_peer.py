"""Runs under another interpreter, the one that has `lerobot`: reads and writes sets as that project does.

python lerobot_peer.py versions
python lerobot_peer.py read DIR OUT.npz        every frame of a set, and its statistics
python lerobot_peer.py write DIR CONTENT.npz   a set from arrays
python lerobot_peer.py upgrade PARENT NAME     v2.1 to v3.0, in place
"""

import importlib
import json
import sys
from typing import Any

import numpy as np


def versions() -> None:
    names = ("lerobot", "datasets", "av", "torch", "torchvision", "pyarrow", "numpy")
    print(json.dumps({name: importlib.import_module(name).__version__ for name in names}))


def read(directory: str, out: str) -> None:
    data_set = _data_set_class()(
        "peer/set", root=directory, video_backend="pyav", delta_timestamps={"action": [0, 1 / 30]}
    )
    rows = [data_set[i] for i in range(len(data_set))]
    arrays: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, str):
            arrays[name] = np.array(values)
        elif data_set.features.get(name, {}).get("dtype") in ("image", "video"):
            arrays[name] = np.stack(
                [(value.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for value in values]
            )
        else:
            arrays[name] = np.stack([value.numpy() for value in values])
    for feature, summary in data_set.meta.stats.items():
        arrays |= {f"stats/{feature}/{key}": np.asarray(value) for key, value in summary.items()}
    np.savez(out, **arrays)


def write(directory: str, content: str) -> None:
    arrays = np.load(content)
    features: dict[str, Any] = {}
    for name, dtype in json.loads(str(arrays["features"])).items():
        names = ["height", "width", "channels"] if dtype in ("image", "video") else None
        features[name] = {"dtype": dtype, "shape": arrays[name].shape[1:], "names": names}
    data_set = _data_set_class().create("peer/set", 30, features, root=directory, robot_type="peer_arm")
    for episode in np.unique(arrays["episode"]):
        for row in np.flatnonzero(arrays["episode"] == episode):
            frame = {name: arrays[name][row] for name in features}
            data_set.add_frame({**frame, "task": str(arrays["task"][row])})
        data_set.save_episode()
    data_set.finalize()


def upgrade(parent: str, name: str) -> None:
    module = importlib.import_module("lerobot.datasets.v30.convert_dataset_v21_to_v30")
    module.convert_dataset(name, root=parent, push_to_hub=False)


def _data_set_class() -> Any:
    return importlib.import_module("lerobot.datasets.lerobot_dataset").LeRobotDataset


if __name__ == "__main__":
    {"versions": versions, "read": read, "write": write, "upgrade": upgrade}[sys.argv[1]](*sys.argv[2:])
