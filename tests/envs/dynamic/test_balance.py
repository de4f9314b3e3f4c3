from dataclasses import replace

import numpy as np
import pytest

from cerebella.envs.dynamic.balance import BALANCED, FELL, OFF_THE_RAIL, Balance
from cerebella.envs.dynamic.balance_expert import CALM, QUICK, regulator
from cerebella.envs.dynamic.balance_physics import (
    GRAVITY,
    MAX_KICK,
    MIN_HIT,
    MIN_KICK,
    MIN_KICKS,
    NUM_KICKS,
    POLE_LENGTH_M,
    RAIL_Y_M,
    BalanceState,
    swing,
)
from cerebella.envs.dynamic.planar import TICK_S

from .stale_plans import share_solved

TASK = Balance()


def scene(angle: float = 0.0, rate: float = 0.0, cart_x: float = 0.24, cart_velocity: float = 0.0) -> BalanceState:
    """One scene without a perturbation and without kicks."""
    state = TASK.reset([3], False)
    return replace(
        state,
        gripper=np.array([[cart_x, RAIL_Y_M]], dtype=np.float32),
        cart_velocity=np.array([cart_velocity], dtype=np.float32),
        angle=np.array([angle], dtype=np.float32),
        rate=np.array([rate], dtype=np.float32),
        kick=np.zeros((1, NUM_KICKS), dtype=np.float32),
    )


def hold(state: BalanceState) -> BalanceState:
    return TASK.step(state, state.gripper[:, :1].copy())


def under_the_expert(state: BalanceState, style: np.ndarray, with_events: bool = True) -> BalanceState:
    for _ in range(TASK.max_ticks):
        state = TASK.step(state, TASK.expert_command(state, style), with_events)
    return state


@pytest.mark.parametrize(("angle", "rate", "velocity"), [(0.1, 0.0, 0.0), (-0.3, 0.8, 0.2), (0.5, -1.0, -0.5)])
def test_the_swing_solves_the_equation_of_the_pole(angle: float, rate: float, velocity: float) -> None:
    state = scene(angle, rate, cart_velocity=0.1)
    got_angle, got_rate = swing(state, np.array([velocity], dtype=np.float32))
    theta, omega, num_steps = angle, rate - (velocity - 0.1) / POLE_LENGTH_M * np.cos(angle), 20_000
    for _ in range(num_steps):
        omega += TICK_S / num_steps * GRAVITY / POLE_LENGTH_M * np.sin(theta)
        theta += TICK_S / num_steps * omega
    assert got_angle[0] == pytest.approx(theta, abs=2e-5)
    assert got_rate[0] == pytest.approx(omega, abs=2e-4)


def test_a_pole_that_nobody_holds_falls_as_slowly_as_its_length_says() -> None:
    state = scene(angle=0.01)
    for _ in range(20):
        state = hold(state)
    growth = np.sqrt(GRAVITY / POLE_LENGTH_M) * 20 * TICK_S
    assert state.angle[0] == pytest.approx(0.01 * np.cosh(growth), rel=0.01)


def test_the_cart_takes_the_pole_the_other_way_and_stays_on_its_line() -> None:
    state = TASK.step(scene(), np.array([[0.27]], dtype=np.float32))
    assert state.cart_velocity[0] > 0.3
    assert state.gripper[0, 0] == pytest.approx(0.24 + state.cart_velocity[0] * TICK_S, abs=1e-6)
    assert state.rate[0] == pytest.approx(-state.cart_velocity[0] / POLE_LENGTH_M, rel=0.01)
    assert state.gripper[0, 1] == np.float32(RAIL_Y_M)


def test_three_to_five_kicks_come_when_they_were_drawn() -> None:
    state = TASK.reset(range(200), False)
    size = np.abs(state.kick)
    assert set((size > 0).sum(axis=1)) == set(range(MIN_KICKS, NUM_KICKS + 1))
    assert size[size > 0].min() >= MIN_KICK - 1e-6
    assert size.max() <= MAX_KICK + 1e-6
    assert state.kick_tick.max() < TASK.max_ticks
    for _ in range(TASK.max_ticks):
        kicked, calm = hold(state), TASK.step(state, state.gripper[:, :1].copy(), with_events=False)
        due = (state.kick * (state.kick_tick == kicked.tick[:, None])).sum(axis=1)
        is_free = np.abs(kicked.angle) < 1.0
        np.testing.assert_allclose((kicked.rate - calm.rate)[is_free], due[is_free], atol=1e-6)
        state = kicked
    assert TASK.metrics(state)["num_kicks"].min() == MIN_KICKS


