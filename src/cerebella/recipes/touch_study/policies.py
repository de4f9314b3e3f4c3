"""Who is compared: the refiners of the study, by name, and how each differs from the main one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["main", "ablation", "tuned", "neighbours"]
MAIN, DIRECT, NEIGHBOURS = "main", "direct", "neighbours"


@dataclass(frozen=True)
class Entrant:
    """One refiner.

    Args:
        name: of its directory and in the tables. title: what it is.
        kind: `main`: with the whole budget. `ablation`: trained with the budget of the comparisons. `tuned`: the main one,
            trained further in the other world. `neighbours`: nothing is trained.
        changes: fields of `TouchTraining` that differ.
    """

    name: str
    title: str
    kind: Kind = "ablation"
    changes: Mapping[str, Any] = field(default_factory=dict)


ENTRANTS: Mapping[str, Entrant] = {
    entrant.name: entrant
    for entrant in (
        Entrant(MAIN, "the refiner: increment, ViT, five fingers, joints, whole budget", "main"),
        Entrant(DIRECT, "the same with the budget of the comparisons"),
        Entrant("absolute", "says where the object lies now and in the goal; the difference moves", changes={"target": "absolute"}),
        Entrant("no_touch", "joints only", changes={"inputs": "no_touch"}),
        Entrant(NEIGHBOURS, "the most similar grasps of a bank; the difference of their poses moves", "neighbours"),
        Entrant("no_joints", "taxels only", changes={"inputs": "no_joints"}),
        Entrant("mlp", "MLP instead of the ViT per finger", changes={"encoder": "mlp"}),
        Entrant("cnn", "the first version of the paper: a convolutional branch per finger, no goal joints", changes={"encoder": "cnn"}),
        Entrant("fingers_4", "taxels of thumb, index, middle, ring", changes={"fingers": (0, 1, 2, 3)}),
        Entrant("fingers_3", "taxels of thumb, index, middle", changes={"fingers": (0, 1, 2)}),
        Entrant("fingers_2", "taxels of thumb and index", changes={"fingers": (0, 1)}),
        Entrant("fingers_1", "taxels of the thumb", changes={"fingers": (0,)}),
    )
}  # fmt: skip
"""In the order in which they are worth having. All but `main` are compared with `direct`."""


def tuned(num_samples: int) -> str:
    """The name of the main refiner after training on so many grasps of the other world."""
    return f"tuned_{num_samples}"


def entrant(name: str) -> Entrant:
    """The refiner called `name`.

    Raises:
        ValueError: there is none; lists the names.
    """
    if name in ENTRANTS:
        return ENTRANTS[name]
    kind, _, num = name.partition("_")
    if kind == "tuned" and num.isdigit():
        return Entrant(name, f"the main one, trained further on {num} grasps of the world spheres", "tuned")
    raise ValueError(f"unknown refiner {name!r}; known: {', '.join(ENTRANTS)}, tuned_<number>")
