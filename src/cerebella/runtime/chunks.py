"""The asynchronous rule as pure functions: which row runs next, and what the next inference must continue.

There is one rule for every mode. Between the observation of a request and the arrival of its reply, the robot really
executed `consumed` rows (r) of the running chunk; the new chunk takes over at its row r, and is anchored so that "row i
belongs to tick `start_tick + i`" holds from there on:

    ticks          n_o          n_o + r                      undisturbed asynchronous: start_tick = n_o
    running chunk   s   s+1  ...  |
    new chunk       0    1   ...  r   r+1  ...               rows < r are never sent: the running chunk was

    ticks          n_o          arrival                      holding (cold start, sync, underrun): r = 0
    robot           hold  ...     |
    new chunk                     0    1   ...               start_tick = arrival

Nothing here has state, reads a clock or knows a thread.
"""

from dataclasses import replace

import numpy as np

from cerebella.types import ActionChunk, FloatArray

PREFIX_TOLERANCE = 1e-4
"""How far the prefix rows of a reply may be from the promise, as a share of each dimension's range (high - low). Room
for float32 rounding when a policy normalises and decodes its prefix, and for nothing else."""


def check_horizons(delay: int, execute_horizon: int, horizon: int) -> None:
    """Raise a ValueError, naming the knob to turn, unless `delay <= execute_horizon <= horizon - delay` (ticks).

    The left half says that a reply is there before the next request is due (one inference at a time); the right half
    that the running chunk still covers the delay when the request is made.
    """
    check_execute_horizon(execute_horizon, horizon)
    if delay < 0:
        raise ValueError(f"delay must be 0 or more ticks; got {delay}")
    if 2 * delay > horizon:
        raise ValueError(
            f"delay {delay} ticks is more than half of horizon {horizon} ticks: no execute_horizon s fits "
            "delay <= s <= horizon - delay. Make the inference faster, or use a policy with a longer horizon"
        )
    if delay > execute_horizon:
        raise ValueError(
            f"delay {delay} ticks > execute_horizon {execute_horizon} ticks: the next request is due before the reply "
            f"to this one is there. Raise execute_horizon to {delay} or more, or make the inference faster"
        )
    if execute_horizon > horizon - delay:
        raise ValueError(
            f"execute_horizon {execute_horizon} > horizon {horizon} - delay {delay} = {horizon - delay} ticks: the "
            f"running chunk ends before the reply is there. Lower execute_horizon to {horizon - delay} or less"
        )


def check_execute_horizon(execute_horizon: int, horizon: int) -> None:
    """Raise a ValueError unless `1 <= execute_horizon <= horizon` (ticks)."""
    if not 1 <= execute_horizon <= horizon:
        raise ValueError(f"execute_horizon must be in 1..{horizon} ticks (horizon {horizon}); got {execute_horizon}")


def clamp_delay(delay: int, execute_horizon: int, horizon: int) -> int:
    """The largest delay up to `delay` that `check_horizons` accepts; 0 or more ticks."""
    return min(delay, execute_horizon, horizon - execute_horizon)


def row_at(chunk: ActionChunk, tick: int) -> int:
    """The row of `chunk` that belongs to `tick`. Not limited to the rows that exist."""
    return tick - chunk.start_tick


def anchor(chunk: ActionChunk, arrival_tick: int, consumed: int) -> ActionChunk:
    """The chunk as it runs: row `consumed` at `arrival_tick`, the others following.

    Raises:
        ValueError: there is no such row.
    """
    if not 0 <= consumed < chunk.horizon:
        raise ValueError(f"consumed must be a row of the new chunk, 0..{chunk.horizon - 1}; got {consumed}")
    return replace(chunk, start_tick=arrival_tick - consumed)


def postpone(chunk: ActionChunk, num_ticks: int) -> ActionChunk:
    """The same rows `num_ticks` later: the robot stood still that long, so no row was consumed."""
    return replace(chunk, start_tick=chunk.start_tick + num_ticks)


def promise(chunk: ActionChunk | None, tick: int, num_rows: int, action_dim: int) -> FloatArray:
    """What the running chunk will send at ticks `tick ... tick + p - 1`, with p = `num_rows` or the rows left if fewer.

    Returns:
        float32[p, action_dim], a copy. Empty (p = 0, never zeros) without a running chunk or when it has ended.

    Raises:
        ValueError: `num_rows` is negative, or `tick` is before the chunk's first row.
    """
    if num_rows < 0:
        raise ValueError(f"num_rows must be 0 or more; got {num_rows}")
    if chunk is None:
        return np.zeros((0, action_dim), dtype=np.float32)
    row = row_at(chunk, tick)
    if row < 0:
        raise ValueError(f"tick {tick} is before the running chunk, which starts at tick {chunk.start_tick}")
    return chunk.actions[row : row + num_rows].copy()


def limit(actions: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Every action inside the embodiment's range; float32[..., action_dim], a copy, raw units."""
    return np.clip(actions, low, high)


def continue_prefix(chunk: ActionChunk, action_prefix: FloatArray) -> ActionChunk:
    """The chunk with its prefix rows equal to what was promised, bit for bit."""
    actions = chunk.actions.copy()
    actions[: len(action_prefix)] = action_prefix
    return replace(chunk, actions=actions)


def objection(
    chunk: ActionChunk,
    *,
    observation_tick: int,
    action_prefix: FloatArray,
    horizon: int,
    policy_id: str,
    low: FloatArray,
    high: FloatArray,
    max_outside: float,
) -> str:
    """Why this reply must not be executed; empty if it may. The text before the colon is constant per kind of fault.

    That all numbers are finite was checked when the chunk was made.

    Args:
        observation_tick, action_prefix: what the request carried; float32[p, action_dim].
        horizon, policy_id: what the policy's metadata promises.
        low, high: the range of every action dimension, float32[action_dim], raw units.
        max_outside: values up to this share of the range beyond it are limited later; others mean that something is
            wrong, and the chunk is refused as a whole.
    """
    value_range = high - low
    wanted = (horizon, len(value_range))
    if chunk.actions.shape != wanted:
        return f"wrong shape: the chunk is float32{list(chunk.actions.shape)}, expected float32{list(wanted)}"
    if chunk.policy_id != policy_id:
        return f"wrong policy: the chunk comes from {chunk.policy_id!r}, expected {policy_id!r}"
    if (chunk.start_tick, chunk.observation_tick) != (observation_tick, observation_tick):
        return (
            f"wrong tick: row 0 is for tick {chunk.start_tick}, observed at {chunk.observation_tick}; "
            f"the request's observation is of tick {observation_tick}"
        )
    num_promised = len(action_prefix)
    if chunk.prefix_length != num_promised:
        return f"wrong prefix length: the chunk repeats {chunk.prefix_length} rows, promised were {num_promised}"
    gap = np.abs(chunk.actions[:num_promised] - action_prefix) / value_range
    if num_promised and gap.max() > PREFIX_TOLERANCE:
        row, dimension = (int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
        return (
            f"prefix changed: row {row}, dimension {dimension} came back as {chunk.actions[row, dimension]}, "
            f"promised was {action_prefix[row, dimension]}"
        )
    outside = np.maximum(low - chunk.actions, chunk.actions - high) / value_range
    if outside.max() > max_outside:
        row, dimension = (int(i) for i in np.unravel_index(int(outside.argmax()), outside.shape))
        return (
            f"far outside: row {row}, dimension {dimension} is {chunk.actions[row, dimension]:g}; its range is "
            f"{low[dimension]:g} .. {high[dimension]:g}"
        )
    return ""
