"""The elastic skin: how the force of a rigid contact spreads over the taxels.

The skin of a fingertip moves by one common shift s towards the object until the springs under the taxels carry the contact
force F: `sum_j k max(0, s - d_j) = F`, with d_j the distance of taxel j to the object before. The sum is right by
construction, the footprint grows with the load. A Winkler foundation: no shear between neighbours.

Where an object has an edge, the distance of the unmoved skin misleads: it also shrinks beside the edge, although the skin will
never meet the object there. So `press_in` moves the skin as a whole by the shift found first, and measures once more.
"""

from collections.abc import Callable

import numpy as np

from cerebella.geometry import Array

STIFFNESS_N_PER_M = 600.0
"""Of the skin under one taxel."""


def distribute(distance_m: Array, force_n: Array, stiffness_n_per_m: float = STIFFNESS_N_PER_M) -> Array:
    """The force on every taxel of some arrays, newtons.

    Solved exactly, by sorting the distances: with the m nearest taxels in contact, `s = (F / k + d_1 + .. + d_m) / m`, and m
    is the largest number for which s is beyond d_m.

    Args:
        distance_m: float64[..., rows, columns], of the unmoved skin to the object; infinite where there is no skin.
        force_n: float64[...], the normal contact force of each array, >= 0.
        stiffness_n_per_m: of one taxel.

    Returns:
        float64[..., rows, columns]; its sum over rows and columns is `force_n`. The force goes to the nearest taxels,
        however far away the object is.

    Raises:
        ValueError: a negative force, a stiffness that is not positive.
    """
    if not stiffness_n_per_m > 0.0:
        raise ValueError(f"the stiffness of a taxel must be positive, N/m; got {stiffness_n_per_m}")
    if not (np.asarray(force_n) >= 0.0).all():
        raise ValueError(f"contact forces must be >= 0 N; got {force_n}")
    flat = distance_m.reshape(*distance_m.shape[:-2], -1)
    nearest = np.sort(flat, axis=-1)
    num_pressed = np.arange(1, flat.shape[-1] + 1)
    shifts = (np.asarray(force_n)[..., None] / stiffness_n_per_m + np.cumsum(nearest, axis=-1)) / num_pressed
    last = np.maximum(
        ((shifts >= nearest) & np.isfinite(nearest)).sum(axis=-1) - 1, 0
    )  # holds for 1..m, and for no more
    shift = np.take_along_axis(shifts, last[..., None], axis=-1)
    return (stiffness_n_per_m * np.maximum(shift - flat, 0.0)).reshape(distance_m.shape)


def press_in(
    distance_at: Callable[[Array], Array], force_n: Array, stiffness_n_per_m: float = STIFFNESS_N_PER_M
) -> Array:
    """The force on every taxel of arrays whose skin moves along the direction of the pad, newtons.

    Args:
        distance_at: distances as for `distribute`, when the skin of array i has moved by `shift_m[i]`: float64[arrays] metres
            -> float64[arrays, rows, columns].
        force_n, stiffness_n_per_m: as for `distribute`.

    Returns:
        float64[arrays, rows, columns]; its sum over rows and columns is `force_n`.
    """
    unmoved = distance_at(np.zeros_like(force_n))
    forces = distribute(unmoved, force_n, stiffness_n_per_m)
    pressed = forces > 0.0
    shift_m = np.where(pressed, unmoved + forces / stiffness_n_per_m, 0.0).max(axis=(-2, -1))
    return distribute(distance_at(shift_m), force_n, stiffness_n_per_m)
