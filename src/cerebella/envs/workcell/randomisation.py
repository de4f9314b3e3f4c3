"""Domain randomisation: how light, colours, camera, friction and delay vary from episode to episode.

Ranges are data; what an episode got is written into the arrays of the compiled model, which every reset restores first.
"""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from cerebella.geometry import so3_exp

_NUM_DRAWS = 64
_SURFACES = ("table", "floor", "wall")


@dataclass(frozen=True)
class Randomisation:
    """Half-widths of uniform ranges; 0 leaves a thing as it is.

    Args:
        light: of the brightness of each light, as a share. light_direction_rad: about each axis.
        surface_colour: of each channel of table, floor and wall, 0..1 of full scale.
        camera_position_m, camera_rotation_rad: of every camera, along and about each of its own axes. Those at the wrists,
            which are mounted more firmly, shift by a quarter of it.
        friction: of the sliding friction of every geom, all by one factor, as a share.
        max_delay_ticks: a command takes 0 to so many ticks to arrive, constant within an episode.

    Raises:
        ValueError: a negative number, or a share that could switch a thing off (1 or more).
    """

    light: float = 0.0
    light_direction_rad: float = 0.0
    surface_colour: float = 0.0
    camera_position_m: float = 0.0
    camera_rotation_rad: float = 0.0
    friction: float = 0.0
    max_delay_ticks: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"Randomisation.{name} must be 0 or more; got {value}")
        for name in ("light", "surface_colour", "friction"):
            if getattr(self, name) >= 1.0:
                raise ValueError(f"Randomisation.{name} is a share below 1; got {getattr(self, name)}")

    def apply(self, model: mujoco.MjModel, rng: np.random.Generator) -> int:
        """Draw an episode and write it into the model; the draws are as many whatever the ranges are.

        Returns:
            The episode's delay of commands, ticks.
        """
        draws = _Draws(rng)
        for light in range(2):
            model.light_diffuse[light] *= 1.0 + self.light * draws.take(1)
            turn = so3_exp(self.light_direction_rad * draws.take(3))
            model.light_dir[light] = turn @ model.light_dir[light]
        for name in _SURFACES:
            rgba = model.geom(name).rgba
            rgba[:3] = np.clip(rgba[:3] + self.surface_colour * draws.take(3), 0.0, 1.0)
        for name, share in (("base", 1.0), ("left_wrist", 0.25), ("right_wrist", 0.25)):
            camera = model.camera(name)
            rotation = np.zeros(9)
            mujoco.mju_quat2Mat(rotation, camera.quat)
            axes = rotation.reshape(3, 3)
            camera.pos[:] += axes @ (share * self.camera_position_m * draws.take(3))
            turned = axes @ so3_exp(self.camera_rotation_rad * draws.take(3))
            mujoco.mju_mat2Quat(camera.quat, np.ascontiguousarray(turned).ravel())
        model.geom_friction[:, 0] *= 1.0 + self.friction * draws.take(1)
        return int((draws.take(1)[0] + 1.0) / 2.0 * (self.max_delay_ticks + 1))


NONE = Randomisation()
RANDOMISATIONS: Mapping[str, Randomisation] = {
    "none": NONE,
    "mild": Randomisation(
        light=0.2,
        light_direction_rad=0.2,
        surface_colour=0.08,
        camera_position_m=0.005,
        camera_rotation_rad=0.01,
        friction=0.1,
    ),
    "wide": Randomisation(
        light=0.5,
        light_direction_rad=0.5,
        surface_colour=0.15,
        camera_position_m=0.02,
        camera_rotation_rad=0.04,
        friction=0.25,
        max_delay_ticks=2,
    ),
}
"""Presets by name."""


class _Draws:
    """A fixed number of uniform numbers in [-1, 1), handed out in order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._values = rng.uniform(-1.0, 1.0, _NUM_DRAWS)
        self._num_used = 0

    def take(self, count: int) -> np.ndarray:
        self._num_used += count
        assert self._num_used <= _NUM_DRAWS
        return self._values[self._num_used - count : self._num_used]
