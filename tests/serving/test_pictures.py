"""Pictures as compressed files in a message."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cerebella.serving.arrays import pack, unpack
from cerebella.serving.errors import WireError
from cerebella.serving.pictures import decode_picture, encode_picture


def picture(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["raw", "png"])
def test_lossless_formats_come_back_exactly(kind: Any, channels: int) -> None:
    sent = picture(channels)
    back = unpack(pack({"base": encode_picture(sent, kind)}, keys="text"))["base"]
    assert np.array_equal(back, sent)
    assert not back.flags.writeable


def test_jpeg_comes_back_roughly() -> None:
    sent = np.full((16, 16, 3), (200, 30, 90), dtype=np.uint8)
    back = decode_picture(encode_picture(sent, "jpeg"))
    assert np.abs(back.astype(int) - sent).max() < 8


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8)]
)
def test_only_pictures_are_sent(bad: Any) -> None:
    with pytest.raises(ValueError, match="a picture must be"):
        encode_picture(bad)


def test_a_jpeg_has_three_channels() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        encode_picture(picture(1), "jpeg")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "gif"}, "schema"),
        ({"format": None}, "schema"),
        ({"data": "text"}, "schema"),
        ({"data": b"no picture"}, "syntax"),
        ({"shape": [5, 7]}, "schema"),
        ({"shape": [5, 7, 3.0]}, "schema"),
        ({"shape": [5, 7, 4]}, "schema"),
        ({"shape": [7, 5, 3]}, "schema"),
        ({"shape": [1 << 20, 1 << 20, 3]}, "size"),
        ({"format": "jpeg"}, "syntax"),  # the bytes are a png: the announced decoder is the only one tried
        ({"format": "raw"}, "schema"),
    ],
)
def test_wrong_pictures_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError) as refused:
        decode_picture(encode_picture(picture()) | change)
    assert refused.value.reason == reason


def test_a_cut_file_is_refused() -> None:
    fields = encode_picture(picture())
    with pytest.raises(WireError, match="not a readable"):
        decode_picture(fields | {"data": fields["data"][:-30]})


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused_unread() -> None:
    buffer = io.BytesIO()
    Image.new("L", (6000, 6000)).save(buffer, format="PNG")
    assert len(buffer.getvalue()) < 200_000
    with pytest.raises(WireError) as refused:
        decode_picture({"__image__": True, "format": "png", "data": buffer.getvalue(), "shape": [6000, 6000, 1]})
    assert refused.value.reason == "size"
    with pytest.raises(WireError, match="announced as 8 x 8 and is 6000 x 6000"):
        decode_picture({"__image__": True, "format": "png", "data": buffer.getvalue(), "shape": [8, 8, 1]})
