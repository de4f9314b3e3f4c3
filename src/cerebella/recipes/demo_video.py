"""The demo's video: the modes side by side on the same scenes, and a poster frame for the front page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from cerebella.envs.dynamic.conveyor import ConveyorState
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.task import concatenate
from cerebella.evaluation.plots import COLOURS
from cerebella.evaluation.rollout import Episode
from cerebella.evaluation.video import Panel, PanelFrame, draw_panels, write_video
from cerebella.types import ImageArray

HEIGHT, WIDTH = 384, 576
TITLES = {"sync": "Synchronous", "naive": "Asynchronous, naive", "prefix": "Asynchronous, prefix"}
_PAUSE_FRAMES = 14
"""The last picture of an episode stays for so long, with the outcome over it."""
_POSTER_EARLIEST = 45


def write_demo_video(
    folder: Path, episodes: Mapping[str, Sequence[Episode]], subtitle: str, fps: float
) -> tuple[Path, Path]:
    """Write demo.mp4 and demo.png; returns their paths.

    Args:
        episodes: by mode, with snapshots. subtitle: said in every panel, e.g. the latency.
    """
    panels = [
        Panel(TITLES.get(mode, mode), subtitle, panel_frames(rows), COLOURS.get(mode, "#1c2026"))
        for mode, rows in episodes.items()
    ]
    num_frames = max(len(panel.frames) for panel in panels)
    video, poster = folder / "demo.mp4", folder / "demo.png"
    frames = tqdm(draw_panels(panels, _render), total=num_frames, desc="video", unit="frame", mininterval=0.5)
    write_video(video, frames, fps)
    _write_poster(poster, panels)
    return video, poster


def panel_frames(episodes: Sequence[Episode]) -> list[PanelFrame]:
    """One episode after the other; each ends with a pause that says how it went."""
    frames: list[PanelFrame] = []
    num_picked = 0
    for number, episode in enumerate(episodes):
        hz = episode.log.control_hz
        for k, snapshot in enumerate(episode.snapshots):
            is_waiting = k > 0 and not bool(episode.log.is_running[k - 1])
            frames.append(PanelFrame(snapshot, episode.prompt, k / hz, is_waiting, num_picked, number))
        num_picked += episode.status.is_success
        banner = episode.status.reason.upper() or "STOPPED"
        last = PanelFrame(
            snapshot=episode.snapshots[-1],
            prompt=episode.prompt,
            elapsed_s=episode.log.num_ticks / hz,
            is_waiting=False,
            num_picked=num_picked,
            num_episodes=number + 1,
            banner=banner,
            is_good=episode.status.is_success,
        )
        frames += [last] * _PAUSE_FRAMES
    return frames


def _write_poster(path: Path, panels: Sequence[Panel]) -> None:
    """A moment in which a synchronous robot waits and the others do not, if there is one."""
    num_frames = min(len(panel.frames) for panel in panels)
    moment = next(
        (
            k
            for k in range(min(_POSTER_EARLIEST, num_frames - 1), num_frames)
            if panels[0].frames[k].is_waiting and not any(panel.frames[k].banner for panel in panels)
        ),
        num_frames // 2,
    )
    single = [Panel(p.title, p.subtitle, [p.frames[moment]], p.colour) for p in panels]
    Image.fromarray(next(draw_panels(single, _render))).save(path)


def _render(snapshots: Sequence[ConveyorState]) -> ImageArray:
    return ConveyorTask().render(concatenate(snapshots), HEIGHT, WIDTH)
