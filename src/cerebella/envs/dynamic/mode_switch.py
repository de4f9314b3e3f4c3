"""Mode switch: reach the goals past an obstacle that appears and jumps; left and right are right, the middle is not.

The gripper goes from the left edge to a ring at the right, and then to one at the left. A round obstacle appears on its
way, or jumps there, at moments drawn at reset, so that the side to which a plan leads may become the wrong one. Whoever
reacts at once gets past; the mean of a plan on the left and a plan on the right runs into the obstacle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cerebella.embodiment import Dimension
from cerebella.envs.dynamic.landmarks import Landmarks, one_of_each
from cerebella.envs.dynamic.mode_switch_expert import (
    CLEARANCE_M,
    CONTACT_M,
    MAX_PREFERENCE_M,
    MAX_SPEED,
    MIN_PREFERENCE_M,
    MIN_SPEED,
    OBSTACLE_RADIUS_M,
    STEADY_PREFERENCE_M,
    STEADY_SPEED,
    command,
    point_on_way,
    present_heading,
)
from cerebella.envs.dynamic.mode_switch_state import (
    JUMP_GOAL,
    NUM_GOALS,
    OBSTACLE_HIGH_Y_M,
    OBSTACLE_LOW_Y_M,
    ModeSwitchState,
    draw_scenes,
)
from cerebella.envs.dynamic.picture import Picture
from cerebella.envs.dynamic.planar import (
    LENGTH_M,
    TICK_S,
    WIDTH_M,
    move_gripper,
    place,
    planar_embodiments,
    speed,
    target,
)
from cerebella.envs.dynamic.planar import MAX_SPEED as MAX_SERVO_SPEED
from cerebella.envs.dynamic.task import Task
from cerebella.types import FloatArray, ImageArray

REACHED, HIT, TIME = 1, 2, 3
REACH_M = 0.01
"""A goal this near is reached."""
GOAL_SPACE_M = CLEARANCE_M + 0.012
"""An obstacle never jumps nearer to the goal than this, so that the goal stays within reach."""

_PROMPTS = (
    "go to the ring around the obstacle",
    "move to the ring without touching the obstacle",
    "reach the ring and keep clear of the obstacle",
    "go to the goal and avoid the red disc",
    "drive around the red disc to the ring",
    "get to the ring on either side of the obstacle",
    "please go to the goal and do not hit the disc",
    "pass the obstacle and go to the ring",
)
_LEAST_AHEAD_M = CLEARANCE_M + 0.007
_RING_RGB, _OBSTACLE_RGB, _RIM_RGB = (120, 230, 120), (226, 62, 40), (255, 190, 60)
_RING_RADIUS_M = 0.016

_STATES = (
    place("gripper_x", 0, LENGTH_M),
    place("gripper_y", 1, WIDTH_M),
    speed("gripper_velocity_x", 7, MAX_SERVO_SPEED),
    speed("gripper_velocity_y", 8, MAX_SERVO_SPEED),
)
_ACTIONS = (target("gripper_x", 0, LENGTH_M), target("gripper_y", 1, WIDTH_M))
_SCENE = (
    place("goal_x", 9, LENGTH_M),
    place("goal_y", 10, WIDTH_M),
    place("obstacle_x", 11, LENGTH_M),
    place("obstacle_y", 12, WIDTH_M),
    Dimension("obstacle_is_present", "1", "position", "world", slot=13, low=0.0, high=1.0),
)


class ModeSwitch(Task[ModeSwitchState]):
    """The task; see the module."""

    name = "dynamic/mode_switch"
    embodiment, state_embodiment = planar_embodiments("mode_switch", _STATES, _ACTIONS, _SCENE)
    outcomes = ("", "reached", "hit", "time")
    success = REACHED
    timeout = TIME
    max_ticks = 180
    landmark_names = ("ring", "obstacle", "gripper")

    def reset(self, seeds: Sequence[int] | NDArray[np.int64], perturbation: bool) -> ModeSwitchState:
        """See `Task`."""
        return draw_scenes(seeds, perturbation)

    def step(self, state: ModeSwitchState, actions: FloatArray, with_events: bool = True) -> ModeSwitchState:
        """See `Task`. Without events the obstacle stays where it is, and the next goal does not show."""
        self.check_actions(actions, len(state))
        gripper = move_gripper(state.gripper, actions)
        passing_m = _smallest_distance(state.obstacle, state.gripper, gripper)
        nearest_m = np.where(state.is_present, np.minimum(state.nearest_m, passing_m), state.nearest_m)
        after = replace(
            state,
            tick=state.tick + np.int32(1),
            gripper=gripper,
            velocity=((gripper - state.gripper) / np.float32(TICK_S)).astype(np.float32),
            nearest_m=nearest_m.astype(np.float32),
        )
        if with_events:
            is_there = _distance(after.goal, gripper) < REACH_M
            num_reached = np.minimum(after.num_reached + is_there, NUM_GOALS).astype(np.int32)
            after = _with_perturbation(_with_jumps(replace(after, num_reached=num_reached)))
        return replace(after, outcome=np.where(state.is_running, self._judge(after), state.outcome).astype(np.int32))

    def _judge(self, state: ModeSwitchState) -> NDArray[np.int32]:
        """The outcome that the state itself implies; the first that applies in this order counts."""
        cases = [state.nearest_m < CONTACT_M, state.num_reached == NUM_GOALS, state.tick >= self.max_ticks]
        return np.select(cases, [HIT, REACHED, TIME], 0).astype(np.int32)

    def proprioception(self, state: ModeSwitchState) -> FloatArray:
        """See `Task`: where the gripper is, and how it moved in the last tick."""
        return np.concatenate([state.gripper, state.velocity], axis=1, dtype=np.float32)

    def scene_numbers(self, state: ModeSwitchState) -> FloatArray:
        """See `Task`: the goal, the obstacle, and whether there is one."""
        return np.column_stack([state.goal, state.obstacle, state.is_present]).astype(np.float32)

    def prompts(self, state: ModeSwitchState) -> list[str]:
        """See `Task`."""
        return [_PROMPTS[i] for i in state.prompt_index]

    def all_prompts(self) -> list[str]:
        """See `Task`."""
        return list(_PROMPTS)

    def render(self, state: ModeSwitchState, height: int = 64, width: int = 96) -> ImageArray:
        """See `Task`."""
        floor = state.floor_grey[:, None] * np.array([0.94, 1.0, 1.08], dtype=np.float32)
        picture = Picture(len(state), height, width, floor)
        picture.ring(state.goal, _RING_RADIUS_M, 0.005, _RING_RGB)
        picture.disc(state.goal, 0.004, _RING_RGB)
        picture.disc(state.obstacle, OBSTACLE_RADIUS_M, _RIM_RGB, state.is_present)
        picture.disc(state.obstacle, OBSTACLE_RADIUS_M - 0.005, _OBSTACLE_RGB, state.is_present)
        picture.gripper(state.gripper, 0.0)
        return picture.finish(state.light)

    def landmarks(self, state: ModeSwitchState) -> Landmarks:
        """The ring is the target."""
        return one_of_each((state.goal, state.obstacle, state.gripper), is_present=(True, state.is_present, True))

    def steady_style(self, num_scenes: int) -> FloatArray:
        """See `Task`: float32[N, 2], speed (m/s) and preference for the left (metres)."""
        return np.tile(np.array([STEADY_SPEED, STEADY_PREFERENCE_M], dtype=np.float32), (num_scenes, 1))

    def random_style(self, num_scenes: int, generator: np.random.Generator) -> FloatArray:
        """See `Task`: speeds across the range, and a preference for either side with equal chance."""
        preference_m = generator.uniform(MIN_PREFERENCE_M, MAX_PREFERENCE_M, num_scenes)
        preference_m *= generator.choice([-1.0, 1.0], num_scenes)
        return np.column_stack([generator.uniform(MIN_SPEED, MAX_SPEED, num_scenes), preference_m]).astype(np.float32)

    def expert_command(self, state: ModeSwitchState, style: FloatArray) -> FloatArray:
        """See `Task`."""
        return command(state.gripper, state.velocity, state.goal, state.obstacle, state.is_present, style)

    def metrics(self, state: ModeSwitchState) -> Mapping[str, FloatArray]:
        """`goals_reached`, `jumps` of the obstacle as scheduled, and `nearest_gap_m` to its surface so far."""
        return {
            "goals_reached": state.num_reached.astype(np.float32),
            "jumps": state.has_jumped.sum(axis=1).astype(np.float32),
            "nearest_gap_m": (state.nearest_m - CONTACT_M).astype(np.float32),
        }


def _with_jumps(state: ModeSwitchState) -> ModeSwitchState:
    """Put the obstacle onto the gripper's way in every scene where a scheduled jump is due."""
    is_next = np.array(JUMP_GOAL) == state.goal_index[:, None]
    is_due = is_next & ~state.has_jumped & (_distance(state.goal, state.gripper)[:, None] <= state.jump_left_m)
    scenes = np.flatnonzero(is_due.any(axis=1))
    if not len(scenes):
        return state
    which = is_due[scenes].argmax(axis=1)
    moved = state.take(scenes)
    ahead_m = _with_room(moved, moved.jump_ahead_m[np.arange(len(scenes)), which])
    point, direction = point_on_way(
        moved.gripper, moved.velocity, moved.goal, moved.obstacle, moved.is_present, ahead_m
    )
    sideways = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    point = point + sideways * moved.jump_offset_m[np.arange(len(scenes)), which][:, None]
    return _placed(replace(state, has_jumped=state.has_jumped | is_due), scenes, point, ahead_m)


