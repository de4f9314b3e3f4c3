"""A loop with scripted trouble, for the tests of faults."""

from collections.abc import Callable, Sequence

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Reply, Request
from cerebella.runtime.executor import Executor
from cerebella.runtime.executor_config import Mode
from cerebella.types import ActionChunk

from .arm import Loop, ScriptedTransport, WanderingPolicy, make_arm, make_executor, make_metadata
from .events import EventSink

HORIZON, S = 24, 8


def start_loop(
    arrivals: Callable[[int], Sequence[int]],
    mode: Mode = "prefix",
    roughness: float = 0.0,
    embodiment: Embodiment | None = None,
    garble: Callable[[Request, Reply], Reply] | None = None,
    on_tick: Callable[[Loop, int], None] | None = None,
    max_trained_prefix: int = 6,
    initial_delay: int = 3,
    failures: frozenset[int] = frozenset(),
    strays: frozenset[int] = frozenset(),
    **options: object,
) -> tuple[Loop, ScriptedTransport, EventSink]:
    policy = WanderingPolicy(
        make_metadata(embodiment or make_arm(), HORIZON, max_trained_prefix), 5, roughness, failures, strays
    )
    transport, sink = ScriptedTransport(policy, arrivals, garble), EventSink()
    config = {key: options.pop(key) for key in ("reply_timeout", "degrade_after", "max_discards") if key in options}
    executor = make_executor(
        policy, transport, mode, S, initial_delay=initial_delay, config=config, sinks=[sink], **options
    )
    return Loop(executor, on_tick=on_tick), transport, sink


def states(executor: Executor) -> list[str]:
    return [record.state for record in executor.trace]


def outcomes(executor: Executor) -> list[str]:
    return [request.outcome for request in executor.requests]


def at(number: int, special: Sequence[int], usual: int = 2) -> Callable[[int], Sequence[int]]:
    """Request `number` is answered at the ticks `special` after its observation, the others after `usual`."""
    return lambda k: special if k == number else (usual,)


def other_chunk(chunk: ActionChunk, actions: np.ndarray | None = None, policy_id: str | None = None) -> ActionChunk:
    return ActionChunk(
        chunk.actions if actions is None else actions.astype(np.float32),
        chunk.start_tick,
        chunk.observation_tick,
        chunk.prefix_length,
        policy_id or chunk.policy_id,
        chunk.duration_s,
    )
