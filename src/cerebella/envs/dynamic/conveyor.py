"""Conveyor: pick the named part from a belt that changes its speed. State arrays and the step, vectorised over N scenes.

Planar and metric: x runs along the belt (downstream is +x), y across it, origin at the upper left corner of the camera
picture, metres. A scene is one row of every array of `ConveyorState`; nothing here draws random numbers (see
`conveyor_reset`), so a step is a pure function and a scene behaves the same alone or among thousands.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import ActionDimension, Dimension
from cerebella.envs.dynamic.planar import (
    LENGTH_M,
    TICK_S,
    WIDTH_M,
    move_gripper,
    place,
    planar_embodiments,
    target,
)
from cerebella.envs.dynamic.task import RUNNING, IntArray, TaskState
from cerebella.types import BoolArray, FloatArray

COLOURS = ("red", "green", "blue", "yellow", "white")
SHAPES = ("disc", "square", "bar")
MAX_PARTS = 5

OUTCOMES = ("", "picked", "wrong part", "left the belt", "time")
"""What `ConveyorState.outcome` indexes: empty while the episode runs."""
PICKED, WRONG_PART, LEFT_BELT, TIME = range(1, 5)


@dataclass(frozen=True)
class ConveyorConfig:
    """Constants of the belt and the fingers; the servo is that of `planar`. Lengths in metres, speeds in m/s, openings as a
    ratio (0 closed .. 1 open).

    Args:
        length_m, width_m: what the camera sees along x and y. belt_margin_m: rail on both sides of the belt.
        opening_rate: largest change of the opening per tick.
        grasp_opening: the opening whose downward crossing grasps. capture_radius_m: how far the part's centre may be.
        held_opening: the fingers cannot close further on a part. release_opening: above it a held part is dropped.
        hold_ticks: how long the target must be held to count as picked.
        exit_x_m: beyond it the target has left the belt. max_ticks: length limit of an episode.
        bump_ticks: how many ticks a sideways bump takes.
        min_belt_speed, max_belt_speed: the belt never stops and never reverses.
    """

    length_m: float = LENGTH_M
    width_m: float = WIDTH_M
    belt_margin_m: float = 0.02
    opening_rate: float = 1.0 / 6.0
    grasp_opening: float = 0.4
    capture_radius_m: float = 0.018
    held_opening: float = 0.3
    release_opening: float = 0.5
    hold_ticks: int = 3
    exit_x_m: float = 0.47
    max_ticks: int = 120
    bump_ticks: int = 3
    min_belt_speed: float = 0.03
    max_belt_speed: float = 0.16


@dataclass(frozen=True, eq=False, kw_only=True)
class ConveyorState(TaskState):
    """Adds to `TaskState`; P = 5 part places per scene, K scheduled changes of the belt speed.

    Args:
        opening: float32[N], 0 closed .. 1 open.
        belt_speed: float32[N] m/s. belt_offset: float32[N] metres travelled since the start.
        part_position: float32[N, P, 2] metres. part_is_present: bool[N, P].
        part_colour: int32[N, P] into `COLOURS`. part_shape: int32[N, P] into `SHAPES`. part_heading: float32[N, P] rad.
        target: int32[N], place of the named part.
        grasped: int32[N], place of the held part or -1. ticks_held: int32[N]. num_attempts: int32[N], closings so far.
        jump_tick: int32[N, K], when the belt takes the speed jump_speed: float32[N, K] m/s.
        bump: float32[N, 2] metres; zero where the perturbation is a change of the belt speed, to `perturbed_speed`:
            float32[N] in 0..1, the place inside the allowed large changes.
        light: float32[N], brightness around 1. belt_grey: float32[N], 0..255.
    """

    opening: FloatArray
    belt_speed: FloatArray
    belt_offset: FloatArray
    part_position: FloatArray
    part_is_present: BoolArray
    part_colour: IntArray
    part_shape: IntArray
    part_heading: FloatArray
    target: IntArray
    grasped: IntArray
    ticks_held: IntArray
    num_attempts: IntArray
    jump_tick: IntArray
    jump_speed: FloatArray
    bump: FloatArray
    perturbed_speed: FloatArray
    light: FloatArray
    belt_grey: FloatArray

    @property
    def target_position(self) -> FloatArray:
        """float32[N, 2], metres."""
        return self.part_position[np.arange(len(self)), self.target]

    @property
    def target_colour(self) -> IntArray:
        """int32[N] into `COLOURS`."""
        return self.part_colour[np.arange(len(self)), self.target]

    @property
    def target_shape(self) -> IntArray:
        """int32[N] into `SHAPES`."""
        return self.part_shape[np.arange(len(self)), self.target]

    @property
    def proprioception(self) -> FloatArray:
        """What the robot measures, float32[N, 4]: gripper x and y (m), opening (1), belt speed (m/s)."""
        return np.column_stack([self.gripper, self.opening, self.belt_speed]).astype(np.float32)


def step(config: ConveyorConfig, state: ConveyorState, actions: FloatArray, with_events: bool = True) -> ConveyorState:
    """Let one tick pass in every scene, also in those that have an outcome already.

    Args:
        config: the constants.
        state: N scenes; not changed.
        actions: float32[N, 3], finite: absolute targets of gripper x and y (m) and of the opening (1); values beyond the
            workspace are clipped to it.
        with_events: false leaves out scheduled speed changes and perturbations: the belt keeps its current speed.
    """
    gripper = move_gripper(state.gripper, actions[:, :2])
    opening = _move_opening(config, state, actions[:, 2])
    positions = _carry_parts(config, state, gripper)
    tick = state.tick + np.int32(1)
    belt_speed = state.belt_speed
    belt_offset = state.belt_offset + belt_speed * TICK_S
    if with_events:
        belt_speed = _scheduled_speed(config, state, tick)
        positions = _bumped(config, state, tick, positions)

    released = (state.grasped >= 0) & (opening > config.release_opening)
    held_before = np.where(released, -1, state.grasped)
    closes = (state.opening >= config.grasp_opening) & (opening < config.grasp_opening) & (held_before < 0)
    grasped = np.where(closes, _nearest_part(config, state, positions, gripper), held_before).astype(np.int32)
    opening = np.where(grasped >= 0, np.maximum(opening, config.held_opening), opening).astype(np.float32)
    ticks_held = np.where(grasped == state.target, state.ticks_held + 1, 0).astype(np.int32)

    after = replace(
        state,
        tick=tick,
        gripper=gripper,
        opening=opening,
        belt_speed=belt_speed,
        belt_offset=belt_offset,
        part_position=positions,
        grasped=grasped,
        ticks_held=ticks_held,
        num_attempts=state.num_attempts + closes,
    )
    return replace(after, outcome=np.where(state.is_running, _judge(config, after), state.outcome).astype(np.int32))


def _move_opening(config: ConveyorConfig, state: ConveyorState, target: FloatArray) -> FloatArray:
    change = np.clip(np.clip(target, 0.0, 1.0) - state.opening, -config.opening_rate, config.opening_rate)
    return (state.opening + change).astype(np.float32)


def _carry_parts(config: ConveyorConfig, state: ConveyorState, gripper: FloatArray) -> FloatArray:
    """Every part rides on the belt, except the held one, which moves with the gripper."""
    is_held = np.arange(MAX_PARTS) == state.grasped[:, None]
    positions = state.part_position.copy()
    positions[:, :, 0] += np.where(is_held, 0.0, (state.belt_speed * TICK_S)[:, None])
    positions += np.where(is_held[:, :, None], (gripper - state.gripper)[:, None, :], 0.0)
    return positions.astype(np.float32)


def _scheduled_speed(config: ConveyorConfig, state: ConveyorState, tick: IntArray) -> FloatArray:
    """Belt speed from `tick` on: a scheduled jump, and over it the perturbation where that is a change of speed."""
    speed = state.belt_speed
    is_jump = state.jump_tick == tick[:, None]
    if is_jump.any():
        speed = np.where(is_jump.any(axis=1), (state.jump_speed * is_jump).sum(axis=1), speed)
    is_perturbed = (state.perturbation_tick == tick) & ~state.bump.any(axis=1)
    if is_perturbed.any():
        low, high = config.min_belt_speed, config.max_belt_speed
        least = 0.46 * (high - low)
        faster = speed + least + state.perturbed_speed * (high - speed - least)
        slower = low + state.perturbed_speed * (speed - least - low)
        speed = np.where(is_perturbed, np.where(speed < (low + high) / 2, faster, slower), speed)
    return speed.astype(np.float32)


def _bumped(config: ConveyorConfig, state: ConveyorState, tick: IntArray, positions: FloatArray) -> FloatArray:
    """Push the target sideways, spread over `bump_ticks`, unless the gripper holds it."""
    age = tick - state.perturbation_tick
    is_pushed = (state.perturbation_tick >= 0) & (age >= 0) & (age < config.bump_ticks)
    is_pushed &= state.grasped != state.target
    if is_pushed.any():
        scenes = np.flatnonzero(is_pushed)
        positions[scenes, state.target[scenes]] += state.bump[scenes] / np.float32(config.bump_ticks)
    return positions


def _nearest_part(
    config: ConveyorConfig, state: ConveyorState, positions: FloatArray, gripper: FloatArray
) -> NDArray[np.intp]:
    """Place of the part nearest to the gripper where its centre lies within the capture radius, else -1."""
    offset = positions - gripper[:, None, :]
    square = np.where(state.part_is_present, offset[..., 0] ** 2 + offset[..., 1] ** 2, np.inf)
    nearest = square.argmin(axis=1)
    is_near = square[np.arange(len(state)), nearest] <= config.capture_radius_m**2
    return np.where(is_near, nearest, -1)


def _judge(config: ConveyorConfig, state: ConveyorState) -> IntArray:
    """The outcome that the state itself implies; the first that applies in this order counts."""
    is_picked = state.ticks_held >= config.hold_ticks
    is_wrong = (state.grasped >= 0) & (state.grasped != state.target)
    has_left = (state.target_position[:, 0] > config.exit_x_m) & (state.grasped != state.target)
    is_late = state.tick >= config.max_ticks
    verdict = np.select([is_picked, is_wrong, has_left, is_late], [PICKED, WRONG_PART, LEFT_BELT, TIME], RUNNING)
    return verdict.astype(np.int32)


CONVEYOR, CONVEYOR_STATE = planar_embodiments(
    "conveyor",
    states=(
        place("gripper_x", slot=0, high_m=LENGTH_M),
        place("gripper_y", slot=1, high_m=WIDTH_M),
        Dimension("gripper_opening", "1", "gripper", "gripper", slot=6, low=0.0, high=1.0),
        Dimension("belt_speed", "m/s", "velocity", "world", slot=13, low=0.0, high=0.2),
    ),
    actions=(
        target("gripper_x", slot=0, high_m=LENGTH_M),
        target("gripper_y", slot=1, high_m=WIDTH_M),
        ActionDimension(
            name="gripper_opening",
            unit="1",
            kind="gripper",
            frame="gripper",
            slot=6,
            low=0.0,
            high=1.0,
            max_velocity=30.0,
            max_acceleration=900.0,
            max_jerk=54000.0,
            hold="last",
            reference="gripper_opening",
            relative=False,
        ),
    ),
    scene=(
        Dimension("part_x", "m", "position", "world", slot=14, low=-0.04, high=0.52),
        Dimension("part_y", "m", "position", "world", slot=15, low=-0.04, high=0.36),
        Dimension("part_ahead_x", "m", "position", "gripper", slot=16, low=-0.52, high=0.52),
        Dimension("part_ahead_y", "m", "position", "gripper", slot=17, low=-0.36, high=0.36),
        Dimension("part_is_held", "1", "position", "gripper", slot=18, low=0.0, high=1.0),
    ),
)
"""The planar gripper over the belt. Targets may jump between 0 and 1 for the opening in one tick: its servo limits the
rate, so the limits there only forbid more than that (30 1/s is one full stroke per tick). Without a camera, the named
part: where it is, where it is seen from the gripper, and whether the gripper holds it."""
