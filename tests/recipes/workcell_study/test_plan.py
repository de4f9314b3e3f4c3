"""Which cells there are, who runs them, how the trainings differ: nothing is run here."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cerebella.recipes.fine_tune.options import PosttrainAsync, PretrainBrain, PretrainCerebellum
from cerebella.recipes.workcell_policy import WorkcellPolicy
from cerebella.recipes.workcell_study import plan
from cerebella.recipes.workcell_study.cells import RolloutName, StreamName, TrainingName
from cerebella.recipes.workcell_study.driving import episode_seeds
from cerebella.recipes.workcell_study.study import StudyWorkcell
from cerebella.recipes.workcell_study.trainings import final, variation

STUDY = StudyWorkcell(episodes=25)


def conditions(study: StudyWorkcell) -> dict[tuple[str, str, int], list[int]]:
    """(training, mode, delay) -> seeds of all its episodes."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for name in plan.cells(study):
        if isinstance(name, RolloutName):
            found.setdefault((name.training, name.mode, name.delay), []).extend(episode_seeds(study, name))
    return found


def test_how_many_cells() -> None:
    names = plan.cells(STUDY)
    assert Counter(name.kind for name in names) == {"training": 4, "rollout": 3 * 18, "retention": 7, "stream": 2}
    assert len(set(map(str, names))) == len(names)
    wanted = {("expert", "expert", 0)}
    wanted |= {("default", mode, delay) for mode in ("prefix", "sync", "naive") for delay in (0, 3, 6)}
    wanted |= {(name, "prefix", delay) for name in ("rtc", "no_talk", "no_choice") for delay in (0, 3, 6)}
    assert set(conditions(STUDY)) == wanted - {("default", "naive", 0)}


def test_every_condition_drives_the_same_episodes() -> None:
    wanted = list(range(1_000_000, 1_000_025))
    assert all(seeds == wanted for seeds in conditions(STUDY).values())


def test_the_claims_come_first_and_shards_in_turn() -> None:
    names = plan.cells(STUDY)
    assert names[0] == TrainingName("default")
    first = [name for name in names if isinstance(name, RolloutName)][:8]
    assert [(name.mode, name.first) for name in first] == [
        *((mode, 0) for mode in ("prefix", "sync", "naive", "expert")),
        *((mode, 10) for mode in ("prefix", "sync", "naive", "expert")),
    ]
    last_at_3 = max(k for k, name in enumerate(names) if isinstance(name, RolloutName) and name.delay == 3)
    assert min(k for k, name in enumerate(names) if isinstance(name, RolloutName) and name.delay == 6) > last_at_3


def test_parts_share_the_whole_plan() -> None:
    parts = [plan.own_cells(replace(STUDY, part=part, num_parts=3)) for part in range(3)]
    assert sorted(str(name) for part in parts for name in part) == sorted(map(str, plan.cells(STUDY)))
    assert parts[0][0] == TrainingName("default")
    assert StreamName("expert", 0) in parts[1]


def test_expected_cost_grows_with_what_is_asked() -> None:
    def cost(study: StudyWorkcell) -> float:
        return sum(plan.cost_s(study, name) for name in plan.cells(study))

    assert 15 * 3600 < cost(StudyWorkcell()) < 60 * 3600
    longer = replace(STUDY.policy, brain_steps=2 * STUDY.policy.brain_steps)
    # Two trainings have the brain stage, one with 11 conversations of 0.05 s per step, both with 66 windows of 2.1 / 64 s.
    extra = cost(replace(STUDY, policy=longer)) - cost(STUDY)
    assert extra == pytest.approx(1200 * (2 * 66 * 2.1 / 64 + 11 * 0.05))


def test_how_the_trainings_differ() -> None:
    policy = WorkcellPolicy(out=Path("d"))
    study = StudyWorkcell(policy=policy, runs=Path("r"))
    brain, cerebellum, posttrain = variation(study, "default")
    assert isinstance(brain, PretrainBrain)
    assert brain.start == str(Path("d/0-warmup_vision"))
    assert brain.vl_ratio == policy.vl_ratio
    assert isinstance(posttrain, PosttrainAsync)
    assert posttrain.reweight_errors

    bare, _, last = variation(study, "no_talk")
    assert (bare.start, bare.vl_ratio, bare.conversations) == (brain.start, None, ())
    assert last.out == final(study, "no_talk") == Path("r/no_talk/3-posttrain_async")

    direct, _ = variation(study, "no_choice")
    assert isinstance(direct, PretrainCerebellum)
    assert direct.start == brain.start

    under, clean = variation(study, "rtc")
    assert (under.start, under.mask_variant) == (str(study.policy.out / "1-pretrain_brain"), "causal")
    assert isinstance(clean, PosttrainAsync)
    assert (clean.reweight_errors, clean.hide_probability, clean.sent_share) == (False, 0.0, 0.0)
    assert clean.max_prefix == posttrain.max_prefix
    assert {
        options.data for name in ("default", "rtc", "no_talk", "no_choice") for options in variation(study, name)
    } == {cerebellum.data}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"delays must be in 0..8 ticks.*9"):
        replace(STUDY, delays=(9,))
    with pytest.raises(ValueError, match="'other' in trainings; known: default, rtc"):
        replace(STUDY, trainings=("other",))
    with pytest.raises(ValueError, match="must hold 'default'"):
        replace(STUDY, trainings=("rtc",))
    with pytest.raises(ValueError, match="shard_size must be 1 or more; got 0"):
        replace(STUDY, shard_size=0)


def test_the_plan_travels_with_the_bundle() -> None:
    study = replace(STUDY, page=Path("elsewhere.md"))
    again = StudyWorkcell.of_plan(study.planned(), study.page)
    assert again.planned() == study.planned()
    assert again.page == study.page
