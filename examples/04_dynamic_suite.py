"""What there is to do in the dynamic suite, and how much of it survives late answers, with an expert that knows the truth.

python examples/04_dynamic_suite.py

Draws every task at four moments into one picture and prints, as Markdown, how often the expert solves it when its plans
come late. No policy is needed.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from cerebella.cli import explain_errors
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.evaluation.suites import EvalConfig, evaluate
from cerebella.types import ImageArray

MOMENTS = (2, 16, 30, 44)
"""Ticks that are drawn."""


@dataclass(frozen=True)
class Tour:
    """What to look at."""

    modes: tuple[str, ...] = ("naive", "prefix")
    delays: tuple[int, ...] = (0, 4, 8)
    """ticks from an observation to the arrival of its chunk"""
    execute_horizon: int = 12
    """rows of a chunk that are executed; the expert's chunks have 30"""
    episodes: int = 64
    seed: int = 5
    """of the episode that is drawn"""
    out: Path = Path("outputs/dynamic_suite.png")


def main(tour: Tour) -> int:
    """Draw and measure; the exit code."""
    tour.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([strip(name, tour.seed) for name in TASKS])).save(tour.out)
    print(f"| task | mode | {' | '.join(f'{delay} ticks' for delay in tour.delays)} |")
    print("|---|---|" + "---|" * len(tour.delays))
    for name in TASKS:
        for mode in tour.modes:
            cells = [solved(tour, name, mode, delay) for delay in tour.delays]
            print(f"| `{name}` | `{mode}` | {' | '.join(cells)} |")
    print(f"wrote {tour.out}")
    return 0


def strip(name: str, seed: int) -> ImageArray:
    """One disturbed episode of the expert at `MOMENTS`, side by side."""
    task = TASKS[name]()
    state, style = task.reset([seed], perturbation=True), task.steady_style(1)
    pictures = []
    for tick in range(max(MOMENTS) + 1):
        if tick in MOMENTS:
            pictures.append(task.render(state, 160, 240)[0])
        state = task.step(state, task.expert_command(state, style))
    return np.concatenate(pictures, axis=1)


def solved(tour: Tour, name: str, mode: str, delay: int) -> str:
    """`solved/episodes` of the expert."""
    config = EvalConfig(
        suite=name,
        policy="expert",
        mode=mode,
        delay=delay,
        episodes=tour.episodes,
        execute_horizon=tour.execute_horizon,
    )
    row = evaluate(config, show_progress=False)["summary"][0]
    return f"{row['successes']}/{row['episodes']}"


if __name__ == "__main__":
    chosen = tyro.cli(Tour)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
