import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebella.runtime import chunks
from cerebella.types import ActionChunk, FloatArray


def make_chunk(horizon: int = 6, start_tick: int = 10, prefix_length: int = 0) -> ActionChunk:
    actions = np.arange(horizon * 2, dtype=np.float32).reshape(horizon, 2)
    return ActionChunk(actions, start_tick, start_tick, prefix_length, "policy", 0.0)


def object_to(chunk: ActionChunk, prefix: FloatArray, policy_id: str = "policy", tick: int = 10) -> str:
    low, high = np.array([[-1.0, -2.0], [1.0, 2.0]], dtype=np.float32)
    return chunks.objection(
        chunk,
        observation_tick=tick,
        action_prefix=prefix,
        horizon=6,
        policy_id=policy_id,
        low=low,
        high=high,
        max_outside=1e9,
    )


@given(st.integers(0, 20), st.integers(-2, 20), st.integers(1, 20))
def test_check_horizons_accepts_exactly_the_feasible_ones(delay: int, execute_horizon: int, horizon: int) -> None:
    if delay <= execute_horizon <= horizon - delay and execute_horizon >= 1:
        chunks.check_horizons(delay, execute_horizon, horizon)
    else:
        with pytest.raises(ValueError, match="execute_horizon"):
            chunks.check_horizons(delay, execute_horizon, horizon)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((5, 4, 20), "Raise execute_horizon to 5"),
        ((4, 9, 12), "Lower execute_horizon to 8"),
        ((-1, 4, 20), "delay must be 0 or more ticks; got -1"),
        ((0, 21, 20), r"execute_horizon must be in 1\.\.20"),
    ],
)
def test_check_horizons_names_the_knob(arguments: tuple[int, int, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        chunks.check_horizons(*arguments)


@given(st.integers(0, 30), st.integers(1, 20), st.integers(0, 20))
def test_clamp_delay_is_the_largest_feasible(delay: int, execute_horizon: int, extra: int) -> None:
    horizon = execute_horizon + extra
    clamped = chunks.clamp_delay(delay, execute_horizon, horizon)
    chunks.check_horizons(clamped, execute_horizon, horizon)
    if clamped < delay:
        with pytest.raises(ValueError, match="execute_horizon"):
            chunks.check_horizons(clamped + 1, execute_horizon, horizon)


def test_anchor_puts_the_consumed_row_at_the_arrival() -> None:
    for consumed in range(6):
        assert chunks.row_at(chunks.anchor(make_chunk(), 100, consumed), 100) == consumed
    for consumed in (-1, 6):
        with pytest.raises(ValueError, match=rf"0\.\.5; got {consumed}"):
            chunks.anchor(make_chunk(), 100, consumed)


def test_postpone_keeps_the_rows_and_moves_the_ticks() -> None:
    later = chunks.postpone(make_chunk(), 3)
    assert chunks.row_at(later, 15) == 2
    assert np.array_equal(later.actions, make_chunk().actions)


def test_promise_is_the_next_rows_of_the_running_chunk() -> None:
    chunk = make_chunk()
    assert np.array_equal(chunks.promise(chunk, 12, 3, 2), chunk.actions[2:5])
    assert np.array_equal(chunks.promise(chunk, 14, 3, 2), chunk.actions[4:6])
    for empty in (
        chunks.promise(chunk, 16, 3, 2),
        chunks.promise(chunk, 99, 3, 2),
        chunks.promise(chunk, 12, 0, 2),
        chunks.promise(None, 12, 3, 2),
    ):
        assert empty.shape == (0, 2)
        assert empty.dtype == np.float32
    with pytest.raises(ValueError, match="starts at tick 10"):
        chunks.promise(chunk, 9, 1, 2)
    with pytest.raises(ValueError, match="got -1"):
        chunks.promise(chunk, 12, -1, 2)


def test_promise_is_a_copy() -> None:
    chunk = make_chunk()
    chunks.promise(chunk, 10, 2, 2)[:] = -1.0
    assert chunk.actions.min() == 0.0


def test_prefix_rows_become_the_promise_bit_for_bit() -> None:
    chunk = make_chunk(prefix_length=2)
    rounded = chunk.actions[:2] + np.float32(1e-6)
    assert object_to(chunk, rounded) == ""
    continued = chunks.continue_prefix(chunk, rounded)
    assert continued.actions[:2].tobytes() == rounded.tobytes()
    assert np.array_equal(continued.actions[2:], chunk.actions[2:])


def test_a_fitting_reply_meets_no_objection() -> None:
    assert object_to(make_chunk(), np.zeros((0, 2), dtype=np.float32)) == ""


def test_objections_name_what_came_and_what_was_expected() -> None:
    nothing = np.zeros((0, 2), dtype=np.float32)
    assert object_to(make_chunk(horizon=5), nothing) == (
        "wrong shape: the chunk is float32[5, 2], expected float32[6, 2]"
    )
    assert object_to(make_chunk(), nothing, policy_id="other").startswith("wrong policy: ")
    assert object_to(make_chunk(), nothing, tick=11).startswith("wrong tick: row 0 is for tick 10")
    assert object_to(make_chunk(), make_chunk().actions[:1]).startswith("wrong prefix length: the chunk repeats 0 rows")
    changed = make_chunk().actions[:2].copy()
    changed[1, 1] += 0.01
    assert object_to(make_chunk(prefix_length=2), changed) == (
        "prefix changed: row 1, dimension 1 came back as 3.0, promised was 3.009999990463257"
    )
