"""Encode, join, and decode exactly the frames that were asked for."""

from pathlib import Path

import numpy as np
import pytest

from cerebella.data.episodes import DataFault
from cerebella.data.video import (
    VideoEncoder,
    VideoEncoding,
    decode_range,
    default_encoding,
    frame_times,
    join_videos,
    video_facts,
)
from tests.data import lerobot_sets as sets

ENCODINGS = [default_encoding(), VideoEncoding("libx264", keyframe_every=30, crf=18, preset="veryfast")]


def encode(path: Path, episode: int, length: int, encoding: VideoEncoding, fps: float = 30) -> Path:
    with VideoEncoder(path, 32, 48, fps, encoding) as encoder:
        for frame in range(length):
            encoder.add(sets.picture(episode, frame))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: f"{encoding.codec}-{encoding.keyframe_every}")
@pytest.mark.parametrize("fps", [30.0, 15.0, 29.97])
def test_joined_files_hold_every_frame_at_its_time(tmp_path: Path, encoding: VideoEncoding, fps: float) -> None:
    lengths = [7, 1, 12]
    parts = [encode(tmp_path / f"{i}.mp4", i, length, encoding, fps) for i, length in enumerate(lengths)]
    joined = tmp_path / "joined.mp4"
    join_videos(parts, lengths, fps, joined)
    assert np.allclose(frame_times(joined), np.arange(20) / fps, atol=1e-3)
    first = 0
    for episode, length in enumerate(lengths):
        frames = decode_range(joined, first / fps, length, fps, episode)
        assert all(sets.is_picture(frame, episode, number) for number, frame in enumerate(frames))
        first += length
    middle = decode_range(joined, 11 / fps, 3, fps, None)
    assert [sets.is_picture(frame, 2, 3 + i) for i, frame in enumerate(middle)] == [True] * 3


def test_the_default_is_what_lerobot_uses_where_possible(tmp_path: Path) -> None:
    encoding = default_encoding()
    facts = video_facts(encode(tmp_path / "video.mp4", 0, 3, encoding), encoding)
    assert facts["video.codec"] == {"libsvtav1": "av1", "libx264": "h264"}[encoding.codec]
    assert (facts["video.height"], facts["video.width"], facts["video.fps"]) == (32, 48, 30)
    assert facts["video.pix_fmt"] == "yuv420p"
    with pytest.raises(ValueError, match="no encoder 'nonsense'; try one of: lib"):
        VideoEncoding("nonsense")


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.codec)
def test_damage_is_found_and_named(tmp_path: Path, encoding: VideoEncoding) -> None:
    path = encode(tmp_path / "video.mp4", 1, 30, encoding)
    content = bytearray(path.read_bytes())
    start, stop = content.find(b"mdat") + 4, content.find(b"moov") - 4
    if stop < start:
        stop = len(content)
    middle = (start + stop) // 2
    content[middle : middle + (stop - start) // 4] = bytes(len(content[middle : middle + (stop - start) // 4]))
    path.write_bytes(content)
    with pytest.raises(DataFault, match=r"video\.mp4, episode 4: corrupt video"):
        decode_range(path, 0, 30, 30, 4)


def test_a_wrong_request_is_an_error(tmp_path: Path) -> None:
    path = encode(tmp_path / "video.mp4", 0, 5, sets.ENCODING)
    with pytest.raises(DataFault, match=r"no frame within 8\.3 ms of 0\.1667 s; decoded 5 frames"):
        decode_range(path, 4 / 30, 2, 30, 0)
    with pytest.raises(DataFault, match=r"no frame within 8\.3 ms of 0\.0167 s"):
        decode_range(path, 0.5 / 30, 2, 30, 0)
    with pytest.raises(DataFault, match=r"wrong fps: the video has 30 frames/s; the set says 10"):
        decode_range(path, 0, 2, 10, 0)
    with pytest.raises(DataFault, match="missing file"):
        decode_range(tmp_path / "other.mp4", 0, 2, 30, 0)
    with pytest.raises(DataFault, match="it has 5 frames instead of 6"):
        join_videos([path], [6], 30, tmp_path / "joined.mp4")
    with (
        pytest.raises(ValueError, match=r"a frame must be uint8\[32, 48, 3\]; got uint8\[32, 32, 3\]"),
        VideoEncoder(tmp_path / "another.mp4", 32, 48, 30, sets.ENCODING) as encoder,
    ):
        encoder.add(np.zeros((32, 32, 3), np.uint8))
