"""The copy trap with policies whose answer is known: one that sees what is right, one that goes on with the old plan."""

from typing import Any

import numpy as np
import pytest

from cerebella.envs.dynamic.tasks import TASKS
from cerebella.interfaces import PolicyMetadata
from cerebella.recipes.study_async.trap import CONFLICT_M, conflicts, measure_trap
from cerebella.types import ActionChunk, FloatArray, Observation

HORIZON, DELAY, NUM = 16, 4, 24
TASK = TASKS["dynamic/jammed_drawer"]()
STALE = conflicts(TASK, NUM, HORIZON, DELAY)[0]
NOW = TASK.expert_plan(STALE.windows.state, STALE.windows.style, HORIZON)


class KnownAnswers:
    """Rows by state and prefix; a prefix of now gets the plan of now."""

    metadata = PolicyMetadata("known", TASK.state_embodiment, HORIZON, None, HORIZON - 1, "")

    def __init__(self, rows: FloatArray) -> None:
        states = STALE.windows.observed(with_images=False)
        self.answers: dict[bytes, FloatArray] = {}
        for state, now, stale, row in zip(states, NOW, STALE.windows.actions, rows, strict=True):
            self.answers[state.tobytes() + now[:DELAY].tobytes()] = now
            self.answers[state.tobytes() + stale[:DELAY].tobytes()] = row

    def infer(self, observation: Observation, action_prefix: FloatArray) -> ActionChunk:
        rows = self.answers[observation.state.tobytes() + action_prefix.tobytes()]
        return ActionChunk(rows, observation.tick, observation.tick, len(action_prefix), "known", 0.0)


def measured(rows: FloatArray) -> dict[str, Any]:
    return measure_trap(KnownAnswers(rows), TASK, "prefix", NUM, HORIZON, HORIZON // 2, DELAY)


def test_windows_in_conflict_begin_alike_and_part_behind_the_promise() -> None:
    found, num_drawn, num_conflicts = conflicts(TASK, NUM, HORIZON, DELAY)
    assert len(found) == min(NUM, num_conflicts) == NUM
    assert num_drawn == 10 * NUM
    label, old = found.windows.actions, found.old_continuation
    np.testing.assert_allclose(label[:, :DELAY], old[:, :DELAY], atol=1e-6)
    apart_m = np.linalg.norm((label - old)[:, DELAY:, :2], axis=2).mean(axis=1)
    assert (apart_m > CONFLICT_M).all()


def test_who_sees_what_is_right_copies_nothing() -> None:
    numbers = measured(STALE.windows.actions)
    assert set(numbers["copied_percent"]) == {0}
    assert set(numbers["error_tenth_mm"]) == {0}
    assert set(numbers["control_tenth_mm"]) == {0}


def test_who_goes_on_with_the_old_plan_copies_all_of_it() -> None:
    numbers = measured(STALE.old_continuation)
    assert set(numbers["copied_percent"]) == {100}
    assert min(numbers["error_tenth_mm"]) >= 1e4 * CONFLICT_M - 1
    assert set(numbers["control_tenth_mm"]) == {0}


def test_who_goes_between_copies_half() -> None:
    numbers = measured(((STALE.windows.actions + STALE.old_continuation) / 2).astype(np.float32))
    assert set(numbers["copied_percent"]) == {50}


def test_a_task_without_a_trap_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cerebella.recipes.study_async.trap.CONFLICT_M", 10.0)
    with pytest.raises(
        ValueError, match=r"dynamic/jammed_drawer: of 240 windows .* none is in conflict by more than 10"
    ):
        conflicts(TASK, NUM, HORIZON, DELAY)
