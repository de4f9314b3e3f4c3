"""Both arms at the belt: each meets a part where it will be, closes on it while it rides, and carries it to its bin.

The left arm stands where the parts come from and takes what it can; the right arm takes what the left arm lets pass.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from cerebella.arms import Side
from cerebella.envs.workcell.arm_model import TIP_M
from cerebella.envs.workcell.belt.line import BELT_TOP_M, BELT_X_M, BIN_X_M, BIN_Y_M
from cerebella.envs.workcell.belt.parts import SIZES_M, SYMMETRY_RAD
from cerebella.envs.workcell.belt.stream import BeltEpisode, Part, bin_at
from cerebella.envs.workcell.cell import CONTROL_HZ, MAX_STEP_OPENING, Cell
from cerebella.envs.workcell.moves import NORMAL, Move, both, go_to, num_ticks_of, open_to, pointing_down, shift
from cerebella.envs.workcell.robot_arm import RobotArm
from cerebella.envs.workcell.task import ArmTarget, Plan
from cerebella.geometry import Array, so3_exp, so3_log, transform

ZONE_Y_M: dict[Side, tuple[float, float]] = {"left": (0.14, 0.37), "right": (-0.36, -0.14)}
"""Where along the belt each arm grips: low enough that it stays clear of the other arm at either bin."""
_WAITING_Y_M: dict[Side, float] = {"left": 0.28, "right": -0.20}
_HOVER_M, _CARRY_M, _DROP_M = 0.10, 0.135, 0.08
"""Heights of the tool: above a part to come, on the way to a bin, and where it lets go."""
_IN_BIN_M = np.array([0.018, 0.032])
"""So far from the middle of a bin, along x and y, a part may be let go."""
_NUM_PLACES = 12
_APART_M = 0.11
"""Two hands over the bins have at least this between their middles, along y: a hand is 92 mm wide."""
_OPEN = 0.66
_GRIP_N = 4.0
_DOWN_TICKS, _UP_TICKS = 12, 10
_GRIP_TICKS = 30
"""At most; it takes about 10."""

Catch = Generator[ArmTarget, None, bool]
"""A move that returns whether the part is held."""


@dataclass
class _Desk:
    """What the arms tell each other: who takes which part, and the y (m) at which each lets one go while it is at the bins."""

    taken: dict[Side, str | None] = field(default_factory=lambda: {"left": None, "right": None})
    bin_y_m: dict[Side, float | None] = field(default_factory=lambda: {"left": None, "right": None})

    def is_free(self, side: Side, y_m: float) -> bool:
        """Whether the other arm is away from the bins, or on its own side with room for both hands."""
        other_y_m = self.bin_y_m["right" if side == "left" else "left"]
        return other_y_m is None or (y_m - other_y_m) * (1.0 if side == "left" else -1.0) >= _APART_M


def expert_plan(cell: Cell, episode: BeltEpisode, rng: np.random.Generator) -> Plan:
    """Works until the episode is over. `rng` draws heights, and where in a bin the parts fall."""
    desk = _Desk()
    left, right = (_work(cell, episode, arm, desk, rng) for arm in (cell.left, cell.right))
    yield from both(cell, left, right)


def _work(cell: Cell, episode: BeltEpisode, arm: RobotArm, desk: _Desk, rng: np.random.Generator) -> Move:
    waiting = pointing_down([BELT_X_M, _WAITING_Y_M[arm.side], _HOVER_M + 0.03])
    yield from go_to(arm, waiting, _OPEN)
    while True:
        part = _choose(cell, episode, arm, desk)
        if part is None:
            if np.linalg.norm(arm.T_world_requested[:3, 3] - waiting[:3, 3]) > 0.01:
                yield from go_to(arm, waiting, _OPEN)
            else:
                yield ArmTarget(waiting, _OPEN)
            continue
        desk.taken[arm.side] = part.name
        is_held = yield from _catch(cell, episode, arm, part, rng)
        if is_held:
            yield from _deliver(cell, episode, arm, part, desk, rng)
        else:
            yield from open_to(arm, _OPEN)
            yield from shift(arm, [0.0, 0.0, 0.08])
        desk.taken[arm.side] = None


def _choose(cell: Cell, episode: BeltEpisode, arm: RobotArm, desk: _Desk) -> Part | None:
    """The wanted part that is furthest along and can still be met in this arm's zone."""
    low, high = ZONE_Y_M[arm.side]
    found: list[tuple[float, Part]] = []
    for part in episode.parts:
        if part.place != "out" or part.kind not in episode.wanted or part.name in desk.taken.values():
            continue
        x, y, z = cell.data.xpos[part.body]
        if abs(x - BELT_X_M) > 0.03 or z > BELT_TOP_M + 0.03:
            continue
        if arm.side == "right" and y > ZONE_Y_M["left"][0] + 0.02:
            continue  # the left arm may still take it
        hover = np.array([x, np.clip(y, low, high), _HOVER_M])
        far = float(np.linalg.norm(hover - arm.T_world_requested[:3, 3]))
        needed_s = (num_ticks_of(far, 1.0, NORMAL) + _DOWN_TICKS + _GRIP_TICKS / 2) / CONTROL_HZ
        if y - needed_s * episode.speed_m_s > low and y < high + 0.10 + needed_s * episode.speed_m_s:
            found.append((y, part))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _catch(cell: Cell, episode: BeltEpisode, arm: RobotArm, part: Part, rng: np.random.Generator) -> Catch:
    """Over the part, down to it, close, and up with it."""
    low, high = ZONE_Y_M[arm.side]
    yaw = _grip_yaw(cell, part)
    start, opening = arm.T_world_requested, arm.requested_opening
    hover = _HOVER_M + rng.uniform(-0.01, 0.01)
    grip_z = BELT_TOP_M + max(SIZES_M[part.kind.shape][2] / 2, TIP_M + 0.002) + rng.uniform(0.0, 0.002)

    def above(height_m: float) -> Array:
        ahead_s = (1 + cell.delay_ticks) / CONTROL_HZ
        x, y, _ = cell.data.xpos[part.body]
        return pointing_down([x, np.clip(y - episode.speed_m_s * ahead_s, low, high), height_m], yaw)

    goal = above(hover)
    turn = so3_log(start[:3, :3].T @ goal[:3, :3])
    far = float(np.linalg.norm(goal[:3, 3] - start[:3, 3]))
    num_ticks = num_ticks_of(far, float(np.linalg.norm(turn)), NORMAL)
    for i in range(1, num_ticks + 1):  # the start fades out, the part's own motion fades in
        share = _smooth(i / num_ticks)
        position = (1.0 - share) * start[:3, 3] + share * above(hover)[:3, 3]
        opening += np.clip(_OPEN - opening, -MAX_STEP_OPENING, MAX_STEP_OPENING)
        yield ArmTarget(transform(start[:3, :3] @ so3_exp(share * turn), position), opening)
    while cell.data.xpos[part.body][1] > high:
        yield ArmTarget(above(hover), _OPEN)
    for i in range(1, _DOWN_TICKS + 1):
        yield ArmTarget(above(hover + _smooth(i / _DOWN_TICKS) * (grip_z - hover)), _OPEN)
    opening, num_felt = _OPEN, 0
    for _ in range(_GRIP_TICKS):
        opening = max(0.0, opening - MAX_STEP_OPENING)
        yield ArmTarget(above(grip_z), opening)
        num_felt = num_felt + 1 if arm.grip_force_n >= _GRIP_N else 0
        if num_felt >= 3:
            break
    drift = episode.speed_m_s / CONTROL_HZ
    pose = arm.T_world_requested
    for i in range(1, _UP_TICKS + 1):
        pose = pose.copy()
        pose[1, 3] -= drift * (1.0 - i / _UP_TICKS)
        pose[2, 3] = grip_z + _smooth(i / _UP_TICKS) * (_HOVER_M - grip_z)
        yield ArmTarget(pose, 0.0)
    return arm.grip_force_n >= _GRIP_N / 2


