"""Plans that come late, without an executor: how much of a task is left when only old rows are played."""

from typing import Any

import numpy as np

from cerebella.envs.dynamic.task import Task


def share_solved(task: Task[Any], staleness: int, perturbation: bool, num_scenes: int = 200) -> float:
    """Share of scenes that the expert solves with rows `staleness` .. `staleness` + 7 of plans from before."""
    state = task.reset(range(num_scenes), perturbation)
    style = task.steady_style(num_scenes)
    plan, seen = task.expert_plan(state, style, staleness + 8), [state] * (staleness + 1)
    for tick in range(task.max_ticks):
        if tick % 8 == 0:
            plan = task.expert_plan(seen[-1 - staleness], style, staleness + 8)
        state = task.step(state, np.ascontiguousarray(plan[:, staleness + tick % 8]))
        seen.append(state)
    return float((state.outcome == task.success).mean())
