"""A task of the workcell as an `Environment`: 30 commands per second for both arms, three cameras."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic

import numpy as np

from cerebella.arms import ControlMode
from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.cameras import Cameras
from cerebella.envs.workcell.cell import CONTROL_HZ, Cell
from cerebella.envs.workcell.embodiment import SIDES, workcell_embodiment
from cerebella.envs.workcell.randomisation import RANDOMISATIONS, Randomisation
from cerebella.envs.workcell.scene import CAMERAS, room_spec
from cerebella.envs.workcell.task import E, SceneObject, WorkcellTask
from cerebella.geometry import Array, so3_exp, so3_log, transform
from cerebella.interfaces import Status
from cerebella.types import Action, FloatArray, ImageArray, Observation

POSE, GRIPPER, JOINTS = slice(0, 6), 6, slice(7, 13)
"""Where an arm's numbers are in its 13 numbers of the state."""
ARM_STATE_DIM, ARM_ACTION_DIM = 13, 7


class WorkcellEnvironment(Generic[E]):
    """One cell at control rate; fits the `Environment` protocol. Build a cell once and reset it: nothing is reloaded.

    Args:
        task: which.
        control_mode: `end_effector` (poses in each arm's base frame, and openings) or `joint` (openings and joints).
            A pose out of reach is replaced by the nearest one in the sense of `arm_kinematics.inverse`: the wrist's centre
            goes as far along its ray from the shoulder as the arm allows, and keeps the orientation as far as the wrist does.
            No joint moves faster than its limit, whatever is commanded.
        with_images: whether observations carry the views `base`, `left_wrist` and `right_wrist`.
        render_size: (height, width) of the pictures, pixels.
        randomisation: ranges, or the name of a preset (`RANDOMISATIONS`).
        clock_s: what stamps observations, monotonic seconds; the virtual time tick / 30 Hz if not given.

    Raises:
        ValueError: an unknown control mode or preset, or a size out of range.
    """

    def __init__(
        self,
        task: WorkcellTask[E],
        control_mode: ControlMode = "end_effector",
        with_images: bool = True,
        render_size: tuple[int, int] = (224, 224),
        randomisation: Randomisation | str = "none",
        clock_s: Callable[[], float] | None = None,
    ) -> None:
        """See the class."""
        self.task = task
        self.with_images = with_images
        self.render_size = render_size
        self._embodiment = workcell_embodiment(control_mode, tuple(CAMERAS) if with_images else ())
        self._randomisation = _randomisation(randomisation)
        self._clock_s = clock_s
        self.cell = make_cell(task)
        self._cameras: Cameras | None = None
        self._episode: E | None = None
        self._num_unreachable = 0

    @property
    def embodiment(self) -> Embodiment:
        """See `embodiment.workcell_embodiment`."""
        return self._embodiment

    @property
    def episode(self) -> E:
        """What the task remembers about the running episode.

        Raises:
            ValueError: before the first `reset`.
        """
        if self._episode is None:
            raise ValueError(f"{self.task.name}: call reset(seed) first")
        return self._episode

    def reset(self, seed: int) -> None:
        """Start the episode that `seed` (0 or above) decides, at tick 0. The task's draws do not depend on the randomisation.

        Raises:
            ValueError: a negative seed.
        """
        if seed < 0:
            raise ValueError(f"{self.task.name}: seed must be 0 or more; got {seed}")
        for_task, for_room = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(2))
        self.cell.clear()
        self.cell.delay_ticks = self._randomisation.apply(self.cell.model, for_room)
        self._episode = self.task.reset(self.cell, for_task)
        self.cell.settle()
        self._num_unreachable = 0

    def observe(self) -> Observation:
        """What is measured at the current tick. No side effect."""
        return replace(self.measure(), images=self.look())

    def look(self) -> dict[str, ImageArray]:
        """The pictures of `observe`: those of `draw`, or none at all."""
        return self.draw() if self.with_images else {}

    def measure(self) -> Observation:
        """As `observe`, without pictures."""
        episode, tick = self.episode, self.cell.tick
        return Observation(
            state=self.observe_state(),
            prompt=episode.prompt,
            tick=tick,
            timestamp_s=tick / CONTROL_HZ if self._clock_s is None else self._clock_s(),
            images={},
        )

    def observe_state(self) -> FloatArray:
        """What the arms measure now, float32[26]: left, then right, each pose, opening, joints."""
        parts: list[Array] = []
        for side in SIDES:
            arm = self.cell.arm(side)
            pose = arm.T_base_tool
            parts += [pose[:3, 3], so3_log(pose[:3, :3]), np.array([arm.opening]), arm.joints_rad]
        return np.concatenate(parts).astype(np.float32)

    def apply(self, action: Action) -> None:
        """Execute the command of the current tick; one tick passes.

        Raises:
            ValueError: wrong shape, `action.tick` is not the current tick, or the episode is over.
        """
        episode, tick = self.episode, self.cell.tick
        self.embodiment.check_actions(action.values)
        if action.tick != tick:
            raise ValueError(f"{self.task.name}: the command is for tick {action.tick}, but the current tick is {tick}")
        status = self.status()
        if status.is_done:
            raise ValueError(f"{self.task.name}: the episode is over ({status.reason!r}) at tick {tick}; call reset")
        rows = action.values.astype(np.float64).reshape(len(SIDES), ARM_ACTION_DIM)
        for side, row in zip(SIDES, rows, strict=True):
            if self.embodiment.control_mode == "joint":
                self.cell.command(side, row[1:], row[0])
            else:
                arm = self.cell.arm(side)
                joints, is_reached = arm.joints_at(arm.T_world_base @ transform(so3_exp(row[3:6]), row[:3]))
                self._num_unreachable += not is_reached
                self.cell.command(side, joints, row[6])
        self.cell.step(lambda: self.task.after_physics_step(self.cell, episode))
        self.task.after_tick(self.cell, episode)

    def status(self) -> Status:
        """Where the episode stands.

        Metrics: `ticks`; `unreachable`, how many commanded poses (of either arm) were out of reach; and those of the task.
        """
        episode = self.episode
        found = self.task.status(self.cell, episode)
        metrics = {"ticks": float(self.cell.tick), "unreachable": float(self._num_unreachable), **found.metrics}
        if fault := self.cell.fault:
            return Status(True, False, f"simulation failed: {fault}", metrics)
        if not found.is_done and self.cell.tick >= self.task.max_ticks:
            return Status(True, found.is_success, found.reason or "time", metrics)
        return Status(found.is_done, found.is_success, found.reason, metrics)

    def truth(self) -> tuple[SceneObject, ...]:
        """The things in the scene now, with kind, colour and place: for questions about the pictures."""
        return self.task.truth(self.cell, self.episode)

    def draw(self) -> dict[str, ImageArray]:
        """The three views now, uint8[h, w, 3] each, also without `with_images`.

        Raises:
            NoGraphics: OpenGL does not work here.
        """
        if self._cameras is None:
            self._cameras = Cameras(self.cell.model, CAMERAS, self.render_size)
        return self._cameras.draw(self.cell.data)

    def close(self) -> None:
        """Give the graphics memory back."""
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None


def make_cell(task: WorkcellTask[Any]) -> Cell:
    """The room with a task's things in it, compiled."""
    spec = room_spec()
    task.add_to(spec)
    spec.option.timestep = 1.0 / CONTROL_HZ / task.steps_per_tick
    return Cell(spec.compile(), task.steps_per_tick)


def _randomisation(given: Randomisation | str) -> Randomisation:
    if isinstance(given, Randomisation):
        return given
    if given not in RANDOMISATIONS:
        raise ValueError(f"unknown randomisation {given!r}; known: {', '.join(RANDOMISATIONS)}")
    return RANDOMISATIONS[given]
