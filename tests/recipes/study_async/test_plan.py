from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.recipes.study_async import plan
from cerebella.recipes.study_async.cells import PolicyName, RolloutName
from cerebella.recipes.study_async.methods import GROUPS, METHODS, TRICKS, VARIANT_ORDER
from cerebella.recipes.study_async.page import plan_table
from cerebella.recipes.study_async.recipe import StudyAsyncRecipe
from cerebella.runtime.executor_config import MODES

STUDY = StudyAsyncRecipe()


def test_every_method_is_one_that_the_runtime_and_the_training_know() -> None:
    from cerebella.recipes.state_training import VARIANTS

    assert {method.mode for method in METHODS.values()} <= set(MODES)
    assert {method.variant for method in METHODS.values()} == set(VARIANTS)
    named = {*TRICKS, *(name for group in GROUPS.values() for name in group)}
    assert named <= set(METHODS)
    assert set(VARIANT_ORDER) <= set(VARIANTS)


def test_the_most_informative_policies_come_first() -> None:
    names = plan.policies(STUDY)
    assert len(names) == len(set(names)) == 3 * (13 * 5 + 6 * 3), "the longer chunks have fewer tasks and methods"
    first = names[: 13 * 5]
    assert {(name.horizon, name.seed) for name in first} == {(16, 0)}
    assert [name.variant for name in first[:15:5]] == ["sync", "clean", "all"]
    assert names[0].task == "jammed_drawer"


def test_parts_share_the_work_and_never_a_base() -> None:
    parts = [plan.own_policies(replace(STUDY, part=part, num_parts=2)) for part in (0, 1)]
    assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, plan.policies(STUDY)))
    bases = [{(name.task, name.horizon, name.seed) for name in part} for part in parts]
    assert not bases[0] & bases[1]
    assert len(bases[0]) == len(bases[1])


def test_cells_of_a_policy() -> None:
    cells = plan.cells(STUDY, PolicyName("balance", 16, "clean", 1))
    assert len(cells) == len(set(map(str, cells)))
    rollouts = [cell for cell in cells if isinstance(cell, RolloutName)]
    assert {(cell.execute_horizon, cell.delay) for cell in rollouts} == {
        *((8, delay) for delay in (0, 2, 4, 6, 8, "burst")),
        *((4, delay) for delay in (2, 4)),
        *((6, delay) for delay in (2, 4, 6)),
        *((12, delay) for delay in (2, 4)),
    }
    assert [cell.perturbation for cell in rollouts[:4]] == [False, True, False, True]
    assert sum(cell.kind == "trap" for cell in cells) == 2
    longer = plan.cells(STUDY, PolicyName("intercept", 30, "clean", 1))
    assert {(cell.execute_horizon, cell.delay) for cell in longer if isinstance(cell, RolloutName)} == {
        *((15, delay) for delay in (0, 2, 4, 6, 8, "burst")),
        *((6, delay) for delay in (2, 4, 6)),
    }
    # A policy that never sees a running plan has no trap, and other execute horizons are for some methods only.
    lone = plan.cells(replace(STUDY, methods=("sync",)), PolicyName("balance", 16, "sync", 1))
    assert {cell.kind for cell in lone} == {"training", "rollout"}
    assert {cell.execute_horizon for cell in lone if isinstance(cell, RolloutName)} == {8}


def test_what_does_not_fit_is_dropped_with_a_reason() -> None:
    tight = replace(STUDY, horizons=(12,), delays=(0, 6, 8), other_horizons=(2, 4), other_delays=(4,))
    delays = {
        cell.delay for cell in plan.cells(tight, PolicyName("balance", 12, "clean", 0)) if isinstance(cell, RolloutName)
    }
    assert delays == {0, 6, 4, "burst"}
    reasons = dict(plan.left_out(tight))
    assert "delay <= s <= H - delay" in reasons["delays 8 at H = 12"]
    assert "delays 4 at s = 2, H = 12" in reasons
    assert plan.fits(4, 4, 16)
    assert not plan.fits(4, 3, 16)
    assert not plan.fits(4, 13, 16)


def test_the_table_of_the_plan_adds_up() -> None:
    rows = plan.plan_rows(STUDY)
    names = [name for policy in plan.policies(STUDY) for name in plan.cells(STUDY, policy)]
    assert sum(row.num_planned for row in rows) == len(names)
    assert sum(row.planned_s for row in rows) == pytest.approx(sum(plan.cost_s(STUDY, name) for name in names))
    text = plan_table(STUDY, [])
    assert f"| {len(names)} |" in text
    assert "execute horizons 4, 12 at H = 30" in text
    assert "tasks insert_moving, balance at H = 30" in text
    assert "not reached" not in text


def test_a_recipe_survives_its_bundle() -> None:
    recipe = replace(STUDY, tasks=("balance",), num_episodes=5, stop_after=3, out=Path("elsewhere"))
    again = StudyAsyncRecipe.of_plan(recipe.planned(), recipe.page)
    assert again == replace(recipe, stop_after=None, out=STUDY.out)


def test_wrong_recipes_are_explained() -> None:
    for wrong, message in (
        ({"methods": ("clean", "best")}, "unknown method 'best'"),
        ({"methods": ("clean", "clean")}, "different names"),
        ({"tasks": ("dynamic/balance",)}, "without their suite, as 'balance'"),
        ({"seeds": (1, 1)}, "different values"),
        ({"horizons": (15,)}, "must be even"),
        ({"delays": (-1,)}, "0 or above"),
        ({"num_episodes": 0}, "num_episodes must be 1 or more"),
        ({"part": 2, "num_parts": 2}, r"part must be in 0\.\.1"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(STUDY, **wrong)
