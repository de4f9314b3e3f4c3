"""A chunk as it is played: rows in order, a forecast that comes true, and the mean of several chunks."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebella.geometry import so3_exp, so3_log
from cerebella.runtime.motion import MotionLimiter
from cerebella.runtime.plan import Plan, advance, blend, forecast, make_plan
from cerebella.runtime.rates import Rates
from cerebella.runtime.trace import RequestRecord
from cerebella.types import ActionChunk, FloatArray

from .mixed_robot import GRIPPER, ROTATION, Watch, make_robot

SEEDS = st.integers(0, 2**40)
RATES_HZ = (30.0, 100.0, 500.0, 443.21)


def draw_rows(seed: int, num_rows: int = 16, roughness: float = 0.0) -> FloatArray:
    rng = np.random.default_rng(seed)
    speed = np.cumsum(rng.normal(size=(num_rows, 9)) * 0.003, axis=0)
    rows = rng.uniform(-0.2, 0.2, 9) + np.cumsum(speed, axis=0) + roughness * rng.normal(size=(num_rows, 9))
    rows[:, GRIPPER] = rng.integers(0, 2, num_rows)
    return rows.astype(np.float32)


def plan_of(
    rows: FloatArray,
    control_hz: float,
    position: float = 0.0,
    consumed: float = 0.0,
    stop_row: float = math.inf,
    before: Plan | None = None,
) -> Plan:
    record = RequestRecord(0, 0, 0.0, rows[:0], 0)
    chunk = ActionChunk(rows, 0, 0, 0, "plan", 0.01)
    return make_plan(record, chunk, rows, position, consumed, stop_row, make_robot(control_hz), before)


def play(plan: Plan, limiter: MotionLimiter, first: int, most: int = 10_000) -> tuple[list[float], list[FloatArray]]:
    """Rows and commands from a control tick on until the plan is over, as an executor plays them."""
    rates = Rates(30.0, limiter.embodiment.control_hz)
    rows, commands = [], []
    for k in range(first, first + most):
        if plan.is_over:
            break
        if (played := advance(plan, sum(rates.locate(k)))) is None:
            break
        row, target, following = played
        rows.append(row)
        commands.append(limiter.follow(target, following))
    return rows, commands


def test_a_plan_of_ordinary_rows_is_played_row_by_row() -> None:
    rows = np.zeros((5, 9), dtype=np.float32)
    plan = plan_of(rows, 30.0, position=7.0, consumed=1.0)
    assert plan.start == 6.0
    assert plan.row_at(7.0) == 1.0
    assert plan.num_left(7.0) == 4.0
    played, _ = play(plan, MotionLimiter(make_robot(30.0), 30.0), 7)
    assert played == [1.0, 2.0, 3.0, 4.0]
    assert (plan.is_over, plan.end, plan.num_played, plan.num_left(20.0)) == (True, 5.0, 4, 0.0)
    assert plan.row_at(1e6) == 5.0


def test_rows_outside_the_range_are_kept_as_raw_and_played_inside() -> None:
    rows = np.full((3, 9), 100.0, dtype=np.float32)
    plan = plan_of(rows, 30.0)
    assert plan.raw is rows
    assert plan.rows.max() == 100.0, "three numbers of one rotation have no range one by one"
    assert plan.rows[0, 0] == 1.5


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(RATES_HZ), st.sampled_from([0.0, 0.2]), st.sampled_from([math.inf, 3.0, 8.0, 8.4, 15.9]))
def test_e11_rows_only_grow_whatever_ends_the_plan(
    seed: int, control_hz: float, roughness: float, stop_row: float
) -> None:
    """Also where a plan is left early (mode `sync`) while it is already being slowed down."""
    rows = draw_rows(seed, roughness=roughness)
    plan = plan_of(rows, control_hz, position=2.0, consumed=(seed % 7) / 3, stop_row=stop_row)
    limiter = MotionLimiter(make_robot(control_hz), control_hz)
    limiter.reset(rows[0])
    watch, step = Watch(limiter), 30.0 / control_hz
    rates, first, played = Rates(30.0, control_hz), math.ceil(2.0 / step - 1e-9), []
    for k in range(first, first + 5000):
        if plan.is_over:
            break
        if (step_taken := advance(plan, sum(rates.locate(k)))) is None:
            break
        row, target, following = step_taken
        played.append(row)
        watch.judge(limiter.follow(target, following))
    assert plan.is_over
    assert plan.num_played == len(played)
    assert min(np.diff(played), default=0.0) >= -1e-9
    assert max(np.diff(played), default=0.0) <= step + 1e-9
    assert played[-1] < len(rows)
    assert (plan.end or 0.0) >= played[-1]
    watch.stop(watch.stop_ticks())


def test_e11_a_plan_that_is_slowed_down_and_then_left_does_not_go_back() -> None:
    """Near the end of the plan, so that it is slowed, and near the row at which it is left."""
    rows = (np.asarray([0.0, 0.06, 0.12, 0.18])[:, None] * np.ones(9)).astype(np.float32)
    for stop_row in np.linspace(1.0, 4.0, 61):
        plan = plan_of(rows, 30.0, stop_row=stop_row)
        played, _ = play(plan, MotionLimiter(make_robot(30.0), 30.0), 0)
        assert all(b > a for a, b in pairwise(played)), stop_row


def test_a_plan_is_left_before_its_stop_row_where_the_limits_allow() -> None:
    rows = np.random.default_rng(1).normal(size=(8, 9)).astype(np.float32)
    plan = plan_of(rows, 30.0, stop_row=5.0)
    plan.progress._limits = plan_of(np.zeros((8, 9), np.float32), 30.0).progress._limits  # pyright: ignore[reportPrivateUsage]
    played, _ = play(plan, MotionLimiter(make_robot(30.0), 30.0), 0)
    assert played == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert plan.end == 5.0


def test_a_plan_of_one_row_is_over_after_it() -> None:
    plan = plan_of(draw_rows(0, 1), 100.0)
    played = advance(plan, 0.0)
    assert played is not None
    row, target, following = played
    assert row == 0.0
    assert target.tobytes() == following.tobytes()
    assert plan.is_over


# Forecasts


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(RATES_HZ), st.sampled_from([0.0, 0.02, 0.5]), st.integers(0, 120), st.integers(0, 20))
def test_a_forecast_comes_true_and_changes_nothing(
    seed: int, control_hz: float, roughness: float, num_before: int, num_rows: int
) -> None:
    rows = draw_rows(seed, roughness=roughness)
    rates, plan = Rates(30.0, control_hz), plan_of(rows, control_hz)
    limiter = MotionLimiter(make_robot(control_hz), control_hz)
    limiter.reset(rows[0] + np.float32(0.05 if seed % 2 else 0.0))
    play(plan, limiter, 0, num_before)
    if plan.is_over:
        return
    position = sum(rates.locate(num_before))
    before = (limiter.state, limiter.is_on_reference, plan.start, plan.end, plan.num_played, vars(plan.progress).copy())
    commands, promised = forecast(plan, limiter, position, num_rows)
    assert (commands, promised.tobytes()) != ([], b"") or num_rows == 0
    after = (limiter.state, limiter.is_on_reference, plan.start, plan.end, plan.num_played, vars(plan.progress).copy())
    assert before == after
    assert promised.dtype == np.float32
    assert len(promised) <= num_rows

    sent: list[FloatArray] = []
    for k, wanted in enumerate(commands):  # as an executor plays what it has promised
        advance(plan, sum(rates.locate(num_before + k)))
        following = commands[k + 1] if k + 1 < len(commands) else wanted
        sent.append(limiter.follow(wanted, following, is_committed=True))
        assert limiter.is_on_reference
        assert sent[-1].tobytes() == wanted.astype(np.float32).tobytes()
    first_tick = math.floor(position)
    for k, values in enumerate(sent):
        tick, phase = rates.locate(num_before + k)
        if phase == 0.0 and tick - first_tick < len(promised):
            assert promised[tick - first_tick].tobytes() == values.tobytes()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from(RATES_HZ), st.sampled_from([0.0, 0.02, 0.5]), st.integers(0, 60))
def test_a_forecast_is_what_is_sent_without_a_promise_too(
    seed: int, control_hz: float, roughness: float, num_before: int
) -> None:
    rows = draw_rows(seed, roughness=roughness)
    rates, plan = Rates(30.0, control_hz), plan_of(rows, control_hz)
    limiter = MotionLimiter(make_robot(control_hz), control_hz)
    limiter.reset(rows[0])
    play(plan, limiter, 0, num_before)
    if plan.is_over:
        return
    commands, _ = forecast(plan, limiter, sum(rates.locate(num_before)), 12)
    _, sent = play(plan, limiter, num_before, len(commands))
    assert len(sent) == len(commands)
    np.testing.assert_allclose(sent, commands, rtol=0, atol=2e-7)


@pytest.mark.parametrize("control_hz", RATES_HZ)
def test_a_forecast_has_a_row_for_every_tick_until_the_plan_ends(control_hz: float) -> None:
    rows = np.zeros((10, 9), dtype=np.float32)
    limiter = MotionLimiter(make_robot(control_hz), control_hz)
    limiter.reset(np.zeros(9))
    for num_rows, expected in ((0, 0), (1, 1), (4, 4), (10, 10), (50, 10)):
        plan = plan_of(rows, control_hz)
        commands, promised = forecast(plan, limiter, 0.0, num_rows)
        assert len(promised) == expected, num_rows
        assert len(commands) <= expected * control_hz / 30.0 + 1


def test_a_row_between_two_commands_lies_on_the_path() -> None:
    """At 443.21 Hz no command meets tick 3; the row promised for it is the plan's own."""
    control_hz = 443.21
    robot = make_robot(control_hz, lambda kind: (-6.0, 6.0, 1e6, 1e9, 1e12))
    rows = draw_rows(3)
    plan, limiter = plan_of(rows, control_hz), MotionLimiter(robot, control_hz)
    limiter.reset(rows[0])
    _, promised = forecast(plan, limiter, 0.0, 8)
    np.testing.assert_allclose(promised[:, :GRIPPER], rows[:8, :GRIPPER], atol=1e-6)


