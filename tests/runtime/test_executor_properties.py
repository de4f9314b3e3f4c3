"""The executor's invariants over ten thousand random scenarios, or as many as CEREBELLA_SCENARIOS says."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.runtime.executor_config import GUIDED_MODES, Mode

from .scenario import Scenario, draw, judge, play

MODES: tuple[Mode, ...] = ("sync", "naive", "prefix", *GUIDED_MODES)
SCENARIOS_PER_EXAMPLE = 20
NUM_SCENARIOS = int(os.environ.get("CEREBELLA_SCENARIOS", 10_000))
EXAMPLES = -(-NUM_SCENARIOS // (SCENARIOS_PER_EXAMPLE * len(MODES)))


@pytest.mark.parametrize("mode", MODES)
def test_every_scenario_obeys_the_invariants(mode: Mode) -> None:
    """E-1 to E-6 and E-9, for delays, faults and stalls of any kind."""
    num_scenarios = 0

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.integers(0, 2**40))
    def scenarios_from(seed: int) -> None:
        nonlocal num_scenarios
        for i in range(SCENARIOS_PER_EXAMPLE):
            scenario = draw(mode, seed + i)
            try:
                judge(play(scenario))
            except Exception as error:
                error.add_note(f"in the scenario draw({mode!r}, {seed + i}): {scenario}")
                raise
            num_scenarios += 1

    scenarios_from()
    assert num_scenarios * len(MODES) >= NUM_SCENARIOS


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["sync", "naive", "prefix"]))
def test_the_same_scenario_gives_the_same_log(seed: int, mode: Mode) -> None:
    """E-10: replaying a scenario repeats every command, record and counter bit for bit."""
    first, second = (play(draw(mode, seed)) for _ in range(2))
    for a, b in zip(first.executor.trace, second.executor.trace, strict=True):
        assert (a.tick, a.state, a.chunk_id, a.row, a.observation_tick, a.sent_s) == (
            b.tick,
            b.state,
            b.chunk_id,
            b.row,
            b.observation_tick,
            b.sent_s,
        )
        assert a.values.tobytes() == b.values.tobytes()
        assert a.raw.tobytes() == b.raw.tobytes()
    assert first.executor.counters == second.executor.counters
    for a, b in zip(first.executor.requests, second.executor.requests, strict=True):
        assert (a.outcome, a.reason, a.consumed, a.arrival_tick) == (b.outcome, b.reason, b.consumed, b.arrival_tick)
        assert a.action_prefix.tobytes() == b.action_prefix.tobytes()


def test_the_scenarios_reach_every_corner() -> None:
    """The generator is worth something: all outcomes, kinds of rejection, starvation, clipping and stalls occur."""
    logs = [play(draw("prefix", seed)) for seed in range(400)]
    counters = [log.executor.counters for log in logs]
    for outcome in ("used", "late", "rejected", "superseded"):
        assert sum(c.outcomes[outcome] for c in counters) > 0, outcome
    assert {reason for c in counters for reason in c.rejections} == {
        "inference failed",
        "prefix changed",
        "far outside",
    }
    for name in ("num_stops", "num_untrained", "num_delay_clamped", "num_clipped", "num_skipped_ticks"):
        assert sum(getattr(c, name) for c in counters) > 20, name
    assert any(r.outcome == "used" and len(r.action_prefix) > r.consumed for log in logs for r in log.executor.requests)


def synchronous_receding_horizon(scenario: Scenario) -> np.ndarray:
    """What a loop without any executor sends when inference costs nothing: think, run s rows, think again."""
    commands: list[list[float]] = []
    num_chunks = 0
    while len(commands) < len(scenario.ticks):
        start = len(commands)
        for row in range(min(scenario.execute_horizon, len(scenario.ticks) - start)):
            commands.append([num_chunks, row, scenario.ticks[start] + row, scenario.values[start]])
        num_chunks += 1
    return np.asarray(commands, dtype=np.float32)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 16), st.data())
def test_without_delay_all_modes_equal_the_synchronous_runner(horizon: int, data: st.DataObject) -> None:
    """E-7: bit-equal command streams at delay zero, for s = H and for s < H."""
    execute_horizon = data.draw(st.integers(1, horizon))
    for mode in ("sync", "naive", "prefix"):
        scenario = Scenario(
            mode=mode,
            horizon=horizon,
            execute_horizon=execute_horizon,
            max_trained_prefix=horizon - 1,
            initial_delay=0,
            num_warmup=1,
            value_limit=1e6,
            delays=(0,) * 40,
            failures=frozenset(),
            nans=frozenset(),
            forgets=frozenset(),
            ticks=tuple(range(40)),
            values=tuple(np.random.default_rng(horizon).normal(size=40).tolist()),
        )
        log = play(scenario)
        sent = np.stack([command.values for command in log.commands])
        assert sent.tobytes() == synchronous_receding_horizon(scenario).tobytes()
        assert log.executor.counters.idle_share == 0.0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12))
def test_idle_share_is_what_the_modes_promise(execute_horizon: int, delay: int) -> None:
    """Sync: r / (s + r), its cycle being s + r. Asynchronous: 0 after the cold start, the cycle being s."""
    delay = min(delay, execute_horizon)
    num_cycles = 6
    for mode in ("sync", "naive", "prefix"):
        cycle = execute_horizon + delay if mode == "sync" else execute_horizon
        num_ticks = delay + num_cycles * cycle if mode != "sync" else num_cycles * cycle
        scenario = Scenario(
            mode=mode,
            horizon=execute_horizon + delay,
            execute_horizon=execute_horizon,
            max_trained_prefix=delay,
            initial_delay=delay,
            num_warmup=0,
            value_limit=1e6,
            delays=(delay,) * num_ticks,
            failures=frozenset(),
            nans=frozenset(),
            forgets=frozenset(),
            ticks=tuple(range(num_ticks)),
            values=(0.0,) * num_ticks,
        )
        executor = play(scenario).executor
        if mode == "sync":
            assert executor.counters.idle_share == pytest.approx(delay / (execute_horizon + delay))
        else:
            assert executor.counters.num_holds == delay
            assert executor.counters.num_stops == 0
        starts = np.asarray([request.observation_tick for request in executor.requests])
        assert np.array_equal(np.diff(starts)[1:], np.full(len(starts) - 2, cycle))
