"""A chunk as it is played: anchored in time, inside the robot's range, slowed down where it ends.

A `Plan` lives on positions: `tick + phase` of the policy rate. Its row at a position is `position - start`; whatever the
robot does not play (a stall, a hold, a slower progress) moves `start` by as much, so that no row is ever skipped.
"""

import math
from copy import copy
from dataclasses import dataclass

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.runtime import turns
from cerebella.runtime.interpolation import Path, Vector, whole
from cerebella.runtime.motion import MotionLimiter
from cerebella.runtime.progress import Progress
from cerebella.runtime.trace import RequestRecord
from cerebella.types import ActionChunk, FloatArray


@dataclass(eq=False)
class Plan:
    """The running chunk.

    Args:
        record: the request that it answers.
        chunk: as it came. rows: float32[H, action_dim], what is to be played, inside the range.
        raw: the same before the range was applied.
        start: position of row 0.
        stop_row: from this row on it is left as fast as the limits allow (s in mode `sync`; never otherwise).
        progress: how fast it is played.
        path: the rows as a function of a fractional row.
        is_left: `stop_row` was reached.
        end: the number of rows played, once it is over.
        leaving: the last row before `stop_row` and the progress there, once it was played.
        num_played: commands that played it.
    """

    record: RequestRecord
    chunk: ActionChunk
    rows: FloatArray
    raw: FloatArray
    start: float
    stop_row: float
    progress: Progress
    path: Path
    is_left: bool = False
    end: float | None = None
    leaving: tuple[float, Progress] | None = None
    num_played: int = 0

    @property
    def is_over(self) -> bool:
        """It was played to its end."""
        return self.end is not None

    def row_at(self, position: float) -> float:
        """The next row to play at this position; after the end the number of rows played."""
        return whole(position - self.start) if self.end is None else self.end

    def num_left(self, position: float) -> float:
        """Rows left to play, the one at this position included."""
        return 0.0 if self.is_over else max(0.0, min(self.stop_row, len(self.rows)) - self.row_at(position))


def make_plan(
    record: RequestRecord,
    chunk: ActionChunk,
    rows: FloatArray,
    position: float,
    consumed: float,
    stop_row: float,
    embodiment: Embodiment,
    before: Plan | None,
) -> Plan:
    """A plan that plays row `consumed` at `position`, at the speed at which `before` was being played."""
    low = np.asarray([action.low for action in embodiment.actions], dtype=np.float32)
    high = np.asarray([action.high for action in embodiment.actions], dtype=np.float32)
    in_rotation = [embodiment.action_index(name) for pose in embodiment.poses for name in pose.rotation]
    low[in_rotation], high[in_rotation] = -np.inf, np.inf  # three numbers of one rotation have no range one by one
    limited = np.clip(rows, low, high)
    path = Path(limited, embodiment)
    rows_per_tick = embodiment.policy_hz / embodiment.control_hz
    progress = Progress(path, embodiment, rows_per_tick)
    if before is not None and not before.is_over:
        progress.continue_from(before.progress)
    return Plan(record, chunk, limited, rows, position - consumed, stop_row, progress, path)


def advance(plan: Plan, position: float) -> tuple[float, Vector, Vector] | None:
    """Play one control tick: (row, its target, the target of the next control tick), float64[action_dim] each.

    None, and `plan.is_over`, if the plan stands: there is nothing left to play. That it is left at `stop_row` shows only
    when that row is due: until then a new plan may come, and the tick before must not slow down for a stop that does
    not take place (without a delay, mode `sync` sends what the others send). So a step across `stop_row` is taken back
    here if nothing came, and made again as a braking one.
    """
    full_speed, last = plan.progress.full_speed, len(plan.rows) - 1.0
    if plan.leaving is not None:
        before, progress = plan.leaving
        plan.progress = copy(progress)
        speed = plan.progress.brake()
        if speed == 0.0:
            plan.end = min(before + full_speed, last + 1.0)
            return None
        plan.start = position - (before + speed)
    row = plan.row_at(position)
    plan.num_played += 1
    if row >= last:
        plan.end = last + 1.0
        return row, plan.path.at(row), plan.path.at(last)
    if row + full_speed >= plan.stop_row - 1e-6:
        plan.leaving = row, copy(plan.progress)
    speed = plan.progress.step(row)
    plan.start += full_speed - speed
    if speed == 0.0:
        plan.end = row + 1.0
    return row, plan.path.at(row), plan.path.at(min(row + speed, last))


