"""The record of one refinement: every step, how it ended, and why. Saved as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cerebella.embodiment import read_json_object
from cerebella.geometry import Array, so3_log
from cerebella.touch.confidence import Confidence
from cerebella.touch.goal import numbers, read_reading
from cerebella.touch.reading import Reading

SCHEMA, SCHEMA_VERSION = "cerebella.touch.refinement", 1
Outcome = Literal["converged", "budget", "refused", "stopped_growing"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
Error = tuple[float, float]
"""How far the object really is from the goal, as only a simulator knows: (metres, radians), see `grasp.pose_error`."""


def size_of(increment: Array) -> tuple[float, float]:
    """(metres, radians) of an increment: the length of its translation and the angle of its rotation."""
    return float(np.linalg.norm(increment[:3, 3])), float(np.linalg.norm(so3_log(increment[:3, :3])))


@dataclass(frozen=True, eq=False)
class Step:
    """One closed hand: what it felt, what was predicted, where the wrist went from there.

    Args:
        reading: what was measured.
        T_world_wrist: float64[4, 4] metres, where the wrist was.
        confidence: what the checks found.
        increment: float64[4, 4], the prediction D, `W' = W D`; None where the reading or the prediction was refused.
        damping: the share of it that was taken, 0..1, before any bound.
        T_world_wrist_next: where the wrist was sent; None at the last step.
        true_error: distance to the goal before the move; None outside a simulation.
    """

    reading: Reading
    T_world_wrist: Array
    confidence: Confidence
    increment: Array | None
    damping: float
    T_world_wrist_next: Array | None
    true_error: Error | None


@dataclass(frozen=True, eq=False)
class Refinement:
    """What a refinement did.

    Args:
        steps: one per closed hand, in order; one more than wrist moves, unless the last move led back.
        outcome: one of `OUTCOMES`. reason: why, in words with numbers.
        went_back: at the end the wrist returned to the best pose seen, and the hand closed there.
        T_world_wrist_end: float64[4, 4] metres, where the hand is closed now.
        true_error_end: distance to the goal there; None outside a simulation.
        goal_name: the goal's object. policy_id: the refiner; empty if unknown.
    """

    steps: tuple[Step, ...]
    outcome: Outcome
    reason: str
    went_back: bool
    T_world_wrist_end: Array
    true_error_end: Error | None
    goal_name: str
    policy_id: str = ""

    @property
    def num_moves(self) -> int:
        """Wrist moves, the way back not counted."""
        return sum(step.T_world_wrist_next is not None for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads them back."""
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "goal_name": self.goal_name,
            "policy_id": self.policy_id,
            "outcome": self.outcome,
            "reason": self.reason,
            "went_back": self.went_back,
            "T_world_wrist_end": _list(self.T_world_wrist_end),
            "true_error_end": _error_fields(self.true_error_end),
            "steps": [_step_fields(step) for step in self.steps],
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], source: str) -> "Refinement":
        """What `to_dict` gave; `source` says in errors where it came from.

        Raises:
            ValueError: another schema or version, a field missing or wrong.
        """
        if (fields.get("schema"), fields.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(
                f"{source} is not a refinement: it has the schema {fields.get('schema')!r}, version "
                f"{fields.get('schema_version')!r}; this reads {SCHEMA!r}, version {SCHEMA_VERSION}"
            )
        try:
            if fields["outcome"] not in OUTCOMES:
                raise ValueError(f"unknown outcome {fields['outcome']!r}; known: {', '.join(OUTCOMES)}")
            return cls(
                steps=tuple(_read_step(step) for step in fields["steps"]),
                outcome=fields["outcome"],
                reason=fields["reason"],
                went_back=fields["went_back"],
                T_world_wrist_end=numbers("T_world_wrist_end", fields["T_world_wrist_end"], (4, 4)),
                true_error_end=_read_error(fields["true_error_end"]),
                goal_name=fields["goal_name"],
                policy_id=fields["policy_id"],
            )
        except KeyError as error:
            raise ValueError(f"{source} is not a refinement: the field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source} is not a refinement: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write `to_dict` as JSON; what is not finite (only the distance of a refused embedding can be) becomes null."""
        text = json.dumps(self.to_dict(), allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Refinement":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file. ValueError: see `from_dict`; names the file.
        """
        return cls.from_dict(read_json_object(path), str(path))


def describe(refinement: Refinement) -> str:
    """The refinement in a few lines for a terminal: one per step, then the end."""
    lines = []
    for i, step in enumerate(refinement.steps):
        predicted = "no prediction" if step.increment is None else f"predicted {_in_words(size_of(step.increment))}"
        truth = "" if step.true_error is None else f", true error {_in_words(step.true_error)}"
        lines.append(f"step {i}: {predicted}{truth}")
    end = "" if refinement.true_error_end is None else f", true error {_in_words(refinement.true_error_end)}"
    back = ", went back to the best pose" if refinement.went_back else ""
    return "\n".join([*lines, f"{refinement.outcome}: {refinement.reason}{back}{end}"])


def _in_words(size: Error) -> str:
    return f"{1e3 * size[0]:.2f} mm / {math.degrees(size[1]):.2f} deg"


def _step_fields(step: Step) -> dict[str, Any]:
    confidence = asdict(step.confidence)
    distance = step.confidence.distance
    confidence["distance"] = distance if distance is not None and math.isfinite(distance) else None
    return {
        "counts": step.reading.counts.tolist(),
        "joints_rad": step.reading.joints.tolist(),
        "T_world_wrist": _list(step.T_world_wrist),
        "confidence": confidence,
        "increment": _list(step.increment),
        "damping": step.damping,
        "T_world_wrist_next": _list(step.T_world_wrist_next),
        "true_error": _error_fields(step.true_error),
    }


def _read_step(fields: dict[str, Any]) -> Step:
    confidence = dict(fields["confidence"])
    confidence |= {name: tuple(confidence[name]) for name in ("fingers", "dead_fingers")}
    increment, following = fields["increment"], fields["T_world_wrist_next"]
    return Step(
        reading=read_reading(fields["counts"], fields["joints_rad"]),
        T_world_wrist=numbers("T_world_wrist", fields["T_world_wrist"], (4, 4)),
        confidence=Confidence(**confidence),
        increment=None if increment is None else numbers("increment", increment, (4, 4)),
        damping=float(fields["damping"]),
        T_world_wrist_next=None if following is None else numbers("T_world_wrist_next", following, (4, 4)),
        true_error=_read_error(fields["true_error"]),
    )


def _list(matrix: Array | None) -> list[Any] | None:
    return None if matrix is None else np.asarray(matrix).tolist()


def _error_fields(error: Error | None) -> dict[str, float] | None:
    return None if error is None else {"distance_m": float(error[0]), "angle_rad": float(error[1])}


def _read_error(fields: dict[str, float] | None) -> Error | None:
    if fields is None:
        return None
    distance, angle = numbers("true_error", [fields["distance_m"], fields["angle_rad"]], (2,))
    return float(distance), float(angle)


def errors_by_step(refinements: Sequence[Refinement], num_steps: int) -> Array:
    """True errors of simulated refinements, float64[len, num_steps + 1, 2]: metres and radians before any move and after
    each; one that ended early keeps its last one.

    Raises:
        ValueError: one has no true errors.
    """
    rows = []
    for refinement in refinements:
        errors = [*(step.true_error for step in refinement.steps), refinement.true_error_end]
        known = [error for error in errors if error is not None]
        if len(known) != len(errors):
            raise ValueError("errors_by_step needs true errors at every step; run in a simulated hand")
        taken = known[:num_steps]
        rows.append([*taken, *[known[-1]] * (num_steps + 1 - len(taken))])
    return np.asarray(rows, dtype=np.float64).reshape(-1, num_steps + 1, 2)
