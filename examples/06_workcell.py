"""Watch the expert of a workcell task through the three cameras: the base camera, the left wrist and the right wrist.

python examples/06_workcell.py --task workcell/insert

Writes a video in real time, and a picture of three moments, one below the other. Needs MuJoCo: pip install 'cerebella[sim]'.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from cerebella.cli import explain_errors
from cerebella.envs.registry import WORKCELL_ENVIRONMENTS, check_environment, make_environment
from cerebella.envs.workcell.expert_driver import expert_ticks
from cerebella.evaluation.video import write_video
from cerebella.types import ImageArray

CONTROL_HZ = 30.0
GAP_PX = 4


@dataclass(frozen=True)
class Watch:
    """What to look at."""

    task: str = "workcell/belt"
    seed: int = 1000
    render_px: int = 320
    """height and width of each picture"""
    randomisation: str = "none"
    """none, mild or wide: light, colours, cameras, friction"""
    moments: tuple[float, ...] = (0.25, 0.6, 1.0)
    """shares of the episode that the picture shows"""
    out: Path = Path("outputs/workcell")


def main(watch: Watch) -> int:
    """Play, draw and write; the exit code."""
    check_environment(watch.task)
    if watch.task not in WORKCELL_ENVIRONMENTS:
        raise ValueError(f"{watch.task} is not one of the workcell: {', '.join(WORKCELL_ENVIRONMENTS)}")
    size = (watch.render_px, watch.render_px)
    environment: Any = make_environment(watch.task, render_size=size, randomisation=watch.randomisation)
    num_ticks = sum(1 for _ in expert_ticks(environment, watch.seed, watch.seed))  # without pictures, that is quick
    chosen = [min(num_ticks, round(share * num_ticks)) for share in watch.moments]
    kept: dict[int, ImageArray] = {}

    def frames() -> Iterator[ImageArray]:
        for tick, frame in enumerate(watched(environment, watch.seed)):
            if tick in chosen:
                kept[tick] = frame
            yield frame

    file = watch.out / f"{watch.task.rpartition('/')[2]}.mp4"
    write_video(file, frames(), CONTROL_HZ)
    Image.fromarray(np.concatenate([kept[tick] for tick in chosen])).save(file.with_suffix(".png"))
    status = environment.status()
    outcome = "solved" if status.is_success else "not solved"
    print(f"{environment.episode.prompt!r}: {outcome} ({status.reason}) after {num_ticks / CONTROL_HZ:.1f} s")
    print(f"wrote {file}\nwrote {file.with_suffix('.png')}")
    return 0


def watched(environment: Any, seed: int) -> Iterator[ImageArray]:
    """The three views side by side, before every command and after the last one."""
    for _ in expert_ticks(environment, seed, seed):
        yield side_by_side(environment)
    yield side_by_side(environment)


def side_by_side(environment: Any) -> ImageArray:
    """The views now, with a dark line between them."""
    pictures = [np.pad(picture, ((0, GAP_PX), (0, GAP_PX), (0, 0))) for picture in environment.draw().values()]
    return np.concatenate(pictures, axis=1)


if __name__ == "__main__":
    chosen = tyro.cli(Watch)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
