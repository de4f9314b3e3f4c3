"""The demo: a small VLA drives a simulated robot in real time, from pixels and an instruction, on a laptop.

Three modes at three latencies run live on the wall clock, one cell after the other, on the same scenes. Then pairs of
virtual-clock runs, with and without a disturbance, tell how fast each mode reacts. A video, a report and a result file
come out.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cerebella.envs.registry import make_environment
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.evaluation.metrics import parting_tick, reaction_ticks
from cerebella.evaluation.result import check_can_write, make_result, write_result
from cerebella.evaluation.rollout import Episode, PolicySource, rollout_virtual, rollout_wall
from cerebella.evaluation.statistics import quantiles
from cerebella.evaluation.suites import (
    as_mode,
    check_policy,
    episode_seeds,
    executor_config,
    open_policy,
    policy_block,
    rates,
)
from cerebella.evaluation.summary import Cell, episode_rows, summarise
from cerebella.interfaces import Environment, Policy, PolicyMetadata
from cerebella.recipes.demo_report import write_demo_report
from cerebella.recipes.demo_video import write_demo_video
from cerebella.runtime.chunks import check_execute_horizon
from cerebella.runtime.clock import WallClock
from cerebella.runtime.delay import DelayEstimator, to_ticks
from cerebella.runtime.executor_config import default_execute_horizon
from cerebella.runtime.transport import warm_up

SUITE = "dynamic/conveyor"
_MAX_EPISODES_PER_CELL = 50
_TWIN_TICKS = 70
"""Twin runs stop here: every disturbance comes before tick 31, and the answer soon after."""
_SWITCH_INTERVAL_S = 0.0005
"""How long the inference thread may keep the interpreter while the control thread waits; Python's default is 5 ms."""


@dataclass(frozen=True)
class DemoConfig:
    """What the demo runs.

    Args:
        policy: a policy directory (or `expert`: the task's own solution, without pixels).
        out: folder for result.json, report.html, demo.mp4 and demo.png.
        modes: executor modes, in the order in which they run.
        latencies_ms: mean total latency of a request; a policy that is faster is held back.
        latency_jitter_ms: each request's latency is drawn uniformly within +- this.
        seconds_per_cell: no new episode of a cell starts later than this.
        num_twins: disturbed episodes per mode and delay for the reaction time.
        execute_horizon: actions executed before the next chunk takes over; if left out, `default_execute_horizon`.
        seed: which scenes; they are the same in every cell.
    """

    policy: str = "policies/conveyor-micro"
    out: Path = Path("outputs/demo")
    modes: tuple[str, ...] = ("sync", "naive", "prefix")
    latencies_ms: tuple[float, ...] = (85.0, 105.0, 125.0)
    latency_jitter_ms: float = 5.0
    seconds_per_cell: float = 9.0
    num_twins: int = 12
    execute_horizon: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be run."""
        for mode in self.modes:
            as_mode(mode)
        if not self.modes or not self.latencies_ms:
            raise ValueError("the demo needs at least one mode and one latency")
        if min(self.latencies_ms) - self.latency_jitter_ms < 0 or self.latency_jitter_ms < 0:
            raise ValueError(f"latencies must stay above 0 ms; got {self.latencies_ms} +- {self.latency_jitter_ms} ms")


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo measured (see `evaluation.result`), and the files that it wrote."""

    result: dict[str, Any]
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class _Live:
    """One cell that was run live."""

    cell: Cell
    latency_ms: float
    episodes: list[Episode]