def forecast(plan: Plan, limiter: MotionLimiter, position: float, num_rows: int) -> tuple[list[Vector], FloatArray]:
    """What will be sent if nothing intervenes: the commands up to the last of `num_rows` ticks, and these rows.

    Nothing is changed. A row is what is sent in the moment of its tick; where no control tick lies there (rates without a
    whole ratio), what the path says, or the straight line between two commands while the limits hold them off the path.

    Returns:
        The commands from this control tick on, float64[action_dim] each, and float32[num_rows, action_dim]: one row for
        each tick `floor(position) + i`; fewer if the plan ends before.
    """
    played, state, was_on_reference = copy(plan), limiter.state, limiter.is_on_reference
    played.progress = copy(plan.progress)
    first_tick, step = math.floor(position), plan.progress.full_speed
    commands: list[Vector] = []
    rows: list[FloatArray] = []
    before = state.position
    while len(rows) < num_rows and not played.is_over:
        played_row = advance(played, position)
        if played_row is None:
            break
        row, target, following = played_row
        limiter.follow(target, following)
        command = limiter.state.position
        while len(rows) < num_rows and (tick := first_tick + len(rows)) <= position + 1e-9:
            behind = position - tick
            if behind < 1e-9:
                value = command
            elif limiter.is_on_reference:
                value = plan.path.at(row - behind)
            else:
                value = _between(before, command, 1.0 - behind / step, limiter.rotations)
            rows.append(value.astype(np.float32))
        commands.append(command)
        before, position = command, position + step
    limiter.state, limiter.is_on_reference = state, was_on_reference
    return commands, np.stack(rows) if rows else np.zeros((0, plan.rows.shape[1]), dtype=np.float32)


def _between(start: Vector, end: Vector, fraction: float, rotations: tuple[tuple[int, ...], ...]) -> Vector:
    values = start + fraction * (end - start)
    for triple in rotations:
        indices = list(triple)
        first = start[indices].tolist()
        step = turns.between(first, end[indices].tolist())
        values[indices] = turns.turned(first, [fraction * value for value in step])
    return values


def blend(
    plans: list[tuple[float, FloatArray, float]], start: float, num_rows: int, embodiment: Embodiment
) -> FloatArray:
    """Temporal ensembling (ACT, arXiv 2304.13705): the weighted mean of what several chunks say about the same tick.

    Args:
        plans: per chunk the position of its row 0, its rows float32[H, action_dim] and its weight; the newest last.
        start: position of the first row of the result. num_rows: its length.

    Returns:
        float32[num_rows, action_dim]. Rotations of a pose are averaged in the tangent space of the newest chunk's;
        grippers are the newest chunk's, because the mean of open and closed is neither.
    """
    newest_start, newest, _ = plans[-1]
    result = np.empty((num_rows, newest.shape[1]), dtype=np.float32)
    grippers = [j for j, action in enumerate(embodiment.actions) if action.kind == "gripper"]
    rotations = [[embodiment.action_index(name) for name in pose.rotation] for pose in embodiment.poses]
    for i in range(num_rows):
        reference = newest[min(max(round(start + i - newest_start), 0), len(newest) - 1)].astype(np.float64)
        total, weight_sum = np.zeros_like(reference), 0.0
        for plan_start, rows, weight in plans:
            index = round(start + i - plan_start)
            if 0 <= index < len(rows):
                gap = rows[index] - reference
                for triple in rotations:
                    gap[triple] = turns.between(reference[triple].tolist(), rows[index][triple].tolist())
                total += weight * gap
                weight_sum += weight
        mean = total / weight_sum if weight_sum else total
        value = reference + mean
        for triple in rotations:
            value[triple] = turns.turned(reference[triple].tolist(), mean[triple].tolist())
        value[grippers] = reference[grippers]
        result[i] = value
    return result
