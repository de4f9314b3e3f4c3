"""One number of a robot's driver as one dimension of an embodiment: `ours = scale * theirs + offset`.

Drivers count in degrees, in -100..100 of a calibrated range, in 0..100 of a gripper; an embodiment has one unit per
dimension (rad, m, 1). What a channel says about sign, zero and range decides where metal goes, so none of it has a
default, and a channel is found by its names, never by its place in a list.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Role = Literal["state", "action"]
ROLES: tuple[str, ...] = get_args(Role)

UNITS: dict[str, tuple[str, float]] = {
    "rad": ("rad", 1.0),
    "deg": ("rad", math.pi / 180.0),
    "m": ("m", 1.0),
    "mm": ("m", 1e-3),
    "rad/s": ("rad/s", 1.0),
    "deg/s": ("rad/s", math.pi / 180.0),
    "m/s": ("m/s", 1.0),
    "mm/s": ("m/s", 1e-3),
    "1": ("1", 1.0),
    "%": ("1", 1e-2),
}
"""A driver's unit -> the embodiment's unit, and how many of the latter one of the former is."""

_FORMS = (
    'either "unit", "sign" (1 or -1) and "zero" (our value where theirs is 0), or "from" and "to" (two values each)'
)


@dataclass(frozen=True)
class Channel:
    """One number, read or written.

    Args:
        dimension: the embodiment's name for it, e.g. `left_joint_1`.
        key: the driver's name, e.g. `shoulder_pan.pos`.
        scale, offset: ours = scale * theirs + offset; the sign is in `scale`.
        unit: of the embodiment's dimension; None if `from` and `to` say everything.
        reach: the smallest and the largest value that the driver can express, ours; None without an end.
        roles: the vectors that it belongs to.
    """

    dimension: str
    key: str
    scale: float
    offset: float
    unit: str | None
    reach: tuple[float, float] | None = None
    roles: tuple[Role, ...] = ("state", "action")

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale != 0.0):
            raise ValueError(
                f"channel {self.dimension!r}: scale must be finite and not 0, offset finite; "
                f"got {self.scale} and {self.offset}"
            )

    def to_ours(self, theirs: float) -> float:
        """The driver's number in the embodiment's unit."""
        return self.scale * theirs + self.offset

    def to_theirs(self, ours: float) -> float:
        """The inverse of `to_ours`."""
        return (ours - self.offset) / self.scale

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], source: str) -> "Channel":
        """One entry of a mapping file; `source` names the file in errors.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        what = f"{source}: channel {fields.get('dimension', '?')!r}"
        known = {"dimension", "key", "only", "unit", "sign", "zero", "from", "to"}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"{what} has the field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        for name in ("dimension", "key"):
            if not isinstance(fields.get(name), str) or not fields[name]:
                raise ValueError(f"{what} needs {name!r}, a text; got {fields.get(name)!r}")
        names = (fields["dimension"], fields["key"])
        roles = _roles(fields, what)
        given = set(fields) & {"unit", "sign", "zero", "from", "to"}
        if given == {"unit", "sign", "zero"}:
            unit, scale, offset = _by_unit(fields, what)
            return cls(*names, scale, offset, unit, None, roles)
        if given == {"from", "to"}:
            scale, offset, reach = _by_points(fields, what)
            return cls(*names, scale, offset, None, reach, roles)
        raise ValueError(f"{what} needs {_FORMS}; got {', '.join(sorted(given)) or 'none of them'}")


def _roles(fields: Mapping[str, Any], what: str) -> tuple[Role, ...]:
    only = fields.get("only")
    if only is None:
        return ("state", "action")
    if only not in ROLES:
        raise ValueError(f"{what}: 'only' must be one of {', '.join(ROLES)}, or be left out; got {only!r}")
    return (only,)


def _by_unit(fields: Mapping[str, Any], what: str) -> tuple[str, float, float]:
    if fields["unit"] not in UNITS:
        raise ValueError(f"{what} has the unit {fields['unit']!r}; known units: {', '.join(UNITS)}")
    if isinstance(fields["sign"], bool) or fields["sign"] not in (1, -1):
        raise ValueError(f"{what}: sign must be 1 or -1; got {fields['sign']!r}")
    unit, factor = UNITS[fields["unit"]]
    return unit, factor * fields["sign"], _number(fields["zero"], f"{what}: zero ({unit})")


def _by_points(fields: Mapping[str, Any], what: str) -> tuple[float, float, tuple[float, float]]:
    ends: dict[str, tuple[float, float]] = {}
    for name in ("from", "to"):
        pair = fields[name]
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"{what}: {name!r} must be two numbers; got {pair!r}")
        first, last = (_number(value, f"{what}: {name!r}") for value in pair)
        if first == last:
            raise ValueError(f"{what}: the two values of {name!r} must differ; got {pair!r}")
        ends[name] = (first, last)
    (theirs_0, theirs_1), (ours_0, ours_1) = ends["from"], ends["to"]
    scale = (ours_1 - ours_0) / (theirs_1 - theirs_0)
    return scale, ours_0 - scale * theirs_0, (min(ours_0, ours_1), max(ours_0, ours_1))


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number; got {value!r}")
    return float(value)
