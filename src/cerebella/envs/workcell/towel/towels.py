"""The six towels, and how the one of an episode is drawn."""

import numpy as np

from cerebella.envs.workcell.towel.cloth import Towel

TOWELS: tuple[Towel, ...] = (
    Towel("red", (0.78, 0.13, 0.12), 0.24, 0.24, 0.050, 2e-5),
    Towel("blue", (0.14, 0.30, 0.72), 0.22, 0.26, 0.042, 1e-5),
    Towel("green", (0.15, 0.55, 0.25), 0.20, 0.20, 0.036, 3e-5),
    Towel("yellow", (0.90, 0.75, 0.15), 0.24, 0.28, 0.060, 3e-5),
    Towel("white", (0.93, 0.93, 0.92), 0.22, 0.22, 0.030, 6e-6),
    Towel("orange", (0.90, 0.45, 0.10), 0.20, 0.26, 0.048, 4e-5),
)
"""0.6 to 0.95 kg/m^2."""


def draw_towel(rng: np.random.Generator) -> Towel:
    """One of the six, a little softer or stiffer, smoother or rougher, lighter or darker than on average."""
    chosen = TOWELS[int(rng.integers(len(TOWELS)))]
    stiffer, rougher, brighter = np.exp(rng.uniform(-1.0, 1.0, 3) * [0.3, 0.2, 0.08])
    return Towel(
        colour=chosen.colour,
        rgb=(_shade(chosen.rgb[0], brighter), _shade(chosen.rgb[1], brighter), _shade(chosen.rgb[2], brighter)),
        length_m=chosen.length_m,
        width_m=chosen.width_m,
        mass_kg=chosen.mass_kg,
        rigidity_nm=chosen.rigidity_nm * float(stiffer),
        friction=chosen.friction * float(rougher),
    )


def _shade(channel: float, factor: float) -> float:
    return float(min(1.0, channel * factor))
