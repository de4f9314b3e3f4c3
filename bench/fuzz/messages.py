"""Hostile messages of each dialect, from a seed: random bytes, mutated and cut valid ones, wrong schemas, pickles."""

import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from PIL import Image

from cerebella.serving.arrays import pack
from cerebella.serving.exchange import request_message
from cerebella.serving.npz import pack_npz
from cerebella.serving.pictures import encode_picture
from cerebella.types import Observation

from .hostile_pickles import hostile_pickles
from .trees import odd_value, packed, spoiled

DIALECTS = ("openpi", "vla_eval", "xiaomi_npz", "xiaomi_pickle")
CATEGORIES = ("random", "mutated", "truncated", "wrong schema", "pickle", "oversized", "half frame")
WEIGHTS = (15, 30, 10, 30, 12, 0.05, 2.95)
STATE = np.linspace(-0.5, 0.5, 8).astype(np.float32)
PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
PREFIX = np.zeros((2, 7), dtype=np.float32)


class Messages:
    """A stream of hostile messages.

    Args:
        dialect: one of `DIALECTS`. seed: decides everything. canary: file that an executed pickle creates.
    """

    def __init__(self, dialect: str, seed: int, canary: Path) -> None:
        self._rng = random.Random(f"{dialect} {seed}")
        self._dialect = dialect
        self._valid = valid_messages(dialect)
        self._pickles = hostile_pickles(canary)
        self._make: dict[str, Callable[[], bytes]] = {
            "random": self._random,
            "mutated": self._mutated,
            "truncated": self._truncated,
            "wrong schema": self._wrong_schema,
            "pickle": self._pickle,
        }

    def category(self) -> str:
        """What comes next; `oversized` and `half frame` are the business of whoever writes to the socket."""
        return self._rng.choices(CATEGORIES, WEIGHTS)[0]

    def message(self, category: str) -> bytes:
        """A whole message."""
        return self._make[category]()

    def half_frame(self) -> bytes:
        """Bytes that begin a conversation and never go on: not a whole frame, or no frame of this transport at all."""
        message = self.message(self._rng.choice(("mutated", "random")))
        if self._dialect in ("openpi", "vla_eval"):
            length = len(message)
            head = bytes([0x82, 0xFE]) + length.to_bytes(2, "big") + bytes(4)
            kinds = [head + message[: length // 2], head[:3], bytes([self._rng.randrange(256)]) + message, b"\x02\x80"]
        else:
            head = len(message).to_bytes(4, "big")
            kinds = [head + message[: len(message) // 2], head[:2], b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"]
        return self._rng.choice(kinds)

    def _random(self) -> bytes:
        return self._rng.randbytes(self._rng.choice((0, 1, 4, 40, 400)))

    def _mutated(self) -> bytes:
        data = bytearray(self._rng.choice(self._valid))
        for _ in range(self._rng.randint(1, 6)):
            at = self._rng.randrange(len(data) + 1)
            kind = self._rng.randrange(4)
            if kind < 2 and at < len(data):
                data[at] = self._rng.randrange(256)
            elif kind == 2:
                data[at:at] = self._rng.randbytes(self._rng.randrange(1, 9))
            else:
                data[at : at + self._rng.randrange(1, 9)] = b""
        return bytes(data)

    def _truncated(self) -> bytes:
        data = self._rng.choice(self._valid)
        return data[: self._rng.randrange(len(data))]

    def _wrong_schema(self) -> bytes:
        if self._dialect in ("openpi", "vla_eval"):
            valid = msgpack.unpackb(self._rng.choice(self._valid), strict_map_key=False)
            return packed(spoiled(self._rng, valid))
        arrays = observation_arrays() if self._dialect == "xiaomi_npz" else pickled_observation()
        for _ in range(self._rng.randint(1, 3)):
            key = self._rng.choice(list(arrays))
            if self._rng.random() < 0.3:
                del arrays[key]
            else:
                arrays[key if self._rng.random() < 0.8 else key + "_"] = odd_array(self._rng)
            if not arrays:
                break
        if self._dialect == "xiaomi_pickle":
            return pickle.dumps(self._rng.choice((arrays, arrays, [arrays])), protocol=self._rng.randrange(6))
        return self._odd_archive(arrays)

    def _odd_archive(self, arrays: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        arrays = {key: _as_array(value) for key, value in arrays.items()}
        kind = self._rng.randrange(4)
        if kind == 0:
            np.savez_compressed(buffer, allow_pickle=True, **arrays)
        elif kind == 1:
            with zipfile.ZipFile(buffer, "w", self._rng.choice((0, 8, 12, 14))) as archive:
                archive.writestr(self._rng.choice(("state.npy", "../../x", "x/")), self._rng.choice(self._pickles))
        else:
            np.savez(buffer, allow_pickle=True, **arrays)
        return buffer.getvalue()

    def _pickle(self) -> bytes:
        """Bare, or where the dialect carries bytes."""
        data = self._rng.choice(self._pickles)
        if self._rng.random() < 0.5 or self._dialect == "xiaomi_pickle":
            return data
        if self._dialect == "xiaomi_npz":
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=True, state=np.array([pickle.PickleBuffer, data], dtype=object))
            return buffer.getvalue()
        array = {"__ndarray__": True, "data": data, "dtype": self._rng.choice(("|O", "O8", "<f4")), "shape": [1]}
        if self._dialect == "openpi":
            return packed({"state": array, "prompt": data, "images": {"base": array}, "seq": 1})
        payload = {"states": array, "images": {"agentview": data, "wrist": array}, "task_description": data}
        return packed({"type": "observation", "payload": payload, "seq": 1, "timestamp": 0.0})


def valid_messages(dialect: str) -> list[bytes]:
    """What a good client sends."""
    if dialect == "openpi":
        observation = Observation(STATE, "Go.", 3, 0.5, {"base": PIXELS, "left_wrist": PIXELS})
        foreign = {"observation/image": PIXELS, "observation/wrist_image": PIXELS, "observation/state": STATE}
        return [
            request_message(7, observation, PREFIX, session="a", deadline_s=0.2),
            request_message(8, observation, PREFIX[:0]),
            pack({**foreign, "prompt": "Go."}),
            pack({"reset": True, "seq": 9}),
        ]
    if dialect == "vla_eval":
        pictures = {"agentview": encode_picture(PIXELS), "wrist": encode_picture(PIXELS, "jpeg")}
        payload = {"images": pictures, "states": STATE, "task_description": "Go."}
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("observation", payload),
            ("observation", {**payload, "images": {"agentview": PIXELS, "wrist": PIXELS}}),
            ("episode_start", {"task": {"name": "Go."}, "mode": "live"}),
            ("episode_start", {"task": {"name": "Go."}}),
            ("episode_end", {"metrics": {"success": True}}),
            ("hello", {"harness_version": "0.8.0", "protocol_version": 1}),
        ]
        return [pack({"type": k, "payload": p, "seq": 1, "timestamp": 0.0}, keys="text") for k, p in kinds]
    if dialect == "xiaomi_npz":
        prefix = {"action": PREFIX, "prefix_length": np.array(2)}
        return [pack_npz(observation_arrays()), pack_npz(observation_arrays() | prefix)]
    return [pickle.dumps(pickled_observation(), protocol=protocol) for protocol in (4, 5)]


def observation_arrays() -> dict[str, Any]:
    """An observation as `xiaomi_npz` takes it."""
    return {"state": STATE, "prompt": np.array("Go."), "image/base": PIXELS, "image/left_wrist": PIXELS}


def pickled_observation() -> dict[str, Any]:
    """An observation as the released Xiaomi-Robotics-0 client makes it."""
    state = np.concatenate([STATE, np.zeros(24)])
    pictures = {"base": Image.fromarray(PIXELS), "wrist_left": Image.fromarray(PIXELS)}
    return {"task_id": "libero_all", "state": state, **pictures, "language": "Go.", "seed": 7}


def _as_array(value: Any) -> Any:
    """An array, of objects where NumPy has no other."""
    if not isinstance(value, list | dict | tuple):
        return np.asarray(value)
    box = np.empty((), dtype=object)
    box[()] = value
    return box


def odd_array(rng: random.Random) -> Any:
    """An array that belongs nowhere."""
    kinds: list[Any] = [
        np.zeros(rng.choice((0, 1, 7, 9))),
        np.full(8, rng.choice((np.nan, np.inf, 1e300))),
        np.zeros((8, 8, 8), dtype=rng.choice(("u1", "f4", "c8", "M8[s]", "S3", "U3"))),
        np.array([{"a": 1}, None], dtype=object),
        np.array("\ud800"),
        np.array(rng.randrange(-5, 5)),
        np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
        np.asfortranarray(np.zeros((3, 2), dtype=">f4")),
        np.float64(3),
    ]
    value = odd_value(rng)
    return rng.choice([*kinds, value if not isinstance(value, msgpack.ExtType) else None])