# The mean of several chunks


def test_blending_weighs_what_chunks_say_about_the_same_tick() -> None:
    robot = make_robot(30.0)
    old, new = np.zeros((6, 9), dtype=np.float32), np.ones((6, 9), dtype=np.float32)
    old[:, :3] = np.arange(6)[:, None] * 0.1
    new[:, ROTATION] = 0.0
    blended = blend([(0.0, old, 1.0), (2.0, new, 3.0)], 3.0, 5, robot)
    assert blended.dtype == np.float32
    np.testing.assert_allclose(blended[:3, 0], [(0.3 + 3) / 4, (0.4 + 3) / 4, (0.5 + 3) / 4], rtol=1e-6)
    np.testing.assert_array_equal(blended[3:, 0], [1.0, 1.0])
    np.testing.assert_array_equal(blended[:, GRIPPER], np.ones(5))


def test_one_chunk_blends_to_itself() -> None:
    robot, rows = make_robot(30.0), draw_rows(5)
    np.testing.assert_allclose(blend([(4.0, rows, 0.3)], 4.0, 16, robot), rows, atol=1e-7)
    np.testing.assert_allclose(blend([(4.0, rows, 0.3)], 6.0, 14, robot), rows[2:], atol=1e-7)
    beyond = blend([(4.0, rows, 0.3)], 10.0, 16, robot)
    np.testing.assert_allclose(beyond[10:], np.repeat(rows[-1:], 6, axis=0), atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.floats(0.1, 10.0))
