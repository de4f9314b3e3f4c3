"""What a robot's state and action vectors mean: names, units, frames, limits, rates, and how to hold still.

An `Embodiment` is data (it travels as `embodiment.json` in a policy directory), so a new robot is a new file, never a
change to model code. Nothing here has a default where a default would move metal.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from cerebella.types import VIEWS, Action, FloatArray, Observation

Kind = Literal["position", "rotation", "gripper", "joint", "velocity"]
Hold = Literal["last", "zero"]
OpenAt = Literal["high", "low"]
KINDS: tuple[str, ...] = get_args(Kind)
HOLDS: tuple[str, ...] = get_args(Hold)
OPEN_ENDS: tuple[str, ...] = get_args(OpenAt)


@dataclass(frozen=True)
class Dimension:
    """One entry of the state vector.

    Args:
        name: unique within its vector, e.g. `gripper_x`.
        unit: `m`, `rad`, `m/s`, or `1` for a ratio such as a gripper opening (0 closed .. 1 open).
        kind: one of `KINDS`.
        frame: the frame that the number is expressed in, e.g. `world`.
        slot: index in the model's padded vector (XR-0: 32 wide); None is measured, but no input of the model.
        low, high: the range that a healthy robot stays in, in `unit`.
        open_at: of a gripper, the end of its range at which it is physically open.
    """

    name: str
    unit: str
    kind: Kind
    frame: str
    slot: int | None
    low: float
    high: float
    open_at: OpenAt = field(default="high", kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"dimension {self.name!r} has the kind {self.kind!r}; known kinds: {', '.join(KINDS)}")
        _check_numbers(f"dimension {self.name!r}", {"low": self.low, "high": self.high})
        if not self.low < self.high:
            raise ValueError(f"dimension {self.name!r}: low {self.low} must be below high {self.high} ({self.unit})")
        if self.slot is not None and (not isinstance(self.slot, int) or self.slot < 0):
            raise ValueError(f"dimension {self.name!r}: slot must be an integer of 0 or more; got {self.slot!r}")
        if self.open_at not in OPEN_ENDS:
            raise ValueError(f"dimension {self.name!r} is open at {self.open_at!r}; known: {', '.join(OPEN_ENDS)}")
        if self.open_at != "high" and self.kind != "gripper":
            raise ValueError(f"dimension {self.name!r} is a {self.kind}; only a gripper is open at an end of its range")

    def opening(self, value: ArrayLike) -> FloatArray:
        """A gripper's raw values as openings, 0 physically closed .. 1 open; not limited to that. Any shape."""
        fraction = (np.asarray(value, dtype=np.float64) - self._closed) / (self._open - self._closed)
        return fraction.astype(np.float32)

    def from_opening(self, opening: ArrayLike) -> FloatArray:
        """The inverse of `opening`: raw values of openings (0 closed .. 1 open). Any shape."""
        value = self._closed + np.asarray(opening, dtype=np.float64) * (self._open - self._closed)
        return value.astype(np.float32)

    @property
    def _open(self) -> float:
        if self.kind != "gripper":
            raise ValueError(f"dimension {self.name!r} is a {self.kind}; only a gripper has an opening")
        return self.high if self.open_at == "high" else self.low

    @property
    def _closed(self) -> float:
        return self.low if self.open_at == "high" else self.high


@dataclass(frozen=True)
class ActionDimension(Dimension):
    """One entry of the action vector: a `Dimension` with motion limits and a rule for holding still.

    Args:
        max_velocity, max_acceleration, max_jerk: limits in unit/s, unit/s^2, unit/s^3.
        hold: what "hold still" sends: `last` repeats the last command (the measured `reference` before the first one);
            `zero` sends 0, right for velocities and wrong for every absolute target.
        reference: the state dimension that measures this one. Needed by `hold="last"`.
        relative: the model predicts the difference to `reference` at the observation instead of the absolute target.
    """

    max_velocity: float
    max_acceleration: float
    max_jerk: float
    hold: Hold
    reference: str | None
    relative: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {name: getattr(self, name) for name in ("max_velocity", "max_acceleration", "max_jerk")}
        _check_numbers(f"dimension {self.name!r}", limits, above_zero=True)
        if self.hold not in HOLDS:
            raise ValueError(f"dimension {self.name!r} holds by {self.hold!r}; known rules: {', '.join(HOLDS)}")
        if self.hold == "zero" and self.kind != "velocity":
            raise ValueError(
                f"dimension {self.name!r} is an absolute {self.kind} target: holding by 'zero' would drive it to "
                f"0 {self.unit}. Use hold='last'"
            )
        if self.hold == "last" and self.kind == "velocity":
            raise ValueError(
                f"dimension {self.name!r} is a velocity: holding by 'last' would keep it moving. Use 'zero'"
            )
        if self.reference is None and (self.relative or self.hold == "last"):
            raise ValueError(f"dimension {self.name!r} needs a reference (the state dimension that measures it)")
        if self.slot is None:
            raise ValueError(f"dimension {self.name!r}: an action needs a slot; only a state may have none")