def _deliver(
    cell: Cell, episode: BeltEpisode, arm: RobotArm, part: Part, desk: _Desk, rng: np.random.Generator
) -> Move:
    """To the bin when the other arm is not in the way, let go, and back above the rim."""
    goal = episode.wanted[part.kind]
    x, y = _room_in_bin(cell, episode, goal, rng)
    while not desk.is_free(arm.side, y):
        yield ArmTarget(arm.T_world_requested, 0.0)
        x, y = _room_in_bin(cell, episode, goal, rng)
    desk.bin_y_m[arm.side] = y
    yield from go_to(arm, pointing_down([x, y, _CARRY_M]))
    yield from go_to(arm, pointing_down([x, y, _DROP_M]))
    yield from open_to(arm, _OPEN)
    yield from shift(arm, [0.0, 0.0, _CARRY_M - _DROP_M])
    if goal != arm.side:
        yield from go_to(arm, pointing_down([BIN_X_M + 0.05, np.sign(arm.T_world_base[1, 3]) * 0.15, _CARRY_M]))
    desk.bin_y_m[arm.side] = None


def _room_in_bin(cell: Cell, episode: BeltEpisode, side: Side, rng: np.random.Generator) -> tuple[float, float]:
    """x and y (m) of the drawn place that is furthest from whatever lies in the bin, so that parts do not pile up."""
    places = np.array([BIN_X_M, BIN_Y_M[side]]) + rng.uniform(-1.0, 1.0, (_NUM_PLACES, 2)) * _IN_BIN_M
    positions = cell.data.xpos[[part.body for part in episode.parts]]
    lying = np.array([position[:2] for position in positions if bin_at(position) == side]).reshape(-1, 2)
    gaps = np.linalg.norm(places[:, None] - lying, axis=2).min(axis=1, initial=1.0)
    x, y = places[int(gaps.argmax())].tolist()
    return x, y


def _grip_yaw(cell: Cell, part: Part) -> float:
    """Across the part, with the least turn of the hand that the part's symmetry allows; in [-pi/2, pi/2]."""
    period = SYMMETRY_RAD[part.kind.shape]
    if period == 0.0:
        return 0.0
    rotation = cell.data.xmat[part.body].reshape(3, 3)
    yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return (yaw + period / 2) % period - period / 2


def _smooth(u: float) -> float:
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
