"""Commands that miss, so that a demonstration also shows how to come back.

A policy that has only seen clean demonstrations does not know what to do beside them, where its own errors bring it. So the
arms are sent something else than what the expert asks for, while what the expert asks for is what a policy learns (DART:
Laskey et al., 2017, arXiv 1703.09327). The pictures and states are then those beside the path, and the commands lead back.
"""

from collections.abc import Sequence

import numpy as np

from cerebella.envs.workcell.cell import CONTROL_HZ
from cerebella.envs.workcell.task import ArmTarget, SceneObject
from cerebella.geometry import Array, so3_exp, transform

CORRELATION_S = 0.5
RAD_PER_M = 5.0
"""Rotation that comes with an error in position: 0.05 rad with 10 mm."""
NEAR_M, FREE_M = 0.02, 0.06
"""From the tool's origin to the nearest thing: no error up to the first, the whole of it from the second on."""


class Disturbance:
    """The errors of both arms' commands in one episode.

    On each axis of each arm an Ornstein-Uhlenbeck process goes through a low pass of the same time constant: errors drift for
    about `CORRELATION_S` and have no jumps (at 10 mm, about 1.3 mm per tick). The first one is zero.

    Args:
        position_m: standard deviation of the position on each axis of the world, metres, above 0; that of the rotation, also
            on each axis, is `RAD_PER_M` as much.
        rng: draws the errors.

    Raises:
        ValueError: `position_m` is not above 0.
    """

    def __init__(self, position_m: float, rng: np.random.Generator) -> None:
        """See the class."""
        if not 0 < position_m < float("inf"):
            raise ValueError(f"position_m must be above 0 m; got {position_m}")
        self._rng = rng
        self._kept = float(np.exp(-2.0 / (CORRELATION_S * CONTROL_HZ)))
        self._drawn, self._passed = np.zeros((2, 6)), np.zeros((2, 6))
        spread = np.repeat([position_m, RAD_PER_M * position_m], 3)
        self._scale = spread * (1.0 + self._kept) / np.sqrt(1.0 + self._kept**2)  # what the low pass takes away

    def missed(self, targets: Sequence[ArmTarget], things: Sequence[SceneObject]) -> list[ArmTarget]:
        """What to send for the next tick instead of `targets` (left, right). Openings are kept.

        Where precision is all, nothing is missed: near a thing of the scene or the table (`NEAR_M`, `FREE_M`), and so as long as
        a gripper holds something.
        """
        innovation = np.sqrt(1.0 - self._kept**2) * self._rng.standard_normal((2, 6))
        errors = self._passed * self._scale
        self._drawn = self._kept * self._drawn + innovation
        self._passed = self._kept * self._passed + (1.0 - self._kept) * self._drawn
        return [
            _off(target, free_share(_origin(target), things) * e) for target, e in zip(targets, errors, strict=True)
        ]


def free_share(position_m: Array, things: Sequence[SceneObject]) -> float:
    """0 where a tool is near the table or a thing's box, 1 where it is free, linear in between."""
    gaps_m = [np.linalg.norm(np.maximum(np.abs(position_m - t.position_m) - t.size_m / 2, 0.0)) for t in things]
    return float(np.clip((min([position_m[2], *gaps_m]) - NEAR_M) / (FREE_M - NEAR_M), 0.0, 1.0))


def _off(target: ArmTarget, error: Array) -> ArmTarget:
    """By metres and radians along the world's axes, float64[6]; the rotation is about the tool's origin."""
    rotation = so3_exp(error[3:]) @ target.T_world_tool[:3, :3]
    return ArmTarget(transform(rotation, _origin(target) + error[:3]), target.opening)


def _origin(target: ArmTarget) -> Array:
    return target.T_world_tool[:3, 3]
