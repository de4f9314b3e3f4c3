"""E-1, E-4, E-8, E-9 and E-11 with an arm of ordinary limits: whatever happens, what is sent can be done."""

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import MODES, Mode
from cerebella.runtime.trace import Outcome

from .arm import (
    NUM_JOINTS,
    Loop,
    ScriptedTransport,
    WanderingPolicy,
    check_limits,
    make_arm,
    make_executor,
    make_metadata,
)

SCENARIOS_PER_EXAMPLE = 10
NUM_EXAMPLES = int(os.environ.get("CEREBELLA_SCENARIOS", 10_000)) // (50 * SCENARIOS_PER_EXAMPLE)
"""Per mode; a tenth of the scenarios of `test_executor_properties` in all five modes together."""


@dataclass(frozen=True)
class Trouble:
    mode: Mode
    control_hz: float
    horizon: int
    execute_horizon: int
    max_trained_prefix: int
    reply_timeout: int
    max_discards: int
    roughness: float
    lag: int
    delays: tuple[tuple[int, ...], ...]
    failures: frozenset[int]
    strays: frozenset[int]
    skips: tuple[int, ...]
    orders: tuple[tuple[int, str], ...]


def draw(mode: Mode, seed: int) -> Trouble:
    rng = np.random.default_rng(seed)
    control_hz = float(rng.choice([30.0, 30.0, 100.0, 250.0]))
    horizon = int(rng.integers(2, 21))
    num_ticks, num_requests = int(rng.integers(20, 50)), 120
    base = int(rng.integers(0, 8))
    delays: list[tuple[int, ...]] = []
    for _ in range(num_requests):
        delay = base + int(rng.integers(0, 3)) + (int(rng.integers(5, 30)) if rng.random() < 0.1 else 0)
        fate = rng.random()
        delays.append(() if fate < 0.06 else (delay, delay + int(rng.integers(0, 9))) if fate < 0.12 else (delay,))
    picks = [
        frozenset(np.flatnonzero(rng.random(num_requests) < share).tolist()) for share in rng.choice([0.0, 0.15], 2)
    ]
    num_control = int(num_ticks * control_hz / 30)
    skips = np.where(rng.random(num_control) < 0.02, rng.integers(1, 20, num_control), 0) * int(rng.integers(2))
    kinds = ["pause", "resume", "task", "take over", "hand back", "block", "free"]
    orders = [(int(rng.integers(num_ticks)), str(rng.choice(kinds))) for _ in range(int(rng.choice([0, 0, 3, 8])))]
    return Trouble(
        mode=mode,
        control_hz=control_hz,
        horizon=horizon,
        execute_horizon=int(rng.integers(1, horizon + 1)),
        max_trained_prefix=int(rng.integers(0, horizon)),
        reply_timeout=int(rng.integers(3, 60)),
        max_discards=int(rng.integers(2)),
        roughness=float(rng.choice([0.0, 0.01, 0.3])),
        lag=int(rng.integers(0, 4)),
        delays=tuple(delays),
        failures=picks[0],
        strays=picks[1],
        skips=tuple(skips.tolist()),
        orders=tuple(sorted(orders)),
    )


def obey(loop: Loop, order: str, rng: np.random.Generator) -> None:
    executor = loop.executor
    if order == "pause":
        executor.pause()
    elif order == "resume":
        executor.resume()
    elif order == "task":
        executor.set_prompt("something else")
    elif order == "take over":
        executor.take_over()
        executor.human_command(rng.uniform(-2, 2, NUM_JOINTS + 1).astype(np.float32))
    elif order == "hand back":
        executor.hand_back()
    else:
        loop.blocked = order == "block"