@dataclass(frozen=True)
class Pose:
    """Six action dimensions that are one pose in one frame: names of x, y, z (m) and of its axis_angle (rad).

    Where they are relative, every row of a chunk is relative to the pose that their references measured: its position
    in that pose's own axes, its rotation as the logarithm of the relative rotation (`geometry.relative_pose`).
    """

    position: tuple[str, str, str]
    rotation: tuple[str, str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All six names, position first."""
        return (*self.position, *self.rotation)


@dataclass(frozen=True)
class Embodiment:
    """A robot as its vectors: `state[i]` is described by `states[i]`, `action[j]` by `actions[j]`.

    Args:
        name: the robot type; statistics and prompts are chosen by it.
        control_mode: e.g. `end_effector` or `joint`.
        states, actions: the dimensions, in vector order.
        views: camera views, in the order in which the prompt shows them.
        policy_hz: rate of the rows of a chunk. control_hz: rate of the commands to the robot.
        poses: the action dimensions that belong together as poses; a relative rotation must be part of one.
    """

    name: str
    control_mode: str
    states: tuple[Dimension, ...]
    actions: tuple[ActionDimension, ...]
    views: tuple[str, ...]
    policy_hz: float
    control_hz: float
    poses: tuple[Pose, ...] = ()

    def __post_init__(self) -> None:
        rates = {"policy_hz": self.policy_hz, "control_hz": self.control_hz}
        _check_numbers(f"embodiment {self.name!r}", rates, above_zero=True)
        if unknown := [view for view in self.views if view not in VIEWS]:
            raise ValueError(f"embodiment {self.name!r} has the view {unknown[0]!r}; known views: {', '.join(VIEWS)}")
        for what, dimensions in (("state", self.states), ("action", self.actions)):
            for key in ("name", "slot"):
                values = [getattr(dimension, key) for dimension in dimensions if getattr(dimension, key) is not None]
                if len(set(values)) != len(values):
                    raise ValueError(f"embodiment {self.name!r}: two {what} dimensions share a {key}: {values}")
        for action in self.actions:
            self._check_reference(action)
        for pose in self.poses:
            self._check_pose(pose)
        in_poses = [name for pose in self.poses for name in pose.names]
        if len(set(in_poses)) != len(in_poses):
            raise ValueError(f"embodiment {self.name!r}: an action dimension belongs to two poses: {in_poses}")
        for action in self.actions:
            if action.relative and action.kind == "rotation" and action.name not in in_poses:
                raise ValueError(
                    f"embodiment {self.name!r}: {action.name!r} is a relative rotation outside a pose; rotations "
                    "compose, they do not subtract. Name it in `poses`, or declare it absolute"
                )

    @property
    def state_dim(self) -> int:
        """Length of the state vector."""
        return len(self.states)

    @property
    def action_dim(self) -> int:
        """Length of the action vector, unpadded."""
        return len(self.actions)

    def state_index(self, name: str) -> int:
        """Position of a state dimension in the state vector."""
        return self._index("state", self.states, name)

    def action_index(self, name: str) -> int:
        """Position of an action dimension in the action vector."""
        return self._index("action", self.actions, name)

    def reference_of(self, state: FloatArray) -> FloatArray:
        """The measured value of every action dimension, float32[..., action_dim] raw units; 0 where none is declared.

        `state`: float32[..., state_dim]. A gripper that is measured over another range than it is commanded over, or
        the other way round, is converted through its opening.
        """
        values = np.zeros((*state.shape[:-1], self.action_dim), dtype=np.float32)
        for j, action in enumerate(self.actions):
            if action.reference is None:
                continue
            index = self.state_index(action.reference)
            measured = self.states[index]
            is_converted = action.kind == "gripper" and _ends(action) != _ends(measured)
            value = state[..., index]
            values[..., j] = action.from_opening(measured.opening(value)) if is_converted else value
        return values

    def hold(self, observation: Observation, last_command: Action | None) -> Action:
        """The command that keeps this robot still now: every executor's answer when it has nothing better to send.

        `last_command` is what was sent last (None before the first command). Repeating it instead of the measured pose
        avoids a jump backwards by the servo's lag.
        """
        self.check_state(observation.state)
        measured = self.reference_of(observation.state)
        previous = measured if last_command is None else last_command.values
        values = [previous[j] if a.hold == "last" else 0.0 for j, a in enumerate(self.actions)]
        return Action(values=np.asarray(values, dtype=np.float32), tick=observation.tick)

    def check_state(self, state: FloatArray) -> None:
        """Raise a ValueError unless `state` has this embodiment's length."""
        if state.shape != (self.state_dim,):
            names = ", ".join(f"{d.name} [{d.unit}]" for d in self.states)
            raise ValueError(f"{self.name}: state must be float32[{self.state_dim}] ({names}); got {list(state.shape)}")

    def check_actions(self, actions: FloatArray) -> None:
        """Raise a ValueError unless the last axis of `actions` has this embodiment's length."""
        if actions.shape[-1:] != (self.action_dim,):
            names = ", ".join(f"{d.name} [{d.unit}]" for d in self.actions)
            raise ValueError(
                f"{self.name}: actions must be float32[..., {self.action_dim}] ({names}); got {list(actions.shape)}"
            )

    def _index(self, what: str, dimensions: Sequence[Dimension], name: str) -> int:
        names = [dimension.name for dimension in dimensions]
        if name not in names:
            raise ValueError(f"embodiment {self.name!r} has no {what} {name!r}; known {what}s: {', '.join(names)}")
        return names.index(name)

    def _check_reference(self, action: ActionDimension) -> None:
        if action.reference is None:
            return
        measured = self.states[self.state_index(action.reference)]
        is_gripper = action.kind == measured.kind == "gripper"  # converted through its opening
        if action.relative and action.unit != measured.unit and not is_gripper:
            raise ValueError(
                f"embodiment {self.name!r}: action {action.name!r} ({action.kind}, {action.unit}) cannot be "
                f"relative to the state {measured.name!r} ({measured.kind}, {measured.unit})"
            )

    def _check_pose(self, pose: Pose) -> None:
        actions = [self.actions[self.action_index(name)] for name in pose.names]
        wanted = [("position", "m")] * 3 + [("rotation", "rad")] * 3
        references = [self.states[self.state_index(a.reference)] for a in actions if a.reference is not None]
        for dimensions in (actions, references if actions[0].relative else []):
            found = [(dimension.kind, dimension.unit) for dimension in dimensions]
            frames = {dimension.frame for dimension in (*actions, *dimensions)}
            if found and (found != wanted or len(frames) > 1 or len({d.name for d in dimensions}) != 6):
                described = ", ".join(f"{d.name} ({d.kind}, {d.unit}, {d.frame})" for d in dimensions)
                raise ValueError(
                    f"embodiment {self.name!r}: a pose is three positions (m) and the three numbers of an axis_angle "
                    f"(rotation, rad) in one frame, and so is what measures it; got {described}"
                )
        if len({action.relative for action in actions}) > 1:
            raise ValueError(
                f"embodiment {self.name!r}: a pose is relative as a whole or not at all; "
                f"relative: {', '.join(a.name for a in actions if a.relative)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads them back."""
        fields = asdict(self)
        for dimension in (*fields["states"], *fields["actions"]):
            if dimension["kind"] != "gripper":
                del dimension["open_at"]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str) -> "Embodiment":
        """What `to_dict` gave; `source` says in errors where it came from.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        fields = dict(fields)
        try:
            states = tuple(Dimension(**d) for d in fields.pop("states"))
            actions = tuple(ActionDimension(**d) for d in fields.pop("actions"))
            views: Sequence[str] = fields.pop("views")
            poses = tuple(Pose(tuple(p["position"]), tuple(p["rotation"])) for p in fields.pop("poses", []))
            return cls(states=states, actions=actions, views=tuple(views), poses=poses, **fields)
        except KeyError as error:
            raise ValueError(f"{source} is not an embodiment: the field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source} is not an embodiment: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write `embodiment.json`."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Embodiment":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file. ValueError: a field is missing, unknown or out of range.
        """
        return cls.from_dict(read_json_object(path), str(path))


def read_json_object(path: Path | str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file. ValueError: not JSON, or not an object; names the file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # broken JSON, or bytes that are not text
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; it holds a {type(content).__name__}")
    return content


def _ends(gripper: Dimension) -> tuple[float, float, str]:
    """What decides which opening a raw number is."""
    return gripper.low, gripper.high, gripper.open_at


def _check_numbers(what: str, numbers: Mapping[str, float], above_zero: bool = False) -> None:
    """Raise a ValueError that names the first entry that is not a finite number (above 0)."""
    for name, value in numbers.items():
        is_number = isinstance(value, int | float) and math.isfinite(value)
        if not is_number or (above_zero and value <= 0):
            raise ValueError(f"{what}: {name} must be a finite number{' above 0' if above_zero else ''}; got {value!r}")
