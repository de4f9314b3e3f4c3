"""Orders of an operator: what they do to the plan, and what is refused."""

import numpy as np
import pytest

from cerebella.runtime.executor import Executor

from .arm import (
    NUM_JOINTS,
    Loop,
    ScriptedTransport,
    WanderingPolicy,
    check_limits,
    make_arm,
    make_executor,
    make_metadata,
)

ACTION_DIM = NUM_JOINTS + 1


def make() -> tuple[Executor, Loop, ScriptedTransport]:
    policy = WanderingPolicy(make_metadata(make_arm()), seed=1)
    transport = ScriptedTransport(policy, lambda number: [2])
    executor = make_executor(policy, transport, "prefix")
    return executor, Loop(executor), transport


def states(executor: Executor, first: int) -> list[str]:
    return [record.state for record in list(executor.trace)[first:]]


def test_a_pause_comes_to_rest_and_asks_nothing() -> None:
    executor, loop, transport = make()
    loop.run(30)
    executor.pause()
    executor.pause()
    num_asked = len(transport.submitted)
    loop.run(40)
    assert set(states(executor, 30)) <= {"stop", "hold"}
    assert states(executor, 60) == ["hold"] * 10
    assert len(transport.submitted) == num_asked
    executor.resume()
    loop.run(30)
    assert states(executor, 90)[-1] == "run"
    assert len(transport.submitted[num_asked].action_prefix) == 0, "the new plan starts from rest"
    check_limits(executor)


def test_a_new_task_is_in_the_next_request() -> None:
    executor, loop, transport = make()
    loop.run(30)
    executor.set_prompt("fold the towel")
    num_asked = len(transport.submitted)
    loop.run(30)
    assert {request.observation.prompt for request in transport.submitted[:num_asked]} == {"wander"}
    assert {request.observation.prompt for request in transport.submitted[num_asked:]} == {"fold the towel"}
    check_limits(executor)


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_task_without_a_text(text: str) -> None:
    executor, loop, _ = make()
    loop.run(10)
    with pytest.raises(ValueError, match="must have a text"):
        executor.set_prompt(text)
    assert executor.prompt is None
    loop.run(10)
    assert states(executor, 10) == ["run"] * 10, "a refused order changes nothing"


def test_a_human_takes_over_and_hands_back() -> None:
    executor, loop, _ = make()
    loop.run(30)
    executor.take_over()
    loop.run(20)
    assert set(states(executor, 30)) <= {"stop", "hold"}
    goal = np.asarray([0.4, -0.4, 0.2, 0.0], dtype=np.float32)
    executor.human_command(goal)
    goal[:] = 9.0  # the executor keeps its own copy
    loop.run(60)
    assert set(states(executor, 50)) == {"human"}
    np.testing.assert_array_equal(executor.trace[-1].values, np.asarray([0.4, -0.4, 0.2, 0.0], dtype=np.float32))
    executor.hand_back()
    assert executor.human_values is None
    loop.run(30)
    assert states(executor, 110)[-1] == "run"
    check_limits(executor)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(ACTION_DIM + 1, dtype=np.float32), rf"float32\[..., {ACTION_DIM}\]"),
        (np.zeros((), dtype=np.float32), rf"float32\[..., {ACTION_DIM}\]"),
        (np.zeros((1, ACTION_DIM), dtype=np.float32), r"got float32\[1, 4\]"),
        (np.zeros(ACTION_DIM), r"got float64\[4\]"),
        (np.full(ACTION_DIM, np.nan, dtype=np.float32), "finite"),
        (np.full(ACTION_DIM, np.inf, dtype=np.float32), "finite"),
    ],
)
def test_a_human_command_that_cannot_be(values: np.ndarray, message: str) -> None:
    executor, loop, _ = make()
    loop.run(5)
    executor.take_over()
    with pytest.raises(ValueError, match=message):
        executor.human_command(values)
    assert executor.human_values is None


def test_a_human_command_without_a_take_over() -> None:
    executor, _, _ = make()
    with pytest.raises(RuntimeError, match="take_over"):
        executor.human_command(np.zeros(ACTION_DIM, dtype=np.float32))
    executor.take_over()
    executor.human_command(np.zeros(ACTION_DIM, dtype=np.float32))
    executor.hand_back()
    with pytest.raises(RuntimeError, match="take_over"):
        executor.human_command(np.zeros(ACTION_DIM, dtype=np.float32))


def test_orders_that_change_nothing_say_nothing() -> None:
    executor, loop, transport = make()
    loop.run(30)
    executor.resume()
    executor.hand_back()
    loop.run(10)
    assert states(executor, 30) == ["run"] * 10
    assert all(request.outcome != "discarded" for request in executor.requests)
    assert transport.submitted
