"""The robot of the small sets: two joints and a gripper, one camera."""

from cerebella.data.mapping import DatasetMap
from cerebella.data.slices import Slice
from cerebella.embodiment import ActionDimension, Dimension, Embodiment, Kind
from tests.data import lerobot_sets as sets

UNITS: dict[str, tuple[str, Kind]] = {
    "shoulder": ("rad", "joint"),
    "elbow": ("rad", "joint"),
    "gripper": ("1", "gripper"),
}


def toy_embodiment(policy_hz: float = 30) -> Embodiment:
    states, actions = [], []
    for slot, (name, (unit, kind)) in enumerate(UNITS.items()):
        low, high = (-3.2, 3.2) if kind == "joint" else (0.0, 1.0)
        states.append(Dimension(name, unit, kind, "base", slot, low, high))
        target = ActionDimension(
            name, unit, kind, "base", slot, low, high, 3.0, 30.0, 300.0, "last", name, relative=kind == "joint"
        )
        actions.append(target)
    return Embodiment("toy_arm", "joint", tuple(states), tuple(actions), ("base", "left_wrist"), policy_hz, policy_hz)


def toy_map() -> DatasetMap:
    return DatasetMap(
        state=(Slice("observation.state", 0, 3, sets.JOINTS),),
        action=(Slice("action", 0, 3, sets.JOINTS),),
        views={"base": sets.TOP},
        embodiment=toy_embodiment(),
    )
