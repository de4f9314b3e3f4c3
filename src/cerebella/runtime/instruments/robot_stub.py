"""A robot that writes down everything: an `Environment` whose joints follow their commands with a lag.

It can be blocked, pushed, and made to lose commands; its cameras can hang. Told to stop, it stops by itself and refuses
commands until it is reset. `robot_stub_process` puts it behind a socket.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cerebella.embodiment import Embodiment
from cerebella.interfaces import Status
from cerebella.runtime.clock import Clock
from cerebella.types import Action, FloatArray, ImageArray, Observation

Outcome = Literal["executed", "dropped", "refused"]


@dataclass(frozen=True, eq=False)
class CommandRecord:
    """One command as it arrived.

    Args:
        sequence: counts commands up from 0.
        tick: what the command said.
        received_s: clock of the robot.
        values: float32[action_dim], raw units.
        outcome: `dropped` on request; `refused` after a stop.
        violation: which limit of the embodiment it broke, against the command before; empty if none.
    """

    sequence: int
    tick: int
    received_s: float
    values: FloatArray
    outcome: Outcome
    violation: str


class RobotStub:
    """Time passes by `apply`: one control period each. Every measured dimension approaches its command,
    `x += (command - x) * (1 - exp(-period / time_constant))`, no faster than its `max_velocity` and within its range.

    Args:
        embodiment: rates, dimensions, limits; views get noise as pictures.
        clock: stamps observations and commands.
        time_constant_s: of the lag; 0 follows at once (up to the velocity limit).
        image_size: (h, w) pixels of each picture.
        prompt: of every observation.
        max_ticks: the episode is done after so many commands; None: never.

    Attributes:
        records: every command since the reset.
        is_stopped: it was told to stop. stopped_s: when, clock of the robot; infinite before.
    """

    def __init__(
        self,
        embodiment: Embodiment,
        clock: Clock,
        time_constant_s: float = 0.05,
        image_size: tuple[int, int] = (32, 32),
        prompt: str = "move",
        max_ticks: int | None = None,
    ) -> None:
        if not time_constant_s >= 0:
            raise ValueError(f"time_constant_s must be 0 s or more; got {time_constant_s}")
        self.embodiment = embodiment
        self.records: list[CommandRecord] = []
        self.is_stopped = False
        self.stopped_s = math.inf
        self._clock = clock
        self._period_s = 1.0 / embodiment.control_hz
        self._share = 1.0 if time_constant_s == 0 else 1.0 - math.exp(-self._period_s / time_constant_s)
        self._image_size = image_size
        self._prompt = prompt
        self._max_ticks = max_ticks
        self._low = np.asarray([d.low for d in embodiment.states], dtype=np.float32)
        self._high = np.asarray([d.high for d in embodiment.states], dtype=np.float32)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Rest in the middle of every range, at tick 0, released and whole; the seed decides the pictures."""
        self.records = []
        self.is_stopped, self.stopped_s = False, math.inf
        self._seed = seed
        self._state = (self._low / 2 + self._high / 2).astype(np.float32)
        self._target = self._state.copy()
        self._is_blocked = False
        self._num_to_drop = 0
        self._picture_tick: int | None = None

    @property
    def tick(self) -> int:
        """Commands so far: ticks of the control rate."""
        return len(self.records)

    def observe(self) -> Observation:
        """What is measured now."""
        picture_tick = self.tick if self._picture_tick is None else self._picture_tick
        images = {view: self._picture(index, picture_tick) for index, view in enumerate(self.embodiment.views)}
        return Observation(self._state.copy(), self._prompt, self.tick, self._clock.now_s(), images)

    def apply(self, action: Action) -> None:
        """Take a command, then let one control period pass.

        Raises:
            ValueError: a wrong width, or not the current tick.
        """
        self.embodiment.check_actions(action.values)
        if action.tick != self.tick:
            raise ValueError(f"a command for tick {action.tick} came at tick {self.tick}")
        outcome: Outcome = "refused" if self.is_stopped else "dropped" if self._num_to_drop > 0 else "executed"
        self._num_to_drop -= outcome == "dropped"
        violation = self._violation(action.values)
        record = CommandRecord(
            len(self.records), action.tick, self._clock.now_s(), action.values.copy(), outcome, violation
        )
        self.records.append(record)
        if outcome == "executed":
            self._target = self._measured(action.values)
        self._move()

    def status(self) -> Status:
        """Done at `max_ticks`, or as soon as it was stopped."""
        if self.is_stopped:
            return Status(True, False, "stopped")
        is_done = self._max_ticks is not None and self.tick >= self._max_ticks
        return Status(is_done, is_done, "end" if is_done else "")

    def stop(self) -> None:
        """Stop by itself: stay where it is, refuse every command. May be repeated."""
        if not self.is_stopped:
            self.is_stopped, self.stopped_s = True, self._clock.now_s()
            self._target = self._state.copy()

    def block(self, is_blocked: bool = True) -> None:
        """Something holds the arm: it takes commands and does not move."""
        self._is_blocked = is_blocked

    def jump(self, offset: FloatArray) -> None:
        """Something pushes the arm: float32[state_dim] is added to the measured state, within its range."""
        self.embodiment.check_state(offset)
        self._state = np.clip(self._state + offset, self._low, self._high)

    def drop(self, num_commands: int) -> None:
        """The next commands get lost on their way: written down, not executed."""
        self._num_to_drop = num_commands

    def freeze_cameras(self, is_frozen: bool = True) -> None:
        """The frame grabbers hang: the same pictures, under fresh stamps."""
        self._picture_tick = self.tick if is_frozen else None

    def _picture(self, index: int, tick: int) -> ImageArray:
        generator = np.random.default_rng((self._seed, tick, index))
        return generator.integers(0, 256, (*self._image_size, 3), dtype=np.uint8)

    def _measured(self, values: FloatArray) -> FloatArray:
        """The command as a state: each action on the dimension that measures it, the others where they are."""
        target = self._target.copy()
        for action, value in zip(self.embodiment.actions, values, strict=True):
            if action.reference is not None:
                index = self.embodiment.state_index(action.reference)
                measured = self.embodiment.states[index]
                is_gripper = action.kind == measured.kind == "gripper"
                target[index] = measured.from_opening(action.opening(value)) if is_gripper else value
        return target

    def _move(self) -> None:
        if self._is_blocked:
            return
        step = (self._target - self._state) * np.float32(self._share)
        for action in self.embodiment.actions:
            if action.reference is not None:
                index = self.embodiment.state_index(action.reference)
                most = np.float32(action.max_velocity * self._period_s)
                step[index] = np.clip(step[index], -most, most)
        self._state = np.clip(self._state + step, self._low, self._high)

    def _violation(self, values: FloatArray) -> str:
        for j, action in enumerate(self.embodiment.actions):
            value = float(values[j])
            slack = 1e-5 * (action.high - action.low)
            if not action.low - slack <= value <= action.high + slack:
                return f"{action.name}: {value:g} {action.unit} is outside {action.low:g}..{action.high:g}"
            velocity = (value - float(self.records[-1].values[j])) / self._period_s if self.records else 0.0
            if action.kind != "velocity" and abs(velocity) > action.max_velocity + slack / self._period_s:
                return f"{action.name}: {velocity:g} {action.unit}/s is beyond {action.max_velocity:g}"
        return ""
