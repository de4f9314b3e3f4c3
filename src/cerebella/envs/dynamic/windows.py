"""Training windows of any dynamic task: imperfect episodes for the states, clean plans for the labels.

What is executed is disturbed on purpose (the aim is off for a while, always a little noise, perturbations in half of the
episodes), so that the states cover mistakes; what is learned is the expert's undisturbed plan from each of these states.
Windows hold states, not pictures: those are rendered when asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.disturbed import disturbed_episodes
from cerebella.envs.dynamic.task import Indices, IntArray, S, Task, concatenate
from cerebella.types import FloatArray, Sample

_EPISODES_PER_ROUND = 4096
_RECORD_SHARE = 0.25
_PLAN_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Windows(Generic[S]):
    """Training windows in random order.

    Args:
        task: which.
        state: N scenes at the observation. style: float32[N, k], the N demonstrators' styles.
        actions: float32[N, H, A], absolute targets, raw units; row 0 belongs to the tick of the observation.
        committed_length: int32[N]. Zero: the rows are the clean plan. Above zero: so many leading rows were promised
            by a plan from an older observation (they may be wrong by now), and the rows after them are the clean plan
            from where they leave the robot. Only those later rows are something to imitate.
    """

    task: Task[S]
    state: S
    style: FloatArray
    actions: FloatArray
    committed_length: IntArray

    def __len__(self) -> int:
        """Number of windows, N."""
        return len(self.actions)

    @property
    def horizon(self) -> int:
        """Rows per window, H."""
        return self.actions.shape[1]

    def take(self, indices: Indices | Sequence[int]) -> "Windows[S]":
        """The windows at `indices`, copied."""
        chosen = _as_indices(indices)
        return Windows(
            self.task,
            self.state.take(chosen),
            np.array(self.style[chosen]),
            np.array(self.actions[chosen]),
            np.array(self.committed_length[chosen]),
        )

    def observed(self, with_images: bool) -> FloatArray:
        """The state vectors, float32[N, D]; see `Task.observed`."""
        return self.task.observed(self.state, with_images)

    def prompts(self) -> list[str]:
        """The instructions, N strings."""
        return self.task.prompts(self.state)

    def samples(self, indices: Indices | Sequence[int], with_images: bool) -> list[Sample]:
        """Some windows as samples, with a `base` picture (64 x 96) each or without; every row and dimension is valid."""
        chosen = self.take(indices)
        embodiment = self.task.embodiment if with_images else self.task.state_embodiment
        pictures = self.task.render(chosen.state) if with_images else None
        states, texts = chosen.observed(with_images), chosen.prompts()
        is_valid = np.ones(self.actions.shape[1:], dtype=np.bool_)
        return [
            Sample(
                images={} if pictures is None else {"base": pictures[i]},
                state=states[i],
                prompt=texts[i],
                actions=chosen.actions[i],
                is_valid=is_valid,
                robot_type=embodiment.name,
                control_mode=embodiment.control_mode,
                num_committed=int(chosen.committed_length[i]),
            )
            for i in range(len(chosen))
        ]


@dataclass(frozen=True, eq=False)
class StaleWindows(Generic[S]):
    """Windows that begin with a stale promise, and what the stale plan would have gone on with.

    Args:
        windows: N windows with the same `committed_length` everywhere: the promise, then the clean plan behind it.
        old_continuation: float32[N, H, A]. Row i is what the old plan had for the tick of the window's row i: the
            promise itself first, then what it would have done next in the world that it foresaw.
    """

    windows: Windows[S]
    old_continuation: FloatArray

    def __len__(self) -> int:
        """Number of windows, N."""
        return len(self.windows)

    def take(self, indices: Indices | Sequence[int]) -> "StaleWindows[S]":
        """The windows at `indices`, copied."""
        chosen = _as_indices(indices)
        return StaleWindows(self.windows.take(chosen), np.array(self.old_continuation[chosen]))


def expert_windows(
    task: Task[S],
    num_windows: int,
    horizon: int,
    seed: int,
    committed_share: float = 0.0,
    max_delay: int = 8,
) -> Windows[S]:
    """Make training windows; the same arguments give the same windows.

    Args:
        task: which.
        num_windows: how many. horizon: rows per window, H. seed: 0 or above.
        committed_share: share of windows (0..1) whose first rows were promised 1..max_delay ticks earlier, by a plan of
            the same demonstrator.
        max_delay: longest promise in ticks, below `horizon`.

    Raises:
        ValueError: a count is below 1, the seed is negative, the share is outside 0..1, or max_delay is not below the
            horizon.
    """
    _check_counts("expert_windows", num_windows, horizon, seed)
    if not 0.0 <= committed_share <= 1.0 or not 1 <= max_delay < max(horizon, 2):
        raise ValueError(
            f"expert_windows: committed_share must be in 0..1 and max_delay in 1..{max(horizon - 1, 1)} (ticks); "
            f"got {committed_share} and {max_delay}"
        )
    recorded = _record(task, num_windows, seed, max_delay, committed_share, is_exact=False)
    actions = _plans(task, recorded, horizon)
    return Windows(task, recorded.state, recorded.style, actions, recorded.length)


def stale_windows(task: Task[S], num_windows: int, horizon: int, delay: int, seed: int) -> StaleWindows[S]:
    """Windows whose first `delay` rows were promised by a plan made `delay` ticks ago, with that plan's continuation.

    The old plan covered its own `delay` ticks first; rows delay .. 2 delay - 1 of it are the promise. The world has gone
    on meanwhile as nobody could foresee. The same arguments give the same windows.

    Args:
        task: which.
        num_windows: how many. horizon: rows per window, H. delay: ticks, 1..horizon - 1. seed: 0 or above.

    Raises:
        ValueError: a count is below 1, the seed is negative, the delay is out of its range, or no episode lasts so long.
    """
    _check_counts("stale_windows", num_windows, horizon, seed)
    if not 1 <= delay < horizon:
        raise ValueError(f"stale_windows: delay must be in 1..{horizon - 1} (ticks); got {delay}")
    recorded = _record(task, num_windows, seed, delay, 1.0, is_exact=True)
    actions = _plans(task, recorded, horizon)
    old = [
        task.expert_plan(recorded.older.take(piece), recorded.style[piece], delay + horizon)[:, delay:]
        for piece in _pieces(num_windows)
    ]
    return StaleWindows(
        Windows(task, recorded.state, recorded.style, actions, recorded.length), np.concatenate(old, axis=0)
    )


def _check_counts(what: str, num_windows: int, horizon: int, seed: int) -> None:
    if num_windows < 1 or horizon < 1 or seed < 0:
        raise ValueError(
            f"{what}: num_windows and horizon must be 1 or more and seed 0 or more; "
            f"got {num_windows}, {horizon} and {seed}"
        )


def _as_indices(indices: Indices | Sequence[int]) -> Indices:
    return indices if isinstance(indices, slice | np.ndarray) else np.asarray(indices, dtype=np.int64)


def _pieces(count: int) -> list[slice]:
    return [slice(i, i + _PLAN_ROWS_AT_ONCE) for i in range(0, count, _PLAN_ROWS_AT_ONCE)]


@dataclass(frozen=True, eq=False)
class _Recorded(Generic[S]):
    """States to label: `older` is the state `length` ticks before, when `length` leading rows were promised."""

    state: S
    older: S
    style: FloatArray
    length: IntArray

    def take(self, indices: Indices) -> "_Recorded[S]":
        return _Recorded(self.state.take(indices), self.older.take(indices), self.style[indices], self.length[indices])


def _plans(task: Task[S], recorded: _Recorded[S], horizon: int) -> FloatArray:
    """The labels, float32[N, horizon, A]: the promise, then the law from where it leaves the robot."""
    plans: list[FloatArray] = []
    for piece in _pieces(len(recorded.state)):
        part = recorded.take(piece)
        prefix = np.zeros((len(part.state), int(part.length.max()), task.embodiment.action_dim), dtype=np.float32)
        for ticks in np.unique(part.length[part.length > 0]).tolist():
            which = np.flatnonzero(part.length == ticks)
            old = task.expert_plan(part.older.take(which), part.style[which], 2 * ticks)
            prefix[which, :ticks] = old[:, ticks:]
        plans.append(task.expert_plan(part.state, part.style, horizon, prefix, part.length))
    return np.concatenate(plans)


def _record(
    task: Task[S], num_windows: int, seed: int, max_delay: int, committed_share: float, is_exact: bool
) -> _Recorded[S]:
    """States at random ticks of disturbed episodes, in random order, each with the delay of its promise.

    A share of them has a promise of 1..max_delay ticks, or, if `is_exact`, of max_delay ticks and nothing shorter.
    """
    parts: list[_Recorded[S]] = []
    num_recorded, num_rounds = 0, 0
    while num_recorded < num_windows:
        generator = np.random.default_rng([seed, num_rounds])
        num_rounds += 1
        num_episodes = min(_EPISODES_PER_ROUND, max(64, (num_windows - num_recorded) // 8))
        for past, style in disturbed_episodes(task, num_episodes, generator, max_delay):
            chosen = np.flatnonzero(generator.random(len(style)) < _RECORD_SHARE)
            drawn = generator.integers(1, max_delay + 1, len(chosen))
            delay = np.full(len(chosen), max_delay) if is_exact else drawn
            is_committed = (generator.random(len(chosen)) < committed_share) & (delay < len(past))
            length = np.where(is_committed, delay, 0).astype(np.int32)
            if is_exact:
                chosen, length = chosen[is_committed], length[is_committed]
            if len(chosen):
                parts.append(_Recorded(past[-1].take(chosen), _back(past, chosen, length), style[chosen], length))
                num_recorded += len(chosen)
        if not num_recorded:
            raise ValueError(f"{task.name}: no episode lasted {max_delay} ticks, so that nothing could be promised")
    joined = _Recorded(
        concatenate([part.state for part in parts]),
        concatenate([part.older for part in parts]),
        np.concatenate([part.style for part in parts]),
        np.concatenate([part.length for part in parts]),
    )
    return joined.take(np.random.default_rng([seed, 1 << 20]).permutation(num_recorded)[:num_windows])


def _back(past: list[S], chosen: NDArray[np.intp], length: IntArray) -> S:
    """The chosen scenes, each `length` ticks ago."""
    older = past[-1].take(chosen)
    for ticks in np.unique(length[length > 0]).tolist():
        which = np.flatnonzero(length == ticks)
        older = older.with_scenes(which, past[-1 - ticks].take(chosen[which]))
    return older
