"""Was a run as it must be, whatever went wrong? Looks at what the robot got, not at what the executor meant."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Reply
from cerebella.runtime.executor import Executor
from cerebella.runtime.instruments.robot_stub import CommandRecord
from cerebella.runtime.instruments.sway import SwayPolicy
from cerebella.runtime.trace import commands


def judge(records: Sequence[CommandRecord], executor: Executor) -> None:
    """E-1, E-8, E-9: one command per tick, in order and inside the limits; every request ended once."""
    judge_commands(records, executor.metadata.embodiment)
    trace = list(executor.trace)
    assert [record.control_tick for record in trace] == list(range(len(trace)))
    assert np.array_equal(np.stack([record.values for record in records]), commands(trace))
    counters = executor.counters
    assert counters.num_ticks == len(trace)
    open_request = executor.requests[-1].outcome == "in flight"
    assert sum(counters.outcomes.values()) + open_request == counters.num_requests == len(executor.requests)
    assert [request.id for request in executor.requests] == list(range(len(executor.requests)))


def judge_commands(records: Sequence[CommandRecord], embodiment: Embodiment) -> None:
    """Exactly one command per tick, and velocity, acceleration and jerk of each dimension inside its limits.

    Differences of the commands, from rest at the first one.
    """
    assert [record.sequence for record in records] == list(range(len(records)))
    assert [record.tick for record in records] == list(range(len(records)))
    assert [record.violation for record in records if record.violation] == []
    sent = np.stack([record.values for record in records]).astype(np.float64)
    difference = np.concatenate([np.repeat(sent[:1], 3, axis=0), sent])
    rounding = float(np.spacing(np.float32(np.abs(sent).max())))
    for order in (1, 2, 3):
        difference = np.diff(difference, axis=0)
        for j, action in enumerate(embodiment.actions):
            limit = (action.max_velocity, action.max_acceleration, action.max_jerk)[order - 1]
            most = limit / embodiment.control_hz**order + 2**order * rounding
            assert np.abs(difference[:, j]).max() <= most, f"{action.name}: difference {order}"


def judge_chunks(executor: Executor, replies: Mapping[int, Reply]) -> None:
    """Every chunk that was played is, beyond its prefix, bit for bit what a `SwayPolicy` thinks: nothing mangled passed."""
    horizon = executor.metadata.horizon
    policy = SwayPolicy(executor.metadata.embodiment, horizon)
    played = {record.chunk_id for record in executor.trace if record.state == "run"}
    assert played
    for number in played:
        chunk = replies[number].chunk
        assert chunk is not None
        thought = policy.path(chunk.observation_tick + np.arange(horizon, dtype=np.float32))
        assert np.array_equal(chunk.actions[chunk.prefix_length :], thought[chunk.prefix_length :])


def judge_rows(executor: Executor) -> None:
    """E-3, E-6: never back to an older plan; inside a plan no row is skipped or played again."""
    for before, after in pairwise(record for record in executor.trace if record.state == "run"):
        assert after.chunk_id >= before.chunk_id
        if after.chunk_id == before.chunk_id:
            assert 0 <= after.row - before.row <= 1
