"""What the planar grippers of the dynamic tasks have in common: where they are, and where they are told to go."""

from cerebella.embodiment import ActionDimension, Dimension


def place(name: str, slot: int, high_m: float) -> Dimension:
    """A measured coordinate in the world, 0..high_m, in metres."""
    return Dimension(name, "m", "position", "world", slot=slot, low=0.0, high=high_m)


def target(name: str, slot: int, high_m: float) -> ActionDimension:
    """A coordinate to go to, 0..high_m, in metres, relative to the state of the same name; without orders it stays."""
    return ActionDimension(
        name=name,
        unit="m",
        kind="position",
        frame="world",
        slot=slot,
        low=0.0,
        high=high_m,
        max_velocity=0.9,
        max_acceleration=30.0,
        max_jerk=1500.0,
        hold="last",
        reference=name,
        relative=True,
    )
