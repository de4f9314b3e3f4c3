"""The simulated hands by name, and what a random hand is drawn from."""

from collections.abc import Mapping

from cerebella.touch.grasp import TactileWorld

ParameterRanges = Mapping[str, tuple[float, float]]
"""Name of a world's parameter -> (low, high)."""
_HAND: ParameterRanges = {
    "stiffness_n_per_m": (350.0, 900.0),
    "curvature_factor": (0.8, 1.25),
    "array_y_m": (-0.5e-3, 0.5e-3),
    "array_z_m": (-0.7e-3, 0.7e-3),
    "friction": (0.5, 1.1),
    "force_factor": (0.8, 1.25),
}
PARAMETERS: Mapping[str, ParameterRanges] = {
    "skin": _HAND,
    "spheres": {**_HAND, "sphere_radius_m": (0.1e-3, 0.4e-3)},
}
"""What differs from one hand to the next, per world: arguments of its class, see there. The nominal hand is inside."""


def parameter_ranges(world: str) -> ParameterRanges:
    """The parameters of a world that a random hand is drawn from.

    Raises:
        ValueError: an unknown world; lists the names.
    """
    if world not in PARAMETERS:
        raise ValueError(f"unknown world {world!r}; known: {', '.join(PARAMETERS)}")
    return PARAMETERS[world]


def make_world(name: str, parameters: Mapping[str, float]) -> TactileWorld:
    """A world; parameters that are not given keep their defaults.

    Raises:
        ValueError: an unknown world or parameter, or MuJoCo is not installed.
    """
    if unknown := sorted(set(parameters) - set(parameter_ranges(name))):
        raise ValueError(f"the world {name!r} has no {', '.join(unknown)}; it has: {', '.join(parameter_ranges(name))}")
    try:
        if name == "skin":
            from cerebella.touch.skin_world import SkinWorld

            return SkinWorld(**parameters)  # pyright: ignore[reportArgumentType]  # `held` is not among them
        from cerebella.touch.sphere_world import SphereWorld

        return SphereWorld(**parameters)
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise
        raise ValueError(f"the world {name!r} needs MuJoCo: pip install 'cerebella[sim]'") from error
