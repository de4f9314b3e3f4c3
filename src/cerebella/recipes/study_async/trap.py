"""The copy trap, open loop: the prefix belongs to a plan that the world has overtaken. Does the policy go on with that plan?

Every window has a prefix that an expert promised `delay` ticks ago, the right continuation (what the expert does now, from
where the prefix leaves the robot), and what the old plan would have gone on with. A window is in conflict if the last two
are far apart behind the prefix. The control has the same scenes with the first rows of a plan of now as the prefix.

    error_tenth_mm      per window, mean distance to the right continuation over the rows behind the prefix
    copied_percent      per window, the share of the way from the right to the old continuation, see `metrics.copy_share`
    control_tenth_mm    per window of the control, its distance to the right continuation
    num_drawn, num_conflicts    windows that were looked at, and how many of them were in conflict

Windows are the same for every method and training seed, so all of this pairs by window.
"""

from typing import Any

import numpy as np

from cerebella.envs.dynamic.task import Task
from cerebella.envs.dynamic.windows import StaleWindows, Windows, stale_windows
from cerebella.evaluation.metrics import copy_share
from cerebella.interfaces import Guidance, Policy, Request
from cerebella.runtime.transport import batched
from cerebella.types import ActionChunk, FloatArray, Observation

CONFLICT_M = 0.010
"""Mean distance between the right and the old continuation from which on they are in conflict."""
WINDOW_SEED = 900_001
"""Of the windows; no training draws from it."""
_DRAWN_PER_WINDOW = 10
_AT_ONCE = 128


def conflicts(task: Task[Any], num_windows: int, horizon: int, delay: int) -> tuple[StaleWindows[Any], int, int]:
    """(windows in conflict, how many were drawn, how many of those were in conflict); the first `num_windows` of them.

    Raises:
        ValueError: no window is in conflict: the task has no trap at this delay.
    """
    num_drawn = _DRAWN_PER_WINDOW * num_windows
    drawn = stale_windows(task, num_drawn, horizon, delay, WINDOW_SEED)
    found = np.flatnonzero(_distance(task, drawn.windows.actions, drawn.old_continuation, delay) > CONFLICT_M)
    if not found.size:
        raise ValueError(
            f"{task.name}: of {num_drawn} windows with a promise of {delay} ticks none is in conflict by more than "
            f"{CONFLICT_M} m"
        )
    return drawn.take(found[:num_windows]), num_drawn, len(found)


def measure_trap(
    policy: Policy, task: Task[Any], mode: str, num_windows: int, horizon: int, execute_horizon: int, delay: int
) -> dict[str, Any]:
    """The numbers of a trap cell; see the module.

    Args:
        mode: `prefix` gives the policy the promised rows; the guided modes show it the running plan.
        execute_horizon: decides how much of the running plan is left: H - s rows.
    """
    stale, num_drawn, num_conflicts = conflicts(task, num_windows, horizon, delay)
    label, old = stale.windows.actions, stale.old_continuation
    chosen = _ask(policy, stale.windows, old, mode, execute_horizon, delay)
    fresh = stale.windows
    now = np.concatenate(
        [task.expert_plan(fresh.state.take(p), fresh.style[p], horizon) for p in _pieces(len(fresh))], axis=0
    )
    control = _ask(policy, fresh, now, mode, execute_horizon, delay)
    columns = _positions(task)
    behind = (rows[:, delay:, columns] for rows in (chosen, old, label))
    copied = np.array([copy_share(*rows) for rows in zip(*behind, strict=True)], dtype=np.float64)
    return {
        "error_tenth_mm": _whole(1e4 * _distance(task, chosen, label, delay)),
        "copied_percent": _whole(100 * copied),
        "control_tenth_mm": _whole(1e4 * _distance(task, control, now, delay)),
        "num_drawn": num_drawn,
        "num_conflicts": num_conflicts,
    }


def _ask(
    policy: Policy, windows: Windows[Any], plan: FloatArray, mode: str, execute_horizon: int, delay: int
) -> FloatArray:
    """What the policy does on every window whose running plan is `plan`, float32[N, H, A]."""
    infer = batched(policy)
    with_images = bool(policy.metadata.embodiment.views)
    states, prompts = windows.observed(with_images), windows.prompts()
    num_left = max(windows.horizon - execute_horizon, delay)
    num_given = delay if mode == "prefix" else 0
    chunks: list[ActionChunk] = []
    for piece in _pieces(len(windows)):
        requests = []
        pictures = windows.task.render(windows.state.take(piece)) if with_images else None
        for i in range(*piece.indices(len(windows))):
            images = {} if pictures is None else {"base": pictures[i - piece.start]}
            seen = Observation(state=states[i], prompt=prompts[i], tick=0, timestamp_s=0.0, images=images)
            shown = Guidance(plan[i, :num_left], delay, execute_horizon, use_jacobian=mode == "guided")
            requests.append(Request(i, seen, plan[i, :num_given], delay, None if mode == "prefix" else shown))
        chunks += infer(requests)
    return np.stack([chunk.actions for chunk in chunks])


def _pieces(count: int) -> list[slice]:
    return [slice(i, i + _AT_ONCE) for i in range(0, count, _AT_ONCE)]


def _positions(task: Task[Any]) -> list[int]:
    return [j for j, d in enumerate(task.embodiment.actions) if d.kind == "position"]


def _distance(task: Task[Any], first: FloatArray, second: FloatArray, delay: int) -> np.ndarray:
    """Mean distance of the positions over the rows behind the prefix, metres, one per window."""
    difference = (first - second)[:, delay:, _positions(task)].astype(np.float64)
    return np.linalg.norm(difference, axis=2).mean(axis=1)


def _whole(values: np.ndarray) -> list[int]:
    return np.rint(values).astype(np.int64).tolist()
