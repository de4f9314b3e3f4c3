"""Films of the default policy at the first delay: one success and one failure of each mode, the modes side by side.

An episode is driven again with a camera on it. Alone and not in lock step its numbers may differ by rounding, and so may its end;
then the next candidate is tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.tasks import workcell_module
from cerebella.evaluation.rollout import Episode, rollout_virtual
from cerebella.evaluation.suites import delay_trace, executor_config
from cerebella.evaluation.video import write_video
from cerebella.interfaces import Status
from cerebella.recipes.workcell_study.cells import FORMAT
from cerebella.recipes.workcell_study.driving import Bench, most_ticks
from cerebella.recipes.workcell_study.names import DEFAULT
from cerebella.recipes.workcell_study.plan import CONTROL_HZ
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.summary import Row, summarise
from cerebella.types import Action, ImageArray, Observation

EVERY = 2
"""Ticks per frame."""
NUM_TRIES = 3
_SIZE_PX = (300, 400)
_CAPTION_PX, _GAP_PX, _PAUSE_FRAMES = 44, 8, 15
_PAPER, _INK, _GOOD, _BAD, _WAITS = "#ffffff", "#1c2026", "#15803d", "#b91c1c", "#d97706"


@dataclass(frozen=True, eq=False)
class Take:
    """One filmed episode: a picture every `EVERY` ticks."""

    mode: str
    episode: Episode
    pictures: Sequence[ImageArray]


@dataclass
class Filmed:
    """An environment with a camera of its own beside those that the policy looks through."""

    environment: Any
    pictures: list[ImageArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        cameras = workcell_module("cameras").Cameras
        views = {"base": workcell_module("scene").CAMERAS["base"]}
        self._cameras = cameras(self.environment.cell.model, views, _SIZE_PX)

    @property
    def embodiment(self) -> Embodiment:
        """As the environment."""
        return self.environment.embodiment

    def reset(self, seed: int) -> None:
        """As the environment."""
        self.environment.reset(seed)

    def observe(self) -> Observation:
        """As the environment."""
        return self.environment.observe()

    def apply(self, action: Action) -> None:
        """As the environment; before every second command a picture is taken."""
        if action.tick % EVERY == 0:
            self.pictures.append(self._cameras.draw(self.environment.cell.data)["base"])
        self.environment.apply(action)

    def status(self) -> Status:
        """As the environment."""
        return self.environment.status()

    def close(self) -> None:
        """Give the graphics memory back."""
        self._cameras.close()
        self.environment.close()


def write_films(study: StudyWorkcell) -> list[Path]:
    """`successes.mp4` and `failures.mp4` beside the page's pictures, of the modes that have any; returns their paths.

    Raises:
        FileNotFoundError: there are no episodes of the default policy at the first delay.
    """
    delay = study.delays[0]
    rows = [r for r in summarise(FORMAT.gather(study.cells)) if (r.training, r.delay) == (DEFAULT, delay)]
    if not rows:
        raise FileNotFoundError(f"{study.cells} has no episodes of {DEFAULT} at {delay} ticks: run the study first")
    bench = Bench(study)
    paths = []
    for name, is_success in (("successes", True), ("failures", False)):
        takes = [take for row in rows if (take := film(bench, row, is_success)) is not None]
        if takes:
            paths.append(study.media / f"{name}.mp4")
            write_video(paths[-1], draw(takes), CONTROL_HZ / EVERY)
    return paths


def film(bench: Bench, row: Row, is_success: bool) -> Take | None:
    """An episode of a condition that ends as wanted; None if none of the first `NUM_TRIES` candidates does."""
    study = bench.study
    candidates = [seed for seed, outcome in row.episodes.items() if outcome.is_success == is_success]
    for seed in candidates[:NUM_TRIES]:
        filmed = Filmed(bench.environment())
        [episode] = rollout_virtual(
            bench.policy(row.training),
            lambda filmed=filmed: filmed,
            executor_config(row.mode, study.execute_horizon(row.mode, row.delay)),
            delay_trace(row.delay),
            [seed],
            batch=1,
            max_ticks=most_ticks(study),
        )
        filmed.close()
        if episode.status.is_success == is_success:
            return Take(row.mode, episode, filmed.pictures)
    return None


def draw(takes: Sequence[Take]) -> Iterator[ImageArray]:
    """Frames uint8[h, w, 3] of the takes side by side; a shorter one keeps its last picture."""
    num_frames = max(len(take.pictures) for take in takes) + _PAUSE_FRAMES
    gap = np.full((_SIZE_PX[0] + _CAPTION_PX, _GAP_PX, 3), 255, dtype=np.uint8)
    for k in range(num_frames):
        pieces = [piece for take in takes for piece in (gap, _panel(take, k))]
        yield np.concatenate([*pieces[1:]], axis=1)


def _panel(take: Take, k: int) -> ImageArray:
    height, width = _SIZE_PX
    canvas = Image.new("RGB", (width, height + _CAPTION_PX), _PAPER)
    canvas.paste(Image.fromarray(take.pictures[min(k, len(take.pictures) - 1)]), (0, _CAPTION_PX))
    drawn = ImageDraw.Draw(canvas)
    log, status = take.episode.log, take.episode.status
    tick = min(k * EVERY, log.num_ticks - 1)
    drawn.text((4, 3), f"{take.mode}, seed {take.episode.seed}", font=_font(15), fill=_INK)
    drawn.text((4, 23), take.episode.prompt, font=_font(11), fill=_INK)
    if k >= len(take.pictures):
        text, colour = status.reason or "limit of ticks", _GOOD if status.is_success else _BAD
        drawn.rectangle((0, _CAPTION_PX, width - 1, height + _CAPTION_PX - 1), outline=colour, width=3)
    else:
        is_waiting = not log.is_running[tick]
        text, colour = ("waits", _WAITS) if is_waiting else (f"{tick / log.control_hz:.1f} s", _INK)
    drawn.text((width - 4, 3), text, font=_font(15), fill=colour, anchor="ra")
    return np.asarray(canvas)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