def play(trouble: Trouble, seed: int) -> Executor:
    embodiment = make_arm(trouble.control_hz)
    metadata = make_metadata(embodiment, trouble.horizon, trouble.max_trained_prefix)
    policy = WanderingPolicy(metadata, seed, trouble.roughness, trouble.failures, trouble.strays)
    transport = ScriptedTransport(policy, trouble.delays.__getitem__)
    options = {"reply_timeout": trouble.reply_timeout, "degrade_after": 5, "max_discards": trouble.max_discards}
    executor = make_executor(policy, transport, trouble.mode, trouble.execute_horizon, config=options)
    rng = np.random.default_rng(seed)

    def on_tick(loop: Loop, tick: int) -> None:
        for when, order in trouble.orders:
            if when == tick:
                obey(loop, order, rng)

    start = rng.uniform(-1.4, 1.4, NUM_JOINTS + 1)
    start[-1] = 1.0
    loop = Loop(executor, trouble.lag, start, on_tick)
    loop.run(len(trouble.skips), skip=lambda tick: trouble.skips[tick] if tick < len(trouble.skips) else 0)
    judge(loop, trouble, start.astype(np.float32))
    return executor


def judge(loop: Loop, trouble: Trouble, start: np.ndarray) -> None:
    executor = loop.executor
    trace, counters = list(executor.trace), executor.counters
    assert [record.control_tick for record in trace] == list(range(len(trouble.skips)))  # E-1
    assert all((a.tick, a.phase) < (b.tick, b.phase) for a, b in pairwise(trace))
    check_limits(executor, start)  # E-8
    ends: list[Outcome] = [request.outcome for request in executor.requests]  # E-9
    assert counters.num_requests == len(ends)
    for outcome in set(ends):
        if outcome == "in flight":
            continue
        assert counters.outcomes[outcome] == ends.count(outcome), outcome
    assert sum(counters.outcomes.values()) + ends.count("in flight") == len(ends)
    assert ends.count("in flight") <= 1
    assert counters.num_ticks == len(trace)
    judge_rows(loop)
    judge_promises(loop)


def judge_rows(loop: Loop) -> None:
    """E-11: within a chunk the row only grows, by at most one row per tick of the policy; E-3: never an older chunk."""
    runs = [record for record in loop.executor.trace if record.state == "run"]
    assert all(a.chunk_id <= b.chunk_id for a, b in pairwise(runs))
    for a, b in pairwise(runs):
        if a.chunk_id == b.chunk_id:
            elapsed = (b.tick + b.phase) - (a.tick + a.phase)
            assert 0 <= b.row - a.row <= np.ceil(elapsed - 1e-6)


def judge_promises(loop: Loop) -> None:
    """E-4, E-5: what a request promised for its ticks was sent, or its reply was not used.

    Looked at where a command lies on a tick, and while nothing else intervened (a stall moves the promised rows).
    """
    executor = loop.executor
    on_ticks = {record.tick: record for record in executor.trace if record.phase < 1e-9}
    for request in executor.requests:
        if request.outcome not in ("used", "late") or executor.counters.num_skipped_ticks:
            continue
        for i, promised in enumerate(request.action_prefix[: int(request.consumed)]):
            record = on_ticks.get(request.observation_tick + i)
            if record is not None:
                assert np.array_equal(record.values, promised), (request.id, i)


@pytest.mark.parametrize("mode", MODES)
def test_e8_every_command_can_be_done(mode: Mode) -> None:
    num_scenarios = 0

    @settings(max_examples=NUM_EXAMPLES, deadline=None)
    @given(st.integers(0, 2**40))
    def scenarios_from(seed: int) -> None:
        nonlocal num_scenarios
        for i in range(SCENARIOS_PER_EXAMPLE):
            try:
                play(draw(mode, seed + i), seed + i)
            except Exception as error:
                error.add_note(f"in the scenario draw({mode!r}, {seed + i})")
                raise
            num_scenarios += 1

    scenarios_from()
    assert num_scenarios >= NUM_EXAMPLES * SCENARIOS_PER_EXAMPLE


def test_the_troubles_reach_every_corner() -> None:
    executors = [play(draw(mode, seed), seed) for mode in MODES for seed in range(40)]
    states = {record.state for executor in executors for record in executor.trace}
    assert states == {"run", "start", "stop", "hold", "human"}
    ends = {request.outcome for executor in executors for request in executor.requests}
    assert ends >= {"used", "late", "rejected", "timed out", "discarded"}
    for name in ("num_bridged", "num_slowed", "num_stops", "num_limited", "num_ignored_replies", "num_skipped_ticks"):
        assert sum(getattr(executor.counters, name) for executor in executors) > 5, name
