"""Video in PyAV: decode a range of frames after one seek, encode frame by frame, join files without re-encoding."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cerebella.data.episodes import DataFault
from cerebella.types import ImageArray

TOLERANCE_FRAMES = 0.25
"""How far a decoded frame may lie from the wanted time, in frame periods."""
RATE_TOLERANCE = 0.01
"""A file's own frame rate may differ from the stated one by this fraction."""


@dataclass(frozen=True)
class VideoEncoding:
    """How pictures become video.

    Args:
        codec: an encoder that PyAV has. keyframe_every: frames from one key frame to the next; 2 makes single frames quick
            to reach, more makes files smaller and ranges quicker.
        crf: constant quality, lower is better and larger. preset: the encoder's speed setting.
        num_threads: of the encoder; 0 leaves it the choice, 1 costs least for small pictures.
    """

    codec: str
    keyframe_every: int = 2
    crf: int = 30
    preset: str = "8"
    num_threads: int = 0

    def __post_init__(self) -> None:
        if self.codec not in av.codecs_available:
            raise ValueError(f"PyAV has no encoder {self.codec!r}; try one of: {', '.join(_available()) or 'none'}")
        if self.keyframe_every < 1:
            raise ValueError(f"keyframe_every must be 1 frame or more; got {self.keyframe_every}")
        if self.num_threads < 0:
            raise ValueError(f"num_threads must be 0 or more; got {self.num_threads}")

    @property
    def options(self) -> dict[str, str]:
        """For the encoder. No B-frames, so that packets of several files can follow each other."""
        options = {"g": str(self.keyframe_every), "crf": str(self.crf), "preset": self.preset}
        if self.num_threads:
            options["threads"] = str(self.num_threads)
        return options if self.codec == "libsvtav1" else {**options, "bf": "0"}


def default_encoding() -> VideoEncoding:
    """AV1 (SVT), LeRobot's default, where PyAV has it; else H.264.

    Raises:
        ValueError: PyAV has neither.
    """
    if "libsvtav1" in av.codecs_available:
        return VideoEncoding("libsvtav1")
    return VideoEncoding("libx264", crf=23, preset="medium")


def decode_range(path: Path, start_s: float, num_frames: int, fps: float, episode: int | None) -> ImageArray:
    """Frames at `start_s`, `start_s + 1 / fps`, ... of a video, after one seek to the key frame before them.

    Args:
        start_s: seconds from the start of the file. episode: only for messages.

    Returns:
        uint8[num_frames, h, w, 3] RGB.

    Raises:
        DataFault: no file, not decodable, another frame rate than `fps`, or no frame within `TOLERANCE_FRAMES` of a
            wanted time.
    """
    if not path.is_file():
        raise DataFault("missing file", path, episode, "there is no such video")
    wanted = start_s + np.arange(num_frames) / fps
    tolerance_s = TOLERANCE_FRAMES / fps
    frames: ImageArray | None = None
    num_found = 0
    seen_s: list[float] = []
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path, episode)
            stream.codec_context.thread_count = 1
            _check_rate(stream, fps, path, episode)
            target_s = max(float(wanted[0]) - tolerance_s, 0.0)
            base = _time_base(stream)
            container.seek(int(target_s / base), stream=stream, backward=True)
            reformatter = VideoReformatter()
            for frame in container.decode(stream):
                if frame.pts is None or frame.is_corrupt:
                    raise DataFault("corrupt video", path, episode, f"a broken frame after {_last(seen_s)}")
                time_s = frame.pts * base.numerator / base.denominator
                seen_s.append(time_s)
                if time_s > wanted[num_found] + tolerance_s:
                    break
                if time_s >= wanted[num_found] - tolerance_s:
                    # One thread: by itself it would start one per core for every small picture.
                    picture = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                    if frames is None:
                        frames = np.empty((num_frames, *picture.shape), dtype=np.uint8)
                    frames[num_found] = picture
                    num_found += 1
                if num_found == num_frames:
                    break
    except (FFmpegError, EOFError) as error:
        raise DataFault("corrupt video", path, episode, f"cannot be decoded after {_last(seen_s)}: {error}") from error
    if frames is None or num_found < num_frames:
        detail = f"no frame within {tolerance_s * 1e3:.1f} ms of {wanted[num_found]:.4f} s; decoded {_last(seen_s)}"
        raise DataFault("corrupt video", path, episode, detail)
    return frames


def frame_times(path: Path, episode: int | None = None) -> tuple[float, ...]:
    """The time of every frame of a file, seconds, in order, without decoding any.

    Raises:
        DataFault: no file, or not a readable video.
    """
    if not path.is_file():
        raise DataFault("missing file", path, episode, "there is no such video")
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path, episode)
            base = _time_base(stream)
            return tuple(
                sorted(float(packet.pts * base) for packet in container.demux(stream) if packet.pts is not None)
            )
    except (FFmpegError, EOFError) as error:
        raise DataFault("corrupt video", path, episode, f"cannot be read: {error}") from error


