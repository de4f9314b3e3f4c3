"""Videos made after a run from snapshots: panels side by side, one per condition, captions on top. H.264 through PyAV."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from cerebella.types import ImageArray

Renderer = Callable[[Sequence[Any]], ImageArray]
"""Snapshots of an environment in, uint8[N, h, w, 3] RGB out."""

_INK = (28, 32, 38)
_MUTED = (104, 112, 122)
_PAPER = (250, 250, 248)
_WAITING = (190, 60, 30)
_PICKED = (22, 120, 84)
_HEADER = 92
_FOOTER = 44
_GAP = 12
_RENDER_BATCH = 32


@dataclass(frozen=True)
class PanelFrame:
    """One frame of one panel: what to render and what to say about it.

    Args:
        snapshot: whatever the environment's renderer takes.
        prompt: the instruction of the episode.
        elapsed_s: time within the episode.
        is_waiting: the robot holds still for want of a plan.
        num_picked, num_episodes: solved and finished episodes so far.
        banner: short text over the picture at an episode's end; empty otherwise.
        is_good: colours the banner.
    """

    snapshot: Any
    prompt: str
    elapsed_s: float
    is_waiting: bool
    num_picked: int
    num_episodes: int
    banner: str = ""
    is_good: bool = False


@dataclass(frozen=True)
class Panel:
    """One column of the video. Frames are shown at the video's rate; a shorter panel keeps its last frame."""

    title: str
    subtitle: str
    frames: Sequence[PanelFrame]
    colour: str = "#1c2026"


def draw_panels(panels: Sequence[Panel], renderer: Renderer) -> Iterator[ImageArray]:
    """Frames uint8[h, w, 3] of the panels side by side, with captions.

    Raises:
        ValueError: no panel, or a panel without frames.
    """
    if not panels or any(not panel.frames for panel in panels):
        raise ValueError("a video needs at least one panel, and at least one frame in each")
    columns = [_draw_column(panel, renderer) for panel in panels]
    last: list[ImageArray] = [next(column) for column in columns]
    num_frames = max(len(panel.frames) for panel in panels)
    for k in range(num_frames):
        if k > 0:  # a column that has ended keeps its last frame
            last = [next(column, previous) for column, previous in zip(columns, last, strict=True)]
        spacer = np.full((last[0].shape[0], _GAP, 3), _PAPER, dtype=np.uint8)
        pieces = [spacer]
        for column in last:
            pieces += [column, spacer]
        yield np.concatenate(pieces, axis=1)


def write_video(path: Path, frames: Iterable[ImageArray], fps: float) -> int:
    """Encode RGB frames as H.264 (yuv420p, which every browser plays); odd sizes lose their last row or column.

    Raises:
        ValueError: no frames. OSError: PyAV cannot write the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    num_frames = 0
    with av.open(str(path), mode="w", options={"movflags": "+faststart"}) as container:
        stream = None
        for frame in frames:
            height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": "23", "preset": "veryfast"}
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
            num_frames += 1
        if stream is not None:
            container.mux(stream.encode())
    if num_frames == 0:
        path.unlink(missing_ok=True)
        raise ValueError(f"no frames to write to {path}")
    return num_frames


def _draw_column(panel: Panel, renderer: Renderer) -> Iterator[ImageArray]:
    """Render in batches (the renderer is vectorised), then caption one by one."""
    for start in range(0, len(panel.frames), _RENDER_BATCH):
        batch = panel.frames[start : start + _RENDER_BATCH]
        pictures = renderer([frame.snapshot for frame in batch])
        for frame, picture in zip(batch, pictures, strict=True):
            yield _draw_captions(panel, frame, picture)


def _draw_captions(panel: Panel, frame: PanelFrame, picture: ImageArray) -> ImageArray:
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width, _HEADER + height + _FOOTER), _PAPER)
    canvas.paste(Image.fromarray(picture), (0, _HEADER))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 12, 5, 44), fill=panel.colour)
    draw.text((16, 8), panel.title, font=_font(26, True), fill=_INK)
    draw.text((width, 16), panel.subtitle, font=_font(17), fill=_MUTED, anchor="ra")
    draw.text((0, 56), f"\u201c{frame.prompt}\u201d", font=_font(19), fill=_INK)
    count = f"{frame.num_picked} picked of {frame.num_episodes}"
    draw.text((0, _HEADER + height + 10), count, font=_font(20, True), fill=_INK)
    draw.text((width, _HEADER + height + 10), f"{frame.elapsed_s:4.1f} s", font=_font(20), fill=_MUTED, anchor="ra")
    if frame.is_waiting and not frame.banner:
        _draw_badge(draw, (width - 12, _HEADER + 12), "WAITING", _WAITING)
    if frame.banner:
        _draw_badge(draw, (width - 12, _HEADER + 12), frame.banner, _PICKED if frame.is_good else _WAITING)
    return np.asarray(canvas)


def _draw_badge(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, colour: tuple[int, int, int]) -> None:
    """A filled label whose upper right corner is at `corner`."""
    font = _font(19, True)
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    x, y = corner
    box = (x - (right - left) - 24, y, x, y + 34)
    draw.rounded_rectangle(box, radius=8, fill=colour)
    draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, font=font, fill=(255, 255, 255), anchor="mm")


_FONTS: dict[tuple[int, bool], ImageFont.FreeTypeFont] = {}


def _font(size: int, is_bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which Matplotlib always brings along."""
    key = (size, is_bold)
    if key not in _FONTS:
        name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
        _FONTS[key] = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)
    return _FONTS[key]
