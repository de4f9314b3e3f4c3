"""Expert windows for training: imperfect episodes for the states, clean plans for the labels.

What is executed is disturbed on purpose (a wrong aim for a while, a gripper that opens or closes at the wrong moment,
noise, belt jumps, bumps), so that the states cover mistakes; what is learned is the expert's undisturbed plan from each
of these states. The conveyor keeps windows of its own (more of them near the part, a gripper that is forced open or shut),
because the shipped policy learned from them; the other tasks share `windows.expert_windows`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.conveyor import ConveyorState
from cerebella.envs.dynamic.conveyor_expert import expert_command
from cerebella.envs.dynamic.conveyor_task import ConveyorTask
from cerebella.envs.dynamic.task import Indices, concatenate
from cerebella.envs.dynamic.windows import Windows
from cerebella.types import FloatArray

_EPISODES_PER_ROUND = 4096
_NEAR_M = 0.04
_RECORD_FAR, _RECORD_NEAR = 0.2, 0.4
_PLAN_ROWS_AT_ONCE = 8192


def expert_windows(
    num_windows: int,
    horizon: int,
    seed: int,
    committed_share: float = 0.0,
    max_delay: int = 8,
) -> Windows[ConveyorState]:
    """Make training windows; the same arguments give the same windows.

    Args:
        num_windows: how many. horizon: rows per window, H. seed: 0 or above.
        committed_share: share of windows (0..1) whose first rows were promised 1..max_delay ticks earlier.
        max_delay: longest promise in ticks, below `horizon`.

    Raises:
        ValueError: a count is below 1, the share is outside 0..1, or max_delay is not below the horizon.
    """
    if num_windows < 1 or horizon < 1:
        raise ValueError(f"expert_windows: num_windows and horizon must be 1 or more; got {num_windows} and {horizon}")
    if not 0.0 <= committed_share <= 1.0 or not 1 <= max_delay < max(horizon, 2):
        raise ValueError(
            f"expert_windows: committed_share must be in 0..1 and max_delay in 1..{max(horizon - 1, 1)} (ticks); "
            f"got {committed_share} and {max_delay}"
        )
    task = ConveyorTask()
    rounds: list[_Recorded] = []
    recorded = 0
    while recorded < num_windows:
        generator = np.random.default_rng([seed, len(rounds)])
        episodes = min(_EPISODES_PER_ROUND, max(64, (num_windows - recorded) // 4))
        rounds.append(_record_round(task, episodes, generator, committed_share, max_delay))
        recorded += len(rounds[-1].state)
    order = np.random.default_rng([seed, 1 << 20]).permutation(recorded)[:num_windows]
    joined = _join(rounds).take(order)
    pieces = [slice(i, i + _PLAN_ROWS_AT_ONCE) for i in range(0, num_windows, _PLAN_ROWS_AT_ONCE)]
    actions = np.concatenate([_label(task, joined.take(piece), horizon) for piece in pieces])
    return Windows(task, joined.state, joined.style, actions, joined.length)


@dataclass(frozen=True, eq=False)
class _Recorded:
    """States to label: `length` rows of `prefix` were promised by an older plan."""

    state: ConveyorState
    style: FloatArray
    prefix: FloatArray
    length: NDArray[np.int32]

    def take(self, indices: Indices) -> "_Recorded":
        return _Recorded(self.state.take(indices), self.style[indices], self.prefix[indices], self.length[indices])


def _join(parts: list[_Recorded]) -> _Recorded:
    return _Recorded(
        concatenate([part.state for part in parts]),
        np.concatenate([part.style for part in parts]),
        np.concatenate([part.prefix for part in parts]),
        np.concatenate([part.length for part in parts]),
    )


def _label(task: ConveyorTask, part: _Recorded, horizon: int) -> FloatArray:
    return task.expert_plan(part.state, part.style, horizon, part.prefix, part.length)


def _record_round(
    task: ConveyorTask, num_episodes: int, generator: np.random.Generator, committed_share: float, max_delay: int
) -> _Recorded:
    """Disturbed episodes; a random subset of their ticks, more of them near the part."""
    half = num_episodes // 2
    seeds = generator.integers(0, 2**62, num_episodes)
    state = concatenate([task.reset(seeds[:half], False), task.reset(seeds[half:], True)])
    opening = np.where(generator.random(num_episodes) < 0.3, generator.random(num_episodes), 1.0)
    state = replace(state, opening=opening.astype(np.float32))
    style = task.random_style(num_episodes, generator)
    faults = _Faults(num_episodes)
    past: list[ConveyorState] = []
    rows = np.arange(num_episodes)
    recorded: list[_Recorded] = []
    while len(state):
        past = [*past[-max_delay:], state]
        offset = np.linalg.norm(state.target_position - state.gripper, axis=1)
        chance = np.where(offset < _NEAR_M, _RECORD_NEAR, _RECORD_FAR)
        chosen = np.flatnonzero(generator.random(len(state)) < chance)
        if len(chosen):
            recorded.append(_promise(task, past, style, chosen, generator, committed_share, max_delay))
        command = faults.disturb(task, state, style, generator)
        state = task.step(state, command)
        keep = np.flatnonzero(state.is_running)
        if len(keep) < len(state):
            state, style, rows = state.take(keep), style[keep], rows[keep]
            past = [older.take(keep) for older in past]
            faults.keep(keep)
    return _join(recorded)


def _promise(
    task: ConveyorTask,
    past: list[ConveyorState],
    style: FloatArray,
    chosen: NDArray[np.intp],
    generator: np.random.Generator,
    committed_share: float,
    max_delay: int,
) -> _Recorded:
    """Pick the windows at the newest state and, for a share of them, the rows that an older plan has promised.

    A plan from `delay` ticks ago covers the coming `delay` ticks with its rows delay .. 2 delay - 1.
    """
    state = past[-1].take(chosen)
    styles = style[chosen]
    delay = generator.integers(1, max_delay + 1, len(chosen))
    is_committed = generator.random(len(chosen)) < committed_share
    length = np.where(is_committed & (delay < len(past)), delay, 0).astype(np.int32)
    prefix = np.zeros((len(chosen), max_delay, 3), dtype=np.float32)
    for ticks in range(1, max_delay + 1):
        which = np.flatnonzero(length == ticks)
        if len(which):
            older = past[-1 - ticks].take(chosen[which])
            plan = task.expert_plan(older, styles[which], 2 * ticks)
            prefix[which, :ticks] = plan[:, ticks:]
    return _Recorded(state, styles, prefix, length)


class _Faults:
    """What goes wrong, per scene and for some ticks at a time: the aim is off, or the gripper is forced shut or open."""

    def __init__(self, num_scenes: int) -> None:
        self.ticks_left = np.zeros(num_scenes, dtype=np.int32)
        self.aim_bias_m = np.zeros((num_scenes, 2), dtype=np.float32)
        self.forced_opening = np.full(num_scenes, -1.0, dtype=np.float32)

    def keep(self, indices: NDArray[np.intp]) -> None:
        self.ticks_left = self.ticks_left[indices]
        self.aim_bias_m = self.aim_bias_m[indices]
        self.forced_opening = self.forced_opening[indices]

    def disturb(
        self, task: ConveyorTask, state: ConveyorState, style: FloatArray, generator: np.random.Generator
    ) -> FloatArray:
        """The executed command, float32[N, 3]; also lets the faults age by one tick."""
        self._renew(generator)
        command = expert_command(task.config, state, style, self.aim_bias_m)
        noise = generator.normal(0.0, 0.002, (len(state), 2)).astype(np.float32)
        command[:, :2] += np.where((state.grasped < 0)[:, None], noise, 0.0)
        command[:, 2] = np.where(self.forced_opening >= 0.0, self.forced_opening, command[:, 2])
        self.ticks_left -= 1
        return command

    def _renew(self, generator: np.random.Generator) -> None:
        ended = np.flatnonzero(self.ticks_left <= 0)
        count = len(ended)
        kind = generator.random(count)
        bias = generator.normal(0.0, 1.0, (count, 2)) * generator.choice([0.008, 0.025], (count, 1))
        self.aim_bias_m[ended] = np.where((kind < 0.5)[:, None], bias, 0.0)
        forced = np.where(kind > 0.92, 0.0, np.where(kind > 0.86, 1.0, -1.0))
        self.forced_opening[ended] = forced
        self.ticks_left[ended] = generator.integers(4, 15, count)
