"""An embodiment from a mapping and limits, for a robot that has no `embodiment.json` yet.

The limits come from whoever knows the robot. They have no defaults: a driver's features say how its numbers are called,
not how fast a joint may turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cerebella.arms import Limits
from cerebella.embodiment import ActionDimension, Dimension, Embodiment, Hold, Kind, OpenAt


@dataclass(frozen=True)
class MeasuredJoint:
    """A dimension that is measured and commanded in one unit.

    Args:
        name: as in the mapping. unit, kind, frame, slot, open_at: as in `Dimension`.
        limits: range and motion limits in that unit.
    """

    name: str
    unit: str
    kind: Kind
    frame: str
    slot: int
    limits: Limits
    open_at: OpenAt = "high"

    def state(self) -> Dimension:
        """As an entry of the state vector."""
        low, high = self.limits.low, self.limits.high
        return Dimension(self.name, self.unit, self.kind, self.frame, self.slot, low, high, open_at=self.open_at)

    def action(self, hold: Hold, relative: bool) -> ActionDimension:
        """As an entry of the action vector, measured by the state of the same name."""
        return ActionDimension(
            self.name,
            self.unit,
            self.kind,
            self.frame,
            self.slot,
            **asdict(self.limits),
            hold=hold,
            reference=self.name,
            relative=relative,
            open_at=self.open_at,
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str) -> "MeasuredJoint":
        """One entry of `derive.joints` in a robot file.

        Raises:
            ValueError: a field is missing, unknown or out of range; a limit above all.
        """
        what = f"{source}: joint {fields.get('name', '?')!r}"
        limits = fields.get("limits")
        if not isinstance(limits, Mapping):
            raise ValueError(
                f"{what} needs 'limits': low, high, max_velocity, max_acceleration, max_jerk. There are no defaults; "
                "look into the robot's data sheet, and begin with less"
            )
        try:
            return cls(**{**fields, "limits": Limits(**limits)})
        except TypeError as error:
            raise ValueError(f"{what}: {error}. There are no defaults") from error


def derive_embodiment(
    name: str,
    joints: Sequence[MeasuredJoint],
    views: Sequence[str],
    policy_hz: float,
    control_hz: float,
    hold: Hold,
    relative: bool,
) -> Embodiment:
    """An embodiment in control mode `joint` whose state and action vectors are `joints`, in their order.

    Raises:
        ValueError: as `Embodiment`.
    """
    return Embodiment(
        name,
        "joint",
        tuple(joint.state() for joint in joints),
        tuple(joint.action(hold, relative) for joint in joints),
        tuple(views),
        policy_hz,
        control_hz,
    )


def derived_from_dict(fields: Mapping[str, Any], source: str) -> Embodiment:
    """The `derive` of a robot file: the arguments of `derive_embodiment`.

    Raises:
        ValueError: a field is missing, unknown or out of range.
    """
    fields = dict(fields)
    if not isinstance(fields.get("joints"), list):
        raise ValueError(f"{source}: derive needs 'joints', a list; got {fields.get('joints')!r}")
    joints = [MeasuredJoint.from_dict(entry, source) for entry in fields.pop("joints")]
    try:
        return derive_embodiment(joints=joints, **fields)
    except TypeError as error:
        raise ValueError(f"{source}: derive: {error}. There are no defaults") from error
