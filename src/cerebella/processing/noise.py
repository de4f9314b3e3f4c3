"""The seed of the initial noise: ours, and the one that the released clients derive from a request."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from cerebella.types import Observation


def noise_seed(observation: Observation) -> int:
    """A 32-bit seed from what was observed (state, images, instruction).

    The prefix takes no part, so asynchronous and synchronous runs meet the same noise on the same observation.
    """
    digest = hashlib.sha256(observation.prompt.encode())
    digest.update(observation.state.tobytes())
    for view in sorted(observation.images):
        digest.update(view.encode())
        digest.update(observation.images[view].tobytes())
    return int.from_bytes(digest.digest()[:4], "big")


def released_noise_seed(request: Mapping[str, Any]) -> int:
    """SHA-256 of a canonical JSON of the request, modulo 2**32 (`hash_data_to_seed` of the released clients).

    The released LIBERO and CALVIN clients hash {task_id, state, base, wrist_left, language} before they append the final
    "." to the instruction; the SimplerEnv client hashes {task_id, state, language, base} with the whole prompt in place.

    Args:
        request: text, numbers, lists, nested mappings, NumPy arrays (dtype, shape and bytes count) and PIL images (mode,
            size and raw pixels count). The order of keys does not matter; the type of every array does.

    Raises:
        TypeError: a value of another type, named.
    """
    text = json.dumps(dict(request), default=_describe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[-4:], "big")


def _describe(value: object) -> dict[str, Any]:
    """What stands for a value that JSON does not know. The keys are an interface constant of the released clients."""
    if isinstance(value, np.ndarray):
        contents = value.tobytes().hex()
        return {"__type__": "numpy", "dtype": str(value.dtype), "shape": value.shape, "data": contents}
    if isinstance(value, Image.Image):
        digest = hashlib.md5(value.tobytes(), usedforsecurity=False).hexdigest()
        return {"__type__": "PIL.Image", "mode": value.mode, "size": value.size, "content_hash": digest}
    raise TypeError(f"a noise seed needs text, numbers, arrays and PIL images; got {type(value).__name__}: {value!r}")