def _with_perturbation(state: ModeSwitchState) -> ModeSwitchState:
    """Put the obstacle straight ahead, on the side to which the way leads: whatever the command was, it is wrong now."""
    scenes = np.flatnonzero(state.perturbation_tick == state.tick)
    if not len(scenes):
        return state
    moved = state.take(scenes)
    direction = present_heading(moved.gripper, moved.velocity, moved.goal, moved.obstacle, moved.is_present)
    ahead_m = _with_room(moved, moved.perturbation_ahead_m)
    return _placed(state, scenes, moved.gripper + direction * ahead_m[:, None], ahead_m)


def _with_room(state: ModeSwitchState, ahead_m: FloatArray) -> FloatArray:
    """The distances at which an obstacle can appear and leave room before the goal, float32[N]; too short for none."""
    return np.minimum(ahead_m, _distance(state.goal, state.gripper) - GOAL_SPACE_M).astype(np.float32)


def _placed(
    state: ModeSwitchState, scenes: NDArray[np.intp], point: NDArray[np.floating], ahead_m: FloatArray
) -> ModeSwitchState:
    """The obstacle of `scenes` at `point` (float[n, 2]), unless that is too near to the gripper to be avoided."""
    has_room = ahead_m >= _LEAST_AHEAD_M
    low_m, high_m = (0.0, OBSTACLE_LOW_Y_M), (LENGTH_M, OBSTACLE_HIGH_Y_M)
    obstacle, is_present = state.obstacle.copy(), state.is_present.copy()
    obstacle[scenes[has_room]] = np.clip(point[has_room], low_m, high_m).astype(np.float32)
    is_present[scenes[has_room]] = True
    return replace(state, obstacle=obstacle, is_present=is_present)


def _distance(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.sqrt(((first - second) ** 2).sum(axis=1))


def _smallest_distance(point: FloatArray, begin: FloatArray, end: FloatArray) -> FloatArray:
    """How near a straight move comes to a point, float[N] metres."""
    move, offset = end - begin, point - begin
    share = np.clip((offset * move).sum(axis=1) / np.maximum((move**2).sum(axis=1), 1e-12), 0.0, 1.0)
    return _distance(offset, move * share[:, None])