def test_rotations_are_averaged_on_the_sphere(seed: int, weight: float) -> None:
    """Two chunks: the mean lies on the way from the newer to the older, at the share of the older's weight."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((2, 1, 9), dtype=np.float32)
    first = so3_exp(rng.normal(size=3) * 2)
    step = rng.normal(size=3)
    step *= rng.uniform(0, 3.0) / np.linalg.norm(step)
    rows[1, 0, ROTATION] = so3_log(first)
    rows[0, 0, ROTATION] = so3_log(first @ so3_exp(step))
    (blended,) = blend([(0.0, rows[0], weight), (0.0, rows[1], 1.0)], 0.0, 1, make_robot(30.0))
    wanted = first @ so3_exp(step * weight / (1 + weight))
    np.testing.assert_allclose(so3_exp(blended[ROTATION]), wanted, atol=2e-6)
    away = np.linalg.norm(blended[ROTATION] - rows[1, 0, ROTATION])
    turn = 2 * math.pi * blended[ROTATION] / max(np.linalg.norm(blended[ROTATION]), 1e-9)
    assert away <= np.linalg.norm(blended[ROTATION] - turn - rows[1, 0, ROTATION]) + 1e-5


def test_two_rotations_beside_half_a_turn_do_not_average_to_none() -> None:
    rows = np.zeros((2, 1, 9), dtype=np.float32)
    rows[0, 0, 5], rows[1, 0, 5] = 3.1, -3.1
    (blended,) = blend([(0.0, rows[0], 1.0), (0.0, rows[1], 1.0)], 0.0, 1, make_robot(30.0))
    assert abs(blended[5]) == pytest.approx(math.pi, abs=1e-6)
