"""How good and how fast the workcell's experts are, task by task, and whether random commands break the simulation.

    python bench/workcell.py --tasks workcell/belt workcell/insert --episodes 100 --num-processes 2 --with-images
    python bench/workcell.py --random-steps 10000 --episodes 0

Episodes have the seeds 1000, 1001, ...; every one is a line of the file `--out` as soon as it is over, so that a run that was
killed goes on where it was, and more episodes can follow later. Another state of the code needs another file. Times are CPU time
of the process that plays: reset, physics and expert; pictures (three of 224 x 224 at every tenth tick) on their own.
The random ticks run in both control modes. Prints one JSON object per task; the exit code is 1 if a number was not finite.
`belt_stream` and `towel_line` last half an hour of virtual time per episode: give them a run of their own, with few episodes.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from cerebella.cli import explain_errors
from cerebella.envs.registry import WORKCELL_ENVIRONMENTS, make_environment
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.recipes.worker_process import end_with_parent

FIRST_SEED = 1000
DRAW_EVERY = 10
RANDOM_TICKS = 1000
"""Of one line of the file."""
MODES = ("end_effector", "joint")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    tasks: tuple[str, ...] = WORKCELL_ENVIRONMENTS
    episodes: int = 20
    """per task"""
    num_processes: int = 1
    out: Path = Path("outputs/workcell/bench.jsonl")
    """a line for each episode; goes on with what is there"""
    with_images: bool = False
    """measure pictures as well"""
    random_steps: int = 0
    """control ticks of random commands per task; rounded up to thousands"""


@dataclass(frozen=True)
class Job:
    """One line of the file: an episode of the expert, or (`kind` is `random`) ticks of random commands."""

    kind: str
    task: str
    seed: int
    draw_every: int = 0

    def is_done_by(self, row: dict[str, Any]) -> bool:
        """Whether the line is there already."""
        same = (row["kind"], row["task"], row["seed"]) == (self.kind, self.task, self.seed)
        return same and (not self.draw_every or row["num_pictures"] > 0)


def main(options: Options) -> int:
    """Play what is missing, and report; the exit code."""
    if unknown := [task for task in options.tasks if task not in WORKCELL_ENVIRONMENTS]:
        raise ValueError(f"there is no task {unknown[0]!r}; known: {', '.join(WORKCELL_ENVIRONMENTS)}")
    if options.episodes < 0 or options.random_steps < 0 or options.num_processes < 1:
        raise ValueError(
            "episodes and random_steps must be 0 or more, num_processes 1 or more; got "
            f"{options.episodes}, {options.random_steps}, {options.num_processes}"
        )
    jobs, rows = list(_jobs(options)), _read(options.out)
    missing = [job for job in jobs if not any(job.is_done_by(row) for row in rows)]
    with options.out.open("a") as file, tqdm(total=len(jobs), initial=len(jobs) - len(missing)) as bar:
        for row in _played(missing, options.num_processes):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            bar.update()
    wanted = [(job, next(row for row in reversed(rows) if job.is_done_by(row))) for job in jobs]
    is_sound = True
    for task in options.tasks:
        report = _report(task, wanted)
        is_sound = is_sound and not report.get("random", {}).get("not_finite") and not _faults(report)
        print(json.dumps(report))
    return 0 if is_sound else 1


def _jobs(options: Options) -> Iterator[Job]:
    for task in options.tasks:
        for seed in range(FIRST_SEED, FIRST_SEED + options.episodes):
            yield Job("expert", task, seed, DRAW_EVERY if options.with_images else 0)
        for seed in range(FIRST_SEED, FIRST_SEED + -(-options.random_steps // RANDOM_TICKS)):
            yield Job("random", task, seed)


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines so far. One that a kill cut short is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _played(jobs: list[Job], num_processes: int) -> Iterator[dict[str, Any]]:
    if num_processes == 1 or len(jobs) < 2:
        yield from map(play, jobs)
        return
    with ProcessPoolExecutor(num_processes, get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            for done in as_completed([pool.submit(play, job) for job in jobs]):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_cells: dict[tuple[str, str], Any] = {}
"""The newest environment of this process, by task and control mode."""


def play(job: Job) -> dict[str, Any]:
    """A line of the file."""
    from cerebella.recipes.workcell_experts import play_expert, play_randomly  # loads MuJoCo

    key = (job.task, MODES[job.seed % len(MODES)] if job.kind == "random" else MODES[0])
    if key not in _cells:
        for environment in _cells.values():
            environment.close()
        _cells.clear()
        _cells[key] = make_environment(job.task, control_mode=key[1], with_images=False)
    if job.kind == "random":
        return {"kind": job.kind, **asdict(play_randomly(_cells[key], job.seed, RANDOM_TICKS))}
    return {"kind": job.kind, **asdict(play_expert(_cells[key], job.seed, job.draw_every))}


def _report(task: str, wanted: list[tuple[Job, dict[str, Any]]]) -> dict[str, Any]:
    from cerebella.recipes.workcell_experts import ExpertEpisode, RandomTicks, summarise_expert, summarise_random

    by_kind: dict[str, list[dict[str, Any]]] = {"expert": [], "random": []}
    for job, row in wanted:
        if job.task == task:
            by_kind[job.kind].append({name: value for name, value in row.items() if name != "kind"})
    report: dict[str, Any] = {"bench": "workcell", "task": task}
    if by_kind["expert"]:
        report |= summarise_expert([ExpertEpisode(**row) for row in by_kind["expert"]])
    if by_kind["random"]:
        report["random"] = summarise_random([RandomTicks(**row) for row in by_kind["random"]])
    return report | {"run": run_fingerprint(FIRST_SEED)}


def _faults(report: dict[str, Any]) -> int:
    """MuJoCo starts anew by itself after a number that is not finite, so that its own warnings count too."""
    return sum(report.get("random", {}).get("faults", {}).values())


if __name__ == "__main__":
    chosen = tyro.cli(Options, description=__doc__)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