def video_facts(path: Path, encoding: VideoEncoding | None = None) -> dict[str, Any]:
    """The `info` block of a LeRobot video feature, read from a file."""
    with av.open(str(path)) as container:
        stream = _video_stream(container, path, None)
        context, rate = stream.codec_context, stream.average_rate
        facts: dict[str, Any] = {
            "video.height": context.height,
            "video.width": context.width,
            "video.codec": _CANONICAL.get(context.name, context.name),
            "video.pix_fmt": context.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": float(rate) if rate is not None and rate.denominator != 1 else int(rate or 0),
            "video.channels": 3,
            "has_audio": bool(container.streams.audio),
        }
    if encoding is not None:
        facts["video.g"], facts["video.crf"] = encoding.keyframe_every, encoding.crf
    return facts


class VideoEncoder:
    """One video file, written frame by frame. Close it (or leave its `with`) before reading the file.

    Args:
        height, width: even numbers of pixels (yuv420p halves them). fps: frames per second.

    Raises:
        ValueError: an odd size.
    """

    def __init__(self, path: Path, height: int, width: int, fps: float, encoding: VideoEncoding) -> None:
        if height % 2 or width % 2 or height < 16 or width < 16:
            raise ValueError(
                f"{path.name}: video needs an even height and width of 16 px or more; got {height} x {width}. "
                "Store such pictures with dtype 'image'"
            )
        if encoding.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # the encoder prints a page about itself unless told otherwise
        self._shape = (height, width, 3)
        self._path = path
        self._container = av.open(str(path), "w")
        stream = self._container.add_stream(encoding.codec, rate=_rate(fps), options=encoding.options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        self._stream = stream
        self._reformatter = VideoReformatter()

    def add(self, image: ImageArray) -> None:
        """Append uint8[h, w, 3] RGB."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(
                f"{self._path.name}: a frame must be uint8{list(self._shape)}; got {image.dtype}{list(image.shape)}"
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        # One thread: by itself it would start one per core for every small picture.
        frame = self._reformatter.reformat(frame, format="yuv420p", threads=1)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds and the file's index."""
        self._container.mux(self._stream.encode())
        self._container.close()

    def __enter__(self) -> "VideoEncoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def join_videos(sources: Sequence[Path], lengths: Sequence[int], fps: float, target: Path) -> None:
    """Write the packets of several videos of one encoding into one file; source i starts after the frames before it.

    Args:
        lengths: frames of each source.

    Raises:
        DataFault: a source is broken, or does not have the stated number of frames.
    """
    first = 0
    with av.open(str(target), "w", format="mp4") as output:
        stream: VideoStream | None = None
        for source, length in zip(sources, lengths, strict=True):
            num_packets = 0
            try:
                with av.open(str(source)) as container:
                    origin = _video_stream(container, source, None)
                    if stream is None:
                        stream = output.add_stream_from_template(origin, opaque=True)
                    base = _time_base(origin)
                    offset = round(Fraction(first) / _rate(fps) / base)
                    for packet in _packets(container, origin):
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = stream
                        output.mux(packet)
                        num_packets += 1
            except (FFmpegError, EOFError) as error:
                raise DataFault("corrupt video", source, None, str(error)) from error
            if num_packets != length:
                raise DataFault("corrupt video", source, None, f"it has {num_packets} frames instead of {length}")
            first += length


def _packets(container: Any, stream: VideoStream) -> Iterator[Any]:
    """The packets that carry a frame."""
    return (packet for packet in container.demux(stream) if packet.pts is not None)


def _video_stream(container: Any, path: Path, episode: int | None) -> VideoStream:
    if not container.streams.video:
        raise DataFault("corrupt video", path, episode, "it has no video stream")
    return container.streams.video[0]


def _time_base(stream: VideoStream) -> Fraction:
    assert stream.time_base is not None  # every opened stream has one
    return stream.time_base


def _check_rate(stream: VideoStream, fps: float, path: Path, episode: int | None) -> None:
    rate = float(stream.average_rate or 0)
    if rate and stream.frames > 2 and abs(rate - fps) > RATE_TOLERANCE * fps:
        raise DataFault("wrong fps", path, episode, f"the video has {rate:g} frames/s; the set says {fps:g}")


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def _last(seen_s: Sequence[float]) -> str:
    return f"{len(seen_s)} frames, the last at {seen_s[-1]:.4f} s" if seen_s else "no frame"


def _available() -> list[str]:
    return [name for name in ("libsvtav1", "libx264", "libvpx-vp9", "mpeg4") if name in av.codecs_available]


_CANONICAL = {"libdav1d": "av1", "libsvtav1": "av1", "libaom-av1": "av1", "libx264": "h264"}
