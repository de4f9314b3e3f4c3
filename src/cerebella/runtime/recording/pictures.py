"""Camera pictures of a recording: compressed to be seen, and a digest so that a frozen camera is still one in a replay.

An executor asks of a picture only whether it is the same as the one before. A stand-in made from the digest answers that
as the picture itself did, so a replay needs no picture at all.
"""

import io
import zlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from cerebella.runtime.recording.messages import PICTURE, pack, unpack
from cerebella.types import ImageArray

PictureFormat = Literal["jpeg", "png", "none"]
PICTURE_FORMATS: tuple[str, ...] = get_args(PictureFormat)
_JPEG_QUALITY = 90
_NUM_ROWS = 16  # as runtime.camera_check
_NS = 1_000_000_000


@dataclass(frozen=True)
class Camera:
    """What a recording knows about one picture of one observation.

    Args:
        view: its camera. height, width: pixels.
        digest: see `digest`.
        is_stored: the picture itself is in the file.
    """

    view: str
    height: int
    width: int
    digest: int
    is_stored: bool

    @classmethod
    def of(cls, view: str, image: ImageArray, is_stored: bool) -> "Camera":
        """The camera of a picture, uint8[h, w, 3]."""
        return cls(view, image.shape[0], image.shape[1], digest(image), is_stored)

    def to_fields(self) -> dict[str, Any]:
        """As fields of a message."""
        return {
            "view": self.view,
            "height": self.height,
            "width": self.width,
            "digest": self.digest,
            "is_stored": self.is_stored,
        }

    @classmethod
    def from_fields(cls, fields: Any) -> "Camera":
        """What `to_fields` gave.

        Raises:
            ValueError: a picture without pixels.
        """
        if fields.height < 1 or fields.width < 1:
            raise ValueError(f"the picture of {fields.view!r} has {fields.height} x {fields.width} pixels")
        return cls(fields.view, fields.height, fields.width, fields.digest, fields.is_stored)


def digest(image: ImageArray) -> int:
    """64 bits of the rows that a camera check looks at (16 of them): two checksums, some microseconds."""
    pixels = np.ascontiguousarray(image[:: max(1, len(image) // _NUM_ROWS)]).data
    return zlib.crc32(pixels) << 32 | zlib.adler32(pixels)


def stand_in(camera: Camera) -> ImageArray:
    """A picture of the right size that equals another stand-in just when their digests are equal (from 3 pixels on)."""
    tag = np.frombuffer(camera.digest.to_bytes(8, "little"), dtype=np.uint8)
    image = np.zeros(camera.height * camera.width * 3, dtype=np.uint8)
    image[: len(tag)] = tag[: len(image)]
    return image.reshape(camera.height, camera.width, 3)


def encode_picture(image: ImageArray, view: str, time_ns: int, picture_format: PictureFormat) -> bytes:
    """A picture as the message that viewers show; `png` keeps every pixel, `jpeg` is small and fast."""
    buffer = io.BytesIO()
    if picture_format == "png":
        Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    else:
        Image.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    stamp = {"seconds": time_ns // _NS, "nanos": time_ns % _NS}
    return pack(PICTURE, {"timestamp": stamp, "frame_id": view, "data": buffer.getvalue(), "format": picture_format})


def decode_picture(data: bytes) -> ImageArray:
    """The pixels, uint8[h, w, 3].

    Raises:
        ValueError: no picture.
    """
    fields = unpack(PICTURE, data)
    try:
        with Image.open(io.BytesIO(fields.data)) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:  # what PIL raises for bytes that are no picture
        raise ValueError(f"the picture of {fields.frame_id!r} cannot be decoded: {error}") from error
