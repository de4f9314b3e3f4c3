"""Half an hour at the belt without a break, on the virtual clock: does it keep on, and what does it keep in memory?

Numbers of a stream cell: `rows`, one per 30th of the stream (a minute of half an hour), each with `s` (virtual seconds so far), `picked`,
`missed`, `wrong` (so far) and `rss_mb` (resident memory of the process); `is_whole`: it came to its end; and of a policy `held_ticks`,
`num_requests`. Nobody intervenes, and an error ends the study.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cerebella.envs.workcell.tasks import workcell_module
from cerebella.evaluation.suites import check_policy, delay_trace, executor_config
from cerebella.interfaces import Policy
from cerebella.recipes.workcell_study.cells import StreamName
from cerebella.recipes.workcell_study.names import EXPERT
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.runtime.clock import VirtualClock
from cerebella.runtime.delay import DelayEstimator
from cerebella.runtime.drive import drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.transport import VirtualTransport, batched

NUM_ROWS = 30
MODE = "prefix"
SEED = 3_000_000
"""Of the stream; apart from those of demonstrations and episodes."""
_NUM_KEPT = 1000
"""Commands and requests that the executor remembers, so that its own record does not grow."""


def stream_settings(study: StudyWorkcell, name: StreamName, weights: str | None) -> dict[str, Any]:
    """What decides the numbers of a cell. `weights`: None for the expert."""
    settings = {"stream_s": study.stream_s, "randomisation": study.policy.randomisation, "seed": SEED}
    if weights is None:
        return settings
    s = study.execute_horizon(MODE, name.delay)
    return settings | {
        "weights": weights,
        "delay": name.delay,
        "execute_horizon": s,
        "render_px": study.policy.render_px,
    }


def stream_numbers(study: StudyWorkcell, name: StreamName, policy: Policy | None) -> dict[str, Any]:
    """Run a stream; see the module. `policy`: None for the expert."""
    task = workcell_module("belt.task").Belt(study.stream_s)
    size_px = (study.policy.render_px, study.policy.render_px)
    environment = workcell_module("environment").WorkcellEnvironment(
        task, with_images=policy is not None, render_size=size_px, randomisation=study.policy.randomisation
    )
    rows = _Rows(environment, task.max_ticks)
    more: dict[str, Any] = {}
    if policy is None:
        assert name.training == EXPERT
        for _ in workcell_module("expert_driver").expert_ticks(environment, SEED, SEED):
            rows.look()
    else:
        environment.reset(SEED)
        more = _drive(study, name, policy, environment, rows)
    rows.look()
    environment.close()
    return {"rows": rows.found, "is_whole": environment.status().is_done, **more}


def _drive(study: StudyWorkcell, name: StreamName, policy: Policy, environment: Any, rows: "_Rows") -> dict[str, Any]:
    check_policy(policy.metadata, environment.embodiment, MODE)
    trace = delay_trace(name.delay)
    config = replace(executor_config(MODE, study.execute_horizon(MODE, name.delay)), num_kept=_NUM_KEPT)
    transport = VirtualTransport(batched(policy), lambda number: name.delay)
    executor = Executor(policy.metadata, config, transport, DelayEstimator(initial=trace.initial, margin=trace.margin))
    try:
        drive(environment, executor, VirtualClock(), rows.max_ticks, lambda observation, action: rows.look())
    finally:
        executor.close()
    return {"held_ticks": executor.counters.num_holds, "num_requests": executor.counters.num_requests}


class _Rows:
    """Looks at a stream again and again, and keeps `NUM_ROWS` looks."""

    def __init__(self, environment: Any, max_ticks: int) -> None:
        self.max_ticks = max_ticks
        self.found: list[dict[str, float]] = []
        self._environment = environment
        self._due: Iterator[int] = iter([max_ticks * (k + 1) // NUM_ROWS for k in range(NUM_ROWS)])
        self._next = next(self._due)

    def look(self) -> None:
        """Called once per tick, and at the end."""
        tick = self._environment.cell.tick
        if tick < self._next:
            return
        self._next = next(self._due, 2 * self.max_ticks)
        metrics = self._environment.status().metrics
        row = {"s": round(tick / self._environment.embodiment.control_hz, 2)}
        row |= {what: metrics[f"num_{what}"] for what in ("picked", "missed", "wrong")}
        self.found.append(row | {"rss_mb": round(_resident_mb(), 1)})


def _resident_mb() -> float:
    """Memory of this process that is in RAM, as Linux tells; 0 elsewhere."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return 0.0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