def run_demo(config: DemoConfig) -> DemoOutcome:
    """Run the demo; prints what it does and where to look.

    Raises:
        FileNotFoundError: no such policy directory. ValueError: the policy does not fit the task.
    """
    for name in ("result.json", "report.html", "demo.mp4", "demo.png"):
        check_can_write(config.out / name)
    timing: dict[str, float] = {}
    run = run_fingerprint(config.seed)
    start_s = time.monotonic()
    with _timed(timing, "load_s"):
        environment = make_environment(SUITE, with_images=config.policy != "expert")
        source, metadata = _load(config, environment)
    if config.execute_horizon is not None:
        check_execute_horizon(config.execute_horizon, metadata.horizon)
    print(f"Policy {metadata.policy_id}: {metadata.horizon} actions per inference.")
    print(f"Loaded in {timing['load_s']:.1f} s; {_describe_speed(source, environment)}")

    with _timed(timing, "live_s"):
        lives = _run_live(config, source, metadata, environment)
    with _timed(timing, "twins_s"):
        reactions = _run_twins(config, source, lives)
    with _timed(timing, "video_s"):
        middle = sorted(config.latencies_ms)[len(config.latencies_ms) // 2]
        shown = {live.cell.mode: live.episodes for live in lives if live.latency_ms == middle}
        subtitle = f"{middle:g} ms latency, {metadata.embodiment.control_hz:g} Hz"
        video, poster = write_demo_video(config.out, shown, subtitle, metadata.embodiment.control_hz)

    result = _assemble(config, run, metadata, lives, reactions, timing, time.monotonic() - start_s)
    with _timed(timing, "report_s"):
        report = write_demo_report(
            config.out / "report.html", result, _episodes_by_cell(lives), reactions, video, middle
        )
    result["timing"] |= {**timing, "total_s": time.monotonic() - start_s}
    result_path = write_result(config.out / "result.json", result)
    _print_end(result, (report, video, poster, result_path))
    return DemoOutcome(result=result, paths=(report, video, poster, result_path))


def _episodes_by_cell(lives: list[_Live]) -> dict[str, list[Episode]]:
    """Episodes by the cell's name."""
    return {live.cell.name: live.episodes for live in lives}


def draw_latency(config: DemoConfig, latency_ms: float) -> Callable[[int], float]:
    """Seconds that request number k takes in total: the same sequence for every mode at this latency."""
    centre = config.latencies_ms.index(latency_ms)

    def latency_s(k: int) -> float:
        generator = np.random.default_rng([config.seed, centre, k])
        return float(latency_ms + generator.uniform(-config.latency_jitter_ms, config.latency_jitter_ms)) / 1e3

    return latency_s


def _load(config: DemoConfig, environment: Environment) -> tuple[PolicySource, PolicyMetadata]:
    """One torch thread: the control loop needs the other core, and a small model gains nothing from two."""
    source, metadata = open_policy(config.policy, environment)
    for mode in config.modes:
        check_policy(metadata, environment.embodiment, mode)
    if config.policy != "expert":
        import torch

        torch.set_num_threads(1)
    return source, metadata


def _describe_speed(source: PolicySource, environment: Environment) -> str:
    """Warm up (compiles, fills caches), then say how long one inference takes by itself."""
    environment.reset(0)
    policy: Policy = source(environment) if callable(source) else source
    durations_s = warm_up(policy, environment.observe(), 6, WallClock())
    return f"one inference takes {1e3 * float(np.median(durations_s[1:])):.0f} ms on this machine."


def _run_live(
    config: DemoConfig, source: PolicySource, metadata: PolicyMetadata, environment: Environment
) -> list[_Live]:
    lives: list[_Live] = []
    num_cells = len(config.modes) * len(config.latencies_ms)
    with _steady_interpreter(), tqdm(total=num_cells, desc="live", unit="cell") as bar:
        for latency_ms in config.latencies_ms:
            seeds = episode_seeds(config.seed, _MAX_EPISODES_PER_CELL)
            longest_s = (latency_ms + config.latency_jitter_ms) / 1e3
            ticks = to_ticks(longest_s, 1.0 / metadata.embodiment.control_hz)
            for mode in config.modes:
                execute_horizon = config.execute_horizon
                if execute_horizon is None:
                    execute_horizon = default_execute_horizon(mode, ticks, metadata.horizon)
                cell = Cell(mode, latency_ms, "ms", execute_horizon, metadata)
                bar.set_description(f"live {cell.name}")
                episodes = rollout_wall(
                    source,
                    environment,
                    executor_config(mode, execute_horizon),
                    draw_latency(config, latency_ms),
                    seeds,
                    delay_estimator=DelayEstimator(initial=ticks),
                    budget_s=config.seconds_per_cell,
                    with_snapshots=True,
                )
                lives.append(_Live(cell, latency_ms, episodes))
                num_solved = sum(episode.status.is_success for episode in episodes)
                bar.set_postfix_str(f"{num_solved} of {len(episodes)} picked")
                bar.update()
    return lives


def _run_twins(config: DemoConfig, source: PolicySource, lives: list[_Live]) -> dict[str, dict[str, Any]]:
    """Reaction times by cell name. Latencies that round to the same number of ticks share their runs."""
    with_images = config.policy != "expert"
    seeds = episode_seeds(config.seed + 1, config.num_twins)
    known: dict[tuple[str, int], dict[str, Any]] = {}
    reactions: dict[str, dict[str, Any]] = {}
    for live in tqdm(lives, desc="reaction", unit="cell"):
        period_s = 1.0 / live.cell.metadata.embodiment.control_hz
        delay = to_ticks(live.latency_ms / 1e3, period_s)
        if (live.cell.mode, delay) not in known:
            executor = executor_config(live.cell.mode, live.cell.execute_horizon)
            runs = [
                rollout_virtual(
                    source,
                    lambda is_disturbed=is_disturbed: make_environment(
                        SUITE, with_images=with_images, perturbation=is_disturbed
                    ),
                    executor,
                    delay,
                    seeds,
                    batch=max(1, config.num_twins),
                    max_ticks=_TWIN_TICKS,
                )
                for is_disturbed in (True, False)
            ]
            known[live.cell.mode, delay] = _compare_twins(*runs) | {"delay_ticks": delay}
        reactions[live.cell.name] = known[live.cell.mode, delay]
    return reactions


def _compare_twins(disturbed: list[Episode], twins: list[Episode]) -> dict[str, Any]:
    """Reaction ticks of the pairs in which the event happened and both runs were equal before it."""
    values: list[int] = []
    num_pairs = num_unequal = num_unmoved = 0
    for episode, twin in zip(disturbed, twins, strict=True):
        event = int(episode.status.metrics["perturbation_tick"])
        if not 0 <= event < min(episode.log.num_ticks, twin.log.num_ticks):
            continue
        num_pairs += 1
        parted = parting_tick(episode.log, twin.log)
        if parted is not None and parted < event:
            num_unequal += 1
            continue
        reaction = reaction_ticks(episode.log, twin.log, event)
        if reaction is None:
            num_unmoved += 1
        else:
            values.append(reaction)
    return {"ticks": values, "num_pairs": num_pairs, "num_unequal": num_unequal, "num_unmoved": num_unmoved}


def _assemble(
    config: DemoConfig,
    run: dict[str, Any],
    metadata: PolicyMetadata,
    lives: list[_Live],
    reactions: dict[str, dict[str, Any]],
    timing: dict[str, float],
    total_s: float,
) -> dict[str, Any]:
    summary: list[dict[str, Any]] = []
    traces: list[dict[str, Any]] = []
    period_ms = 1e3 / metadata.embodiment.control_hz
    for live in lives:
        reaction = reactions[live.cell.name]
        row = summarise(live.cell, live.episodes, on_wall_clock=True)
        row["reaction_ticks"] = quantiles(reaction["ticks"], ("mean", "p50", "p95", "max"))
        row["reaction_ms"] = quantiles([period_ms * n for n in reaction["ticks"]], ("mean", "p50", "p95", "max"))
        row["reaction_pairs"] = {name: reaction[name] for name in ("num_pairs", "num_unequal", "num_unmoved")}
        own_ms = [1e3 * r.duration_s for e in live.episodes for r in e.requests if r.duration_s > 0]
        row["own_inference_ms"] = quantiles(own_ms, ("p50", "p95", "max"))
        summary.append(row)
        num_requests = sum(len(episode.requests) for episode in live.episodes)
        latency_s = draw_latency(config, live.latency_ms)
        values = [round(1e3 * latency_s(k), 2) for k in range(num_requests)]
        traces.append({"cell": live.cell.name, "kind": "drawn", "unit": "ms", "values": values})
    return make_result(
        suite=SUITE,
        policy=policy_block(config.policy, metadata),
        run=run,
        conditions={
            "mode": "+".join(config.modes),
            "clock": "wall",
            "rates": rates(metadata.embodiment),
            "delay_trace": traces,
            "cells": [live.cell.as_dict() for live in lives],
        },
        episodes=[row for live in lives for row in episode_rows(live.cell, live.episodes)],
        summary=summary,
        timing={"total_s": total_s, **timing},
    )


@contextmanager
def _timed(timing: dict[str, float], name: str) -> Iterator[None]:
    start_s = time.monotonic()
    yield
    timing[name] = time.monotonic() - start_s


@contextmanager
def _steady_interpreter() -> Iterator[None]:
    """Quick thread switches and no garbage collection pauses from what is already loaded, while the control loop runs."""
    interval_s = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.unfreeze()


def _print_end(result: dict[str, Any], paths: tuple[Path, ...]) -> None:
    print("\n  latency   mode     picked          per minute   idle    jump p95   reaction p50   jitter p99")
    for row in result["summary"]:
        cells = (
            f"{row['delay_label']:>9}   {row['mode']:<7}",
            f"{row['successes']:>3} of {row['episodes']:<3} {100 * row['rate']:>4.0f} %",
            f"{row['throughput_per_min']:>10.1f}",
            f"{100 * (row['idle_share'] or 0):>6.0f} %",
            _number(row["seam_ratio"]["p95"], 9, "x"),
            _number(row["reaction_ms"]["p50"], 11, " ms"),
            _number(row["period_error_ms"]["p99"], 9, " ms"),
        )
        print(" ".join(cells))
    timing = result["timing"]
    parts = ", ".join(f"{name.removesuffix('_s')} {timing[name]:.0f} s" for name in timing if name != "total_s")
    print(f"\nDone in {timing['total_s']:.0f} s ({parts}). Open the report; the video is in it.")
    for path in paths:
        print(f"  {path}")


def _number(value: float | None, width: int, unit: str) -> str:
    return f"{'none':>{width + len(unit)}}" if value is None else f"{value:>{width}.1f}{unit}"
