"""Pictures as maps with their compressed bytes, as vla-eval sends them (its `protocol/image_codec.py`):

{"__image__": true, "format": "png" | "jpeg", "data": file, "shape": [h, w, 3]}
{"__image__": true, "format": "raw", "data": raw bytes, "dtype": "|u1", "shape": [h, w, 3]}
"""

import io
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cerebella.serving.errors import WireError

PictureFormat = Literal["raw", "png", "jpeg"]

MAX_PIXELS = 1 << 24
"""A larger picture is refused before it is unpacked, however small its file is."""
_PILLOW_FORMATS = {"png": "PNG", "jpeg": "JPEG"}
_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def encode_picture(picture: NDArray[np.uint8], kind: PictureFormat = "png") -> dict[str, Any]:
    """A map for uint8[h, w, 3] (or 1 or 4 channels, not as jpeg).

    Raises:
        ValueError: not such a picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or not picture.size:
        raise ValueError(f"a picture must be uint8[h, w, 1, 3 or 4]; got {picture.dtype}{list(picture.shape)}")
    head = {"__image__": True, "format": kind, "shape": list(picture.shape)}
    if kind == "raw":
        return head | {"data": picture.tobytes(), "dtype": picture.dtype.str}
    if kind == "jpeg" and picture.shape[2] != 3:
        raise ValueError(f"a jpeg has 3 channels; got {picture.shape[2]}")
    buffer = io.BytesIO()
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    image.save(buffer, format=_PILLOW_FORMATS[kind], quality=95)
    return head | {"data": buffer.getvalue()}


def decode_picture(fields: Mapping[Any, Any]) -> NDArray[np.uint8]:
    """uint8[h, w, c], read-only; keys may be text or binary.

    Raises:
        WireError: an unknown format, a damaged file, more than `MAX_PIXELS`, or another shape than announced.
    """
    kind, data, shape = (fields.get(key, fields.get(key.encode())) for key in ("format", "data", "shape"))
    is_shape = isinstance(shape, list) and len(shape) == 3 and all(type(size) is int and size > 0 for size in shape)
    if not isinstance(data, bytes) or not is_shape or shape[2] not in (1, 3, 4):
        raise WireError("a picture needs data (bytes) and shape [h, w, c]")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise WireError(f"a picture has {shape[0]} x {shape[1]} pixels; at most {MAX_PIXELS} are accepted", "size")
    if kind == "raw":
        if len(data) != math.prod(shape):
            raise WireError(f"a raw picture of shape {shape} must have {math.prod(shape)} bytes; got {len(data)}")
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)
    if kind not in _PILLOW_FORMATS:
        raise WireError(f"a picture has the format {str(kind)[:20]!r}; known: raw, png, jpeg")
    picture = _decode_file(data, _PILLOW_FORMATS[kind], (shape[1], shape[0]))
    if list(picture.shape) != shape:
        raise WireError(f"a picture is announced as {shape} and is {list(picture.shape)}")
    picture.flags.writeable = False
    return picture


def _decode_file(data: bytes, kind: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pillow is told which decoder to use, and the size is compared before any pixel is unpacked."""
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.size != size:
                raise WireError(
                    f"a picture is announced as {size[0]} x {size[1]} and is {image.size[0]} x {image.size[1]}"
                )
            if image.mode not in _CHANNELS:
                image = image.convert("RGB")
            pixels = np.array(image, dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, EOFError, ValueError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"a picture is not a readable {kind} file", "syntax") from error
    return pixels.reshape(*pixels.shape[:2], -1)
