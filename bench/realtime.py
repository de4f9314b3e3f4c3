"""Does the executor keep time and limits: half an hour of virtual time under burst latency, and a stretch of wall time.

Both run the executor that robots run: rows at 30 Hz, commands at 100 Hz, mode `prefix`, H = 30, s = 20, prefixes of up to 6
rows, a policy that sways two seven-joint arms at half of their limits, and the committed trace `burst_80ms` (80 ms
log-normal, 2 % of the requests in bursts of 100 to 400 ms more). On the virtual clock every command is checked: limits of
range, velocity, acceleration and jerk, counters that add up, and that the robot stands only after an answer that took
longer than the plan lasted. On the wall clock the policy answers from a thread, and what is measured is when commands are
sent: jitter, phase error, drift. Prints one JSON object as the last line; exit code 1 if a check fails.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psutil
import tyro
from tqdm import tqdm

from cerebella.embodiment import ActionDimension, Dimension, Embodiment
from cerebella.evaluation.fingerprint import run_fingerprint
from cerebella.interfaces import Reply, Status
from cerebella.runtime.clock import VirtualClock, WallClock
from cerebella.runtime.delay import DelayEstimator, to_ticks
from cerebella.runtime.drive import drive
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import ExecutorConfig
from cerebella.runtime.instruments.latency import TRACES, LatencyTrace
from cerebella.runtime.instruments.sway import SwayPolicy
from cerebella.runtime.trace import Event, RequestRecord, TickRecord
from cerebella.runtime.transport import ThreadTransport, VirtualTransport, batched
from cerebella.types import Action, Observation

POLICY_HZ, CONTROL_HZ = 30.0, 100.0
HORIZON, EXECUTE_HORIZON, MAX_PREFIX = 30, 20, 6
NUM_JOINTS = 14
VELOCITY, ACCELERATION, JERK, RANGE = 2.0, 10.0, 1000.0, 2.5


@dataclass(frozen=True)
class Options:
    """How long to run.

    Args:
        virtual_s: seconds of the virtual clock.
        wall_s: seconds of the wall clock.
    """

    virtual_s: float = 1800.0
    wall_s: float = 30.0


def make_arms() -> Embodiment:
    """Two arms of seven joints with the limits of a small cobot."""
    names = [f"joint_{i}" for i in range(NUM_JOINTS)]
    states = tuple(Dimension(name, "rad", "joint", "base", i, -RANGE, RANGE) for i, name in enumerate(names))
    limits = (VELOCITY, ACCELERATION, JERK)
    actions = tuple(
        ActionDimension(name, "rad", "joint", "base", i, -RANGE, RANGE, *limits, "last", name, relative=False)
        for i, name in enumerate(names)
    )
    return Embodiment("two_arms", "joint", states, actions, (), POLICY_HZ, CONTROL_HZ)


class Arms:
    """An `Environment`: the arms are where the last command told them to be."""

    def __init__(self, num_ticks: int) -> None:
        self.embodiment = make_arms()
        self._num_ticks = num_ticks
        self._pose = np.zeros(NUM_JOINTS, dtype=np.float32)
        self._tick = 0

    def reset(self, seed: int) -> None:
        """Nothing is random."""

    def observe(self) -> Observation:
        """The pose."""
        return Observation(self._pose, "sway", self._tick, self._tick / CONTROL_HZ)

    def apply(self, action: Action) -> None:
        """Be there."""
        self._pose = action.values
        self._tick += 1

    def status(self) -> Status:
        """Done after so many ticks."""
        return Status(self._tick >= self._num_ticks, False, "")


@dataclass
class Check:
    """A sink that checks every command as it is made, in bounded memory, and keeps when it was sent.

    Args:
        worst: largest first, second and third difference of the commands, as a share of its limit.
    """

    worst: dict[str, float] = field(default_factory=lambda: {"velocity": 0.0, "acceleration": 0.0, "jerk": 0.0})
    largest: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    sent_s: list[float] = field(default_factory=list)
    positions: list[float] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    num_unexplained_stops: int = 0
    _last: list[np.ndarray] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)

    def observation(self, observation: Observation, now_s: float) -> None:
        """Not needed."""

    def reply(self, reply: Reply, tick: int, phase: float) -> None:
        """Not needed."""

    def event(self, event: Event) -> None:
        """A stop is explained by a request that has been open for longer than the plan lasts."""
        if event.name == "stop":
            waited = [event.tick - asked for asked in self._open.values()]
            self.num_unexplained_stops += not waited or max(waited) < HORIZON - EXECUTE_HORIZON - 1

    def request(self, record: RequestRecord) -> None:
        """Which are open, and how long they took."""
        if record.outcome == "in flight":
            self._open[record.id] = record.observation_tick
            return
        self._open.pop(record.id, None)
        if record.num_ticks_waited >= 0:
            self.waits.append(record.num_ticks_waited)

    def tick(self, record: TickRecord) -> None:
        """Differences of what is sent, in float64."""
        self.states[record.state] = self.states.get(record.state, 0) + 1
        self.sent_s.append(record.sent_s)
        self.positions.append(record.tick + record.phase)
        self.largest = max(self.largest, float(np.abs(record.values).max()))
        self._last = [*self._last[-3:], record.values.astype(np.float64)]
        limits = {"velocity": VELOCITY, "acceleration": ACCELERATION, "jerk": JERK}
        for order, (name, limit) in enumerate(limits.items(), start=1):
            if len(self._last) > order:
                difference = np.diff(np.stack(self._last[-order - 1 :]), order, axis=0)
                share = float(np.abs(difference).max()) / (limit / CONTROL_HZ**order)
                self.worst[name] = max(self.worst[name], share)


def make_executor(transport: Any, policy: SwayPolicy, check: Check) -> Executor:
    """The one under test; nothing is kept in memory for long."""
    config = ExecutorConfig("prefix", EXECUTE_HORIZON, num_kept=1000)
    estimator = DelayEstimator(initial=4, num_warmup=1)
    return Executor(policy.metadata, config, transport, estimator, sinks=[check])


def make_policy() -> SwayPolicy:
    """Sways; trained for prefixes of up to 6 rows, as the released model is."""
    policy = SwayPolicy(make_arms(), HORIZON)
    policy.metadata = replace(policy.metadata, max_trained_prefix=MAX_PREFIX)
    return policy


def _counting(bar: Any) -> Callable[[Observation, Action], None]:
    def count(observation: Observation, action: Action) -> None:
        bar.update()

    return count


def run_virtual(options: Options, trace: LatencyTrace) -> tuple[dict[str, Any], list[str]]:
    """Every command of half an hour, checked."""
    policy, check = make_policy(), Check()
    transport = VirtualTransport(batched(policy), lambda number: to_ticks(trace(number), 1 / POLICY_HZ))
    executor = make_executor(transport, policy, check)
    arms = Arms(round(options.virtual_s * CONTROL_HZ))
    start_s, memory = time.process_time(), psutil.Process().memory_info().rss
    with tqdm(total=arms._num_ticks, desc="virtual", unit="command", mininterval=1.0) as bar:
        drive(arms, executor, VirtualClock(), 10**9, _counting(bar))
    counters = executor.counters
    queue = HORIZON - EXECUTE_HORIZON
    rounding = 2**-23 * RANGE
    allowed = {
        name: 1 + 2**order * rounding / (limit / CONTROL_HZ**order)
        for order, (name, limit) in enumerate(
            {"velocity": VELOCITY, "acceleration": ACCELERATION, "jerk": JERK}.items(), start=1
        )
    }
    num_open = counters.num_requests - sum(counters.outcomes.values())
    num_beyond_queue = sum(wait > queue for wait in check.waits)
    failures = [f"{name} {check.worst[name]:.6f} of its limit" for name in allowed if check.worst[name] > allowed[name]]
    failures += ["outside the range"] * (check.largest > RANGE)
    failures += [f"{check.num_unexplained_stops} stops without a late answer"] * (check.num_unexplained_stops > 0)
    failures += ["requests do not add up"] * (num_open not in (0, 1))
    failures += ["commands do not add up"] * (sum(check.states.values()) != counters.num_ticks)
    failures += ["more stops than answers beyond the plan"] * (counters.num_stops > num_beyond_queue)
    idle = check.states.get("stop", 0) + check.states.get("hold", 0)
    return {
        "virtual_s": options.virtual_s,
        "num_commands": counters.num_ticks,
        "num_requests": counters.num_requests,
        "outcomes": dict(counters.outcomes),
        "num_answers_beyond_the_plan": num_beyond_queue,
        "num_stops": counters.num_stops,
        "num_slowed_commands": counters.num_slowed,
        "num_bridged": counters.num_bridged,
        "idle_share": idle / counters.num_ticks,
        "idle_share_while_answers_fit": 0.0 if not check.num_unexplained_stops else None,
        "worst_share_of_limit": {name: round(share, 6) for name, share in check.worst.items()},
        "delay_ticks": {f"p{q:g}": float(np.quantile(check.waits, q / 100)) for q in (50, 95, 99, 100)},
        "cpu_s": round(time.process_time() - start_s, 1),
        "grown_mb": round((psutil.Process().memory_info().rss - memory) / 1e6, 1),
        "states": check.states,
    }, failures


def run_wall(options: Options, trace: LatencyTrace) -> dict[str, Any]:
    """When commands really leave, against a schedule that was fixed at the start."""
    policy, check, clock = make_policy(), Check(), WallClock()
    transport = ThreadTransport(policy, clock, trace)
    executor = make_executor(transport, policy, check)
    arms = Arms(10**9)
    num_ticks = round(options.wall_s * CONTROL_HZ)
    with tqdm(total=num_ticks, desc="wall clock", unit="command", mininterval=5.0) as bar:
        pacing = drive(
            arms,
            executor,
            clock,
            num_ticks,
            _counting(bar),
            counts_missed_ticks=True,
        )
    executor.close()
    sent_s, steps = np.asarray(check.sent_s), np.asarray(check.positions) * CONTROL_HZ / POLICY_HZ
    error_s = (sent_s - sent_s[0]) - (steps - steps[0]) / CONTROL_HZ
    error_s -= np.median(error_s[: int(CONTROL_HZ)])
    gaps_s = np.abs(np.diff(sent_s) - np.diff(steps) / CONTROL_HZ)
    minutes = (sent_s - sent_s[0]) / 60
    drift_us_per_min = float(np.polyfit(minutes, error_s, 1)[0]) * 1e6
    num = len(error_s) // 10
    return {
        "wall_s": round(float(sent_s[-1] - sent_s[0]), 2),
        "num_commands": len(sent_s),
        "jitter_ms": {f"p{q:g}": round(float(np.quantile(gaps_s, q / 100)) * 1e3, 3) for q in (50, 99, 99.9, 100)},
        "phase_error_ms": {
            **{f"p{q:g}": round(float(np.quantile(np.abs(error_s), q / 100)) * 1e3, 3) for q in (50, 99, 99.9)},
            "worst": round(float(np.abs(error_s).max()) * 1e3, 3),
        },
        "drift_us_per_min": round(drift_us_per_min, 3),
        "median_phase_error_last_minus_first_tenth_us": round(
            float(np.median(error_s[-num:]) - np.median(error_s[:num])) * 1e6, 3
        ),
        "num_late_beyond_10_percent": int((error_s > 0.1 / CONTROL_HZ).sum()),
        "num_overruns": pacing.num_overruns,
        "num_missed_ticks": pacing.num_skipped,
        "num_stops": executor.counters.num_stops,
        "worst_share_of_limit": {name: round(share, 6) for name, share in check.worst.items()},
        "cpu_load_1min": psutil.getloadavg()[0],
    }


def main() -> None:
    """Virtual first, then the wall clock."""
    options = tyro.cli(Options)
    trace = LatencyTrace.load(TRACES / "burst_80ms.json")
    virtual, failures = run_virtual(options, trace)
    wall = run_wall(options, trace)
    for failure in failures:
        print(f"FAILED: {failure}")
    report = {"bench": "realtime", "virtual": virtual, "wall": wall, "failures": failures, "run": run_fingerprint(0)}
    print(json.dumps(report))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
