from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from cerebella.evaluation.video import Panel, PanelFrame, draw_panels, write_video
from cerebella.types import ImageArray


def render(levels: Sequence[int]) -> ImageArray:
    return np.stack([np.full((60, 90, 3), level, dtype=np.uint8) for level in levels])


def panel(levels: list[int]) -> Panel:
    frames = [PanelFrame(level, "pick it", 0.0, False, 0, 0) for level in levels]
    return Panel("Title", "subtitle", frames)


def test_the_video_has_all_frames_and_a_short_panel_keeps_its_last_picture(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "out.mp4"
    panels = [panel([0, 80, 160]), panel(list(range(0, 200, 5)))]
    assert write_video(path, draw_panels(panels, render), fps=30) == 40
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 30
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 40
    [only] = list(draw_panels([panel([160])], render))
    y, x = only.shape[0] // 2, only.shape[1] // 2
    assert only[y, x].tolist() == [160, 160, 160]
    assert frames[-1][y, x] == pytest.approx([160, 160, 160], abs=6)


def test_odd_sizes_are_cut_to_even_ones(tmp_path: Path) -> None:
    frames = (np.zeros((33, 47, 3), dtype=np.uint8) for _ in range(3))
    write_video(tmp_path / "odd.mp4", frames, fps=30)
    with av.open(str(tmp_path / "odd.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (46, 32)


def test_waiting_and_banners_are_visible() -> None:
    def draw(is_waiting: bool, banner: str) -> ImageArray:
        frame = PanelFrame(0, "pick it", 1.0, is_waiting, 1, 2, banner)
        return next(draw_panels([Panel("T", "s", [frame])], render))

    plain = draw(False, "")
    assert (draw(True, "") != plain).any()
    assert (draw(False, "PICKED") != plain).any()
    assert (draw(True, "PICKED") == draw(False, "PICKED")).all()


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        next(draw_panels([], render))
    with pytest.raises(ValueError, match="at least one frame"):
        next(draw_panels([panel([])], render))
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "none.mp4", iter(()), fps=30)
    assert not (tmp_path / "none.mp4").exists()
