"""The plan covers every condition once, in two parts as in one, and refuses nonsense."""

from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.recipes.touch_study import plan
from cerebella.recipes.touch_study.cells import DisturbanceName, TrainingName, TrialsName
from cerebella.recipes.touch_study.policies import ENTRANTS, entrant, tuned
from cerebella.recipes.touch_study.protocol import FAULTS
from cerebella.recipes.touch_study.run import run
from cerebella.recipes.touch_study.study import TouchStudy

WHOLE = TouchStudy()


def names(study: TouchStudy) -> list[object]:
    return [work.name for work in plan.works(study)]


def test_the_whole_study() -> None:
    works = {work.name: work for work in plan.works(WHOLE)}
    for goal in ("fixed", "random"):
        assert len(works[TrialsName("main", "skin", goal)].units) >= 1000
        assert len(works[TrialsName("main", "spheres", goal)].units) >= 150
        for name in ENTRANTS:
            assert len(works[plan.compared(name, goal)].units) >= 150
        for size in (100, 500, 2000):
            assert len(works[TrialsName(tuned(size), "spheres", goal)].units) >= 150
        for steps in (1, 10):
            assert TrialsName("main", "skin", goal, max_steps=steps) in works
        assert TrialsName("main", "skin", goal, "unseen") in works
    assert {name.fault for name in works if isinstance(name, TrialsName)} == set(FAULTS)
    assert DisturbanceName("main", "spheres") in works
    assert len(works) == len(plan.works(WHOLE)), "no cell twice"
    assert TrainingName("neighbours") not in works


def test_what_one_learns_first_comes_first_and_its_training_before_it() -> None:
    order = names(WHOLE)
    assert order[:2] == [TrainingName("main"), TrialsName("main", "skin", "fixed")]
    for name in order:
        if isinstance(name, TrialsName) and TrainingName(name.policy) in order:
            assert order.index(TrainingName(name.policy)) < order.index(name)


@pytest.mark.parametrize("refiner", [None, Path("somewhere")])
def test_the_parts_are_the_whole(refiner: Path | None) -> None:
    study = replace(WHOLE, num_parts=2, refiner=refiner)
    parts = [[work.name for work in plan.own_works(replace(study, part=part))] for part in range(2)]
    assert sorted(map(str, parts[0] + parts[1])) == sorted(map(str, names(study)))
    costs = [sum(work.cost_s for work in plan.own_works(replace(study, part=part))) for part in range(2)]
    assert min(costs) > 0.5 * max(costs)
    of = [{getattr(name, "policy", "") for name in part} for part in parts]
    shared = of[0] & of[1]
    assert shared <= ({"main"} if refiner is not None else set()), "nobody trains what another one trains"
    if refiner is not None:
        assert TrainingName("main") not in names(study)


def test_units_take_turns() -> None:
    [work] = [
        w
        for w in plan.works(replace(WHOLE, objects=("rod_8x120", "rod_6x120"), trials=2))
        if str(w.name) == "main-skin-fixed-seen-5steps"
    ]
    assert work.units == (("rod_8x120", 0), ("rod_6x120", 0), ("rod_8x120", 1), ("rod_6x120", 1))


def test_equal_budgets_need_no_second_reference() -> None:
    study = replace(WHOLE, ablation_steps=WHOLE.num_steps)
    assert (study.reference, WHOLE.reference) == ("main", "direct")
    assert TrainingName("direct") not in names(study)
    assert replace(study, refiner=Path("x")).reference == "direct"


def test_the_plan_is_printed_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(replace(WHOLE, do="plan", out=tmp_path)) == []
    said = capsys.readouterr().out
    assert "| 2 | `main-skin-fixed-seen-5steps` | 0 | 1050 | 0 | " in said
    assert "**all**" in said
    assert list(tmp_path.iterdir()) == []


def test_nonsense_is_refused() -> None:
    for fields, message in (
        ({"refiners": ("main", "magic")}, "unknown refiner 'magic'; known: main, direct"),
        ({"refiners": ("tuned_5",)}, "comes from tuned_sizes"),
        ({"objects": ()}, "one or more names"),
        ({"objects": ("rod_8x120", "rod_8x120")}, "objects must be different values"),
        ({"objects": ("ball",)}, "unknown object 'ball'"),
        ({"trials": 0}, "trials must be 1 or more"),
        ({"fault_trials": -1}, "fault_trials must be 0 or more"),
        ({"part": 2, "num_parts": 2}, r"part must be in 0..1"),
        ({"stop_after": 0}, "stop_after must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(WHOLE, **fields)
    assert entrant("tuned_7").kind == "tuned"
