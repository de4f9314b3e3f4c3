"""The expert of `balance`: linear-quadratic regulation of cart and pole about the place where the demonstrator stands.

The state (x - place, v, theta, omega) takes dv, the change of the cart's velocity, as its input; linearised about the
upright pole, one tick is exact. The previous command follows from the cart's velocity, so that commands which keep their
own speed limit are still a law of the state alone.
"""

import numpy as np
from numpy.typing import NDArray

from cerebella.envs.dynamic.balance_physics import GRAVITY, POLE_LENGTH_M, BalanceState
from cerebella.envs.dynamic.planar import LENGTH_M, MAX_SPEED, SERVO_GAIN, TICK_S
from cerebella.types import FloatArray

MAX_OFFSET_M = 0.03
"""How far beside the mark a demonstrator may like to stand."""

_MAX_COMMAND_SPEED = 0.9
_CART_SPEED = 0.95 * MAX_SPEED
_NUM_ITERATIONS = 1000


def regulator(place_weight: float, effort_weight: float) -> NDArray[np.float64]:
    """Gains K of the law dv = -K s, float64[4], by iterating the Riccati equation.

    Args:
        place_weight: cost of 1 m beside the place. effort_weight: cost of 1 m/s change of velocity per tick; an angle of
            1 rad costs 1.
    """
    growth = np.sqrt(GRAVITY / POLE_LENGTH_M)
    cosh, sinh = np.cosh(growth * TICK_S), np.sinh(growth * TICK_S)
    fall = np.array([[cosh, sinh / growth], [growth * sinh, cosh]])
    a = np.eye(4)
    a[0, 1] = TICK_S
    a[2:, 2:] = fall
    b = np.array([TICK_S, 1.0, *(-fall[:, 1] / POLE_LENGTH_M)])[:, None]
    state_cost, effort_cost = np.diag([place_weight, 0.0, 1.0, 0.0]), np.array([[effort_weight]])
    cost, gains = state_cost, np.zeros((1, 4))
    for _ in range(_NUM_ITERATIONS):
        gains = np.linalg.solve(effort_cost + b.T @ cost @ b, b.T @ cost @ a)
        cost = state_cost + a.T @ cost @ (a - b @ gains)
    return gains[0]


CALM, QUICK = regulator(0.05, 0.1), regulator(0.5, 0.04)
"""The gains between which demonstrators choose."""


def steady_style(num_scenes: int) -> FloatArray:
    """Half way between calm and quick, on the mark: float32[N, 2], share of quick (0..1) and offset from the mark (m)."""
    return np.tile(np.array([0.5, 0.0], dtype=np.float32), (num_scenes, 1))


def random_style(num_scenes: int, generator: np.random.Generator) -> FloatArray:
    """From calm to quick, a little to the left or right of the mark with equal chance."""
    share = generator.uniform(0.0, 1.0, num_scenes)
    offset_m = MAX_OFFSET_M * generator.uniform(0.5, 1.0, num_scenes) * generator.choice([-1.0, 1.0], num_scenes)
    return np.column_stack([share, offset_m]).astype(np.float32)


def command(state: BalanceState, style: FloatArray) -> FloatArray:
    """float32[N, 1] metres: the target that makes the servo take the regulator's velocity."""
    cart_x, velocity = state.gripper[:, 0], state.cart_velocity
    gains = CALM + style[:, :1] * (QUICK - CALM)
    error = np.column_stack([cart_x - state.spot_x - style[:, 1], velocity, state.angle, state.rate])
    wanted = np.clip(velocity - (gains * error).sum(axis=1), -_CART_SPEED, _CART_SPEED)
    previous = cart_x + velocity * TICK_S * (1.0 / SERVO_GAIN - 1.0)
    farthest = _MAX_COMMAND_SPEED * TICK_S
    aim = np.clip(cart_x + wanted * TICK_S / SERVO_GAIN, previous - farthest, previous + farthest)
    return np.clip(aim, 0.0, LENGTH_M).astype(np.float32)[:, None]
