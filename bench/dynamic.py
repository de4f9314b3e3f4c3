"""How many ticks of the dynamic tasks a CPU does: all scenes of a task in one array program, without pictures.

    .venv/bin/python bench/dynamic.py            about half a minute on one slow core

Per task: `steps` are ticks under constant commands through the vector environment (state numbers, rewards, new episodes
included), `expert` ticks of the bare task under the expert's law, law included, `pictures` rendered pictures of 64 x 96. All
per second of CPU time, the median of interleaved rounds. Prints one JSON object as the last line.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from cerebella.envs.dynamic.gym import TaskVectorEnv
from cerebella.envs.dynamic.tasks import TASKS
from cerebella.evaluation.fingerprint import run_fingerprint

_NUM_PICTURES = 64


@dataclass(frozen=True)
class Options:
    """What to measure."""

    scenes: int = 1024
    """at once"""
    ticks: int = 200
    """per round"""
    rounds: int = 5
    """the median of so many is told"""


def main(options: Options) -> None:
    """Interleave the tasks, so that a slow moment of the machine hits all of them."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds + 1):
        for name in TASKS:
            for kind, run in _programs(name, options, seed=number).items():
                start_s = time.process_time()
                count = run()
                if number > 0:  # the first round warms up
                    seconds.setdefault((name, kind), []).append((time.process_time() - start_s) / count)
    rates: dict[str, dict[str, int]] = {name: {} for name in TASKS}
    for (name, kind), values in seconds.items():
        rates[name][kind] = round(1.0 / float(np.median(values)))
    for name, row in rates.items():
        print(f"{name:<22}" + "".join(f"{kind} {rate:>9,} /s   " for kind, rate in row.items()))
    report = {
        "bench": "dynamic",
        "num_scenes": options.scenes,
        "num_ticks": options.ticks,
        "rounds": options.rounds,
        "per_cpu_s": rates,
        "least_steps_per_cpu_s": min(row["steps"] for row in rates.values()),
        "run": run_fingerprint(0),
    }
    print(json.dumps(report))


def _programs(name: str, options: Options, seed: int) -> dict[str, Callable[[], int]]:
    """What is timed; each returns how many ticks (or pictures) it did."""
    environment: TaskVectorEnv[Any] = TaskVectorEnv(name, options.scenes, with_images=False, perturbation=True)
    environment.reset(seed=seed)
    environment.action_space.seed(seed)
    command = environment.action_space.sample()
    task = environment.task
    style = task.steady_style(options.scenes)
    scenes = task.reset(range(options.scenes), True)

    def steps() -> int:
        for _ in range(options.ticks):
            environment.step(command)
        return options.ticks * options.scenes

    def expert() -> int:
        state = scenes
        for _ in range(options.ticks // 4):
            state = task.step(state, task.expert_command(state, style))
        return options.ticks // 4 * options.scenes

    def pictures() -> int:
        task.render(scenes.take(slice(0, _NUM_PICTURES)))
        return min(_NUM_PICTURES, options.scenes)

    return {"steps": steps, "expert": expert, "pictures": pictures}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