def test_the_perturbation_is_the_largest_kick() -> None:
    state = TASK.reset(range(50), True)
    assert np.abs(state.hit).min() >= MIN_HIT > MAX_KICK
    assert {-1.0, 1.0} == set(np.sign(state.hit))
    one = state.take(slice(0, 1))
    for _ in range(int(one.perturbation_tick[0]) - 1):
        one = hold(one)
    without, one = TASK.step(one, one.gripper[:, :1].copy(), with_events=False), hold(one)
    others = (one.kick * (one.kick_tick == one.tick[:, None])).sum()
    assert one.rate[0] - without.rate[0] == pytest.approx(float(one.hit[0] + others), abs=1e-6)


def test_holding_still_lets_it_fall() -> None:
    state = TASK.reset(range(50), False)
    for _ in range(TASK.max_ticks):
        state = hold(state)
    assert (state.outcome == FELL).all()
    assert np.abs(state.angle).max() < 1.3


def test_the_rail_ends() -> None:
    state = scene(cart_x=0.44)
    for _ in range(3):
        state = TASK.step(state, np.array([[0.48]], dtype=np.float32))
    assert state.outcome[0] == OFF_THE_RAIL


def test_the_regulator_is_stable_and_stands_still() -> None:
    growth = np.sqrt(GRAVITY / POLE_LENGTH_M)
    cosh, sinh = np.cosh(growth * TICK_S), np.sinh(growth * TICK_S)
    for share in (0.0, 0.25, 0.5, 1.0):
        gains = CALM + share * (QUICK - CALM)
        columns = []
        for x, v, angle, rate in np.eye(4):
            change = -gains @ [x, v, angle, rate]
            after = rate - change / POLE_LENGTH_M
            fallen = [cosh * angle + sinh / growth * after, growth * sinh * angle + cosh * after]
            columns.append([x + (v + change) * TICK_S, v + change, *fallen])
        assert np.abs(np.linalg.eigvals(np.array(columns))).max() < 0.995
    np.testing.assert_allclose(regulator(0.05, 0.1), CALM)
    assert np.abs(QUICK[0]) > np.abs(CALM[0])


def test_the_expert_holds_out_to_the_end() -> None:
    state = TASK.reset(range(200), True)
    style = TASK.random_style(200, np.random.default_rng(0))
    for _ in range(TASK.max_ticks - 1):
        state = TASK.step(state, TASK.expert_command(state, style))
        assert (state.outcome != BALANCED).all()
    state = TASK.step(state, TASK.expert_command(state, style))
    assert (state.outcome == BALANCED).mean() >= 0.95


def test_the_expert_brings_the_cart_to_the_mark() -> None:
    state = TASK.reset(range(200), False)
    far = TASK.metrics(state)["spot_distance_m"].mean()
    near = TASK.metrics(under_the_expert(state, TASK.steady_style(200), with_events=False))["spot_distance_m"]
    assert far > 0.04
    assert near.mean() < 0.012


def test_demonstrators_stand_on_either_side_of_the_mark() -> None:
    state = scene().take(np.zeros(2, dtype=np.int32))
    style = np.array([[1.0, 0.03], [1.0, -0.03]], dtype=np.float32)
    end = under_the_expert(state, style)
    assert end.gripper[0, 0] - end.gripper[1, 0] > 0.04


def test_commands_keep_their_speed_limit_after_a_kick() -> None:
    state = TASK.reset(range(200), True)
    style = TASK.steady_style(200)
    commands = []
    for _ in range(60):
        commands.append(TASK.expert_command(state, style)[:, 0])
        state = TASK.step(state, commands[-1][:, None])
    assert np.abs(np.diff(commands, axis=0)).max() / TICK_S <= 0.9 + 1e-3


@pytest.mark.parametrize("perturbation", [False, True])
def test_stale_plans_lose_the_pole(perturbation: bool) -> None:
    assert share_solved(TASK, 0, perturbation) >= 0.85
    assert share_solved(TASK, 8, perturbation) <= 0.6
