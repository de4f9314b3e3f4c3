"""How much does a delay cost, and which mode keeps what? Every mode at every delay, on the virtual clock.

python examples/02_modes_and_delays.py --policy policies/conveyor-micro --episodes 256

Each cell is a result file; a cell that is there already is not run again. The table is printed as Markdown.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from cerebella.cli import explain_errors
from cerebella.evaluation.result import read_result
from cerebella.evaluation.suites import EvalConfig, evaluate
from cerebella.runtime.executor_config import default_execute_horizon


@dataclass(frozen=True)
class Study:
    """What to compare."""

    policy: str = "policies/conveyor-micro"
    """a policy directory, or `expert`"""
    suite: str = "dynamic/conveyor"
    modes: tuple[str, ...] = ("sync", "naive", "prefix")
    delays: tuple[int, ...] = (0, 2, 4, 6)
    """ticks from an observation to the arrival of its chunk"""
    episodes: int = 256
    seed: int = 0
    execute_horizon: int | None = None
    """actions executed before the next chunk takes over (default: the delay and two; in sync half a chunk)"""
    perturbation: bool = False
    """disturb every episode once"""
    out: Path = Path("outputs/modes_and_delays")


def main(study: Study) -> int:
    """Run the missing cells, then print the table; the exit code."""
    print(f"Cells go to {study.out}/")
    rows = [_cell(study, mode, delay) for delay in study.delays for mode in study.modes]
    print(
        "\n| delay | mode | success | 95 % interval | picked per minute | idle share | r/(s+r) | seam jump p95 | late |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['delay']:g} | `{row['mode']}` | {row['successes']}/{row['episodes']} | "
            f"{100 * row['low']:.1f} .. {100 * row['high']:.1f} % | {row['throughput_per_min']:.1f} | "
            f"{row['idle_share_cycles']:.3f} | {row['idle_share_expected']:.3f} | {row['seam_ratio']['p95']:.2f} | "
            f"{100 * (row['late_share'] or 0):.0f} % |"
        )
    return 0


def _cell(study: Study, mode: str, delay: int) -> dict[str, Any]:
    """The summary of one cell, run now if its file is missing.

    Raises:
        ValueError: the file is there, but of another policy, seed, execute horizon or number of episodes.
    """
    path = study.out / f"{mode}-{delay}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        evaluate(
            EvalConfig(
                suite=study.suite,
                policy=study.policy,
                mode=mode,
                delay=delay,
                episodes=study.episodes,
                seed=study.seed,
                execute_horizon=study.execute_horizon,
                perturbation=study.perturbation,
                json=path,
            )
        )
    result = read_result(path)
    is_ours = result["policy"]["path"] == study.policy and result["conditions"]["perturbation"] == study.perturbation
    cell, wanted = result["conditions"]["cells"][0], study.execute_horizon
    if wanted is None:
        wanted = default_execute_horizon(mode, delay, cell["horizon"])
    found = len(result["episodes"]), result["run"]["seed"], cell["execute_horizon"]
    if not is_ours or found != (study.episodes, study.seed, wanted):
        raise ValueError(f"{path} is a cell of another study; delete it or choose another --out")
    return result["summary"][0]


if __name__ == "__main__":
    chosen = tyro.cli(Study)
    sys.exit(explain_errors(lambda: main(chosen), sys.argv[0]))
