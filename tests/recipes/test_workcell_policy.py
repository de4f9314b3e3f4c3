"""Demonstrations to a policy in the smallest numbers: everything real, nothing learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("mujoco")

from cerebella.data.episodes import DataFault
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping_sources import map_from_names
from cerebella.data.sources import RobotSource
from cerebella.embodiment import Embodiment
from cerebella.envs.workcell.environment import WorkcellEnvironment
from cerebella.envs.workcell.tasks import make_task
from cerebella.policies import load_policy
from cerebella.recipes.fine_tune.options import FineTune
from cerebella.recipes.fine_tune.plan import make_plan
from cerebella.recipes.workcell_policy import WorkcellPolicy, is_policy, stages, train
from cerebella.recipes.workcell_set import EMBODIMENT
from cerebella.recipes.workcell_warmup import STAGE, WorkcellWarmup, warm_up
from cerebella.recipes.workcell_windows import SeenDemonstrations, read_landmarks
from cerebella.training.parallel import World
from cerebella.types import Sample

SIZE_PX, HORIZON = 32, 8


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> WorkcellPolicy:
    """One whole run: two demonstrations, two steps a stage."""
    made = WorkcellPolicy(
        task="workcell/lego_2",
        out=tmp_path_factory.mktemp("run"),
        horizon=HORIZON,
        episodes=2,
        render_px=SIZE_PX,
        warmup_steps=2,
        brain_steps=2,
        cerebellum_steps=2,
        async_steps=2,
        batch_size=6,
        max_prefix=3,
        device="cpu",
        num_processes=1,
        num_threads=1,
        show_progress=False,
    )
    directories = train(made)
    assert [path.name for path in directories] == [
        "0-warmup_vision",
        "1-pretrain_brain",
        "2-pretrain_cerebellum",
        "3-posttrain_async",
    ]
    assert all(is_policy(path) for path in directories)
    return made


@pytest.fixture(scope="module")
def windows(recipe: WorkcellPolicy) -> SeenDemonstrations:
    data = recipe.out / "data"
    store = LeRobotStore(data)
    source = RobotSource(store, map_from_names(store, Embodiment.load(data / EMBODIMENT)), HORIZON)
    return SeenDemonstrations(data, source, stride=4, show_progress=False)


def test_the_policy_drives_the_cell_behind_a_prefix(recipe: WorkcellPolicy) -> None:
    policy = load_policy(recipe.out / "3-posttrain_async")
    cell = WorkcellEnvironment(make_task(recipe.task), "end_effector", render_size=(SIZE_PX, SIZE_PX))
    cell.reset(0)
    observation = cell.observe()
    assert policy.metadata.max_trained_prefix == recipe.max_prefix
    prefix = np.tile(cell.embodiment.hold(observation, None).values, (recipe.max_prefix, 1))
    chunk = policy.infer(observation, prefix)
    assert chunk.actions.shape == (HORIZON, 14)
    np.testing.assert_array_equal(chunk.actions[: recipe.max_prefix], prefix)
    cell.close()


def test_what_each_stage_moved(recipe: WorkcellPolicy) -> None:
    weights = [load_file(path / "model.safetensors") for path in sorted(recipe.out.iterdir()) if path.name[0].isdigit()]
    for before, after, moves_brain, moves_cerebellum in (
        (weights[0], weights[1], True, False),
        (weights[1], weights[2], False, True),
        (weights[2], weights[3], True, True),
    ):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        is_brain = {name for name in moved if name.startswith("brain.")}
        assert bool(is_brain) == moves_brain
        assert bool(moved - is_brain) == moves_cerebellum


def test_a_finished_run_is_left_alone(recipe: WorkcellPolicy) -> None:
    before = {path: path.stat().st_mtime_ns for path in recipe.out.rglob("model.safetensors")}
    train(recipe)
    assert {path: path.stat().st_mtime_ns for path in recipe.out.rglob("model.safetensors")} == before


def test_a_stopped_warm_up_ends_as_one_that_was_not(recipe: WorkcellPolicy, tmp_path: Path) -> None:
    whole = recipe.out / "0-warmup_vision"
    stage = replace(STAGE, num_steps=2, num_warmup_steps=0)
    again = WorkcellWarmup(
        recipe.out / "data", tmp_path / "again", horizon=HORIZON, stage=stage, num_threads=1, show_progress=False
    )
    assert not is_policy(again.out)
    warm_up(replace(again, stop_after=1))
    assert not is_policy(again.out)
    warm_up(again)
    found, wanted = (load_file(path / "model.safetensors") for path in (again.out, whole))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_windows_are_those_of_the_set(recipe: WorkcellPolicy, windows: SeenDemonstrations) -> None:
    store = LeRobotStore(recipe.out / "data")
    rows = [len(range(e % 4, store.episode(e).length - HORIZON + 1, 4)) for e in range(len(store))]
    assert len(windows) == sum(rows)
    sample = windows.samples(np.array([rows[0] + 1]))[0]  # the second of the second episode: row 1 + 4
    for view, picture in sample.images.items():
        np.testing.assert_array_equal(picture, store.frames(1, f"observation.images.{view}", 5, 6)[0])


def test_truth_is_where_the_pictures_show_it(recipe: WorkcellPolicy, windows: SeenDemonstrations) -> None:
    """Per picture, in the order of the views; a thing of a kind lies where that colour is seen."""
    indices = np.arange(len(windows))
    truth = windows.truth(indices)
    assert truth.is_present.shape[0] == 3 * len(windows)
    assert not truth.is_present[:, -1].any()
    seen = read_landmarks(recipe.out / "data", 0)
    np.testing.assert_array_equal(truth.is_present[3:6, : len(seen.names)], seen.is_inside[4])
    num_pointed = 0
    for index, sample in enumerate(windows.samples(indices)):
        for view, picture in enumerate(sample.images.values()):
            row = 3 * index + view
            target = truth.target_index[row]
            if truth.is_present[row, target]:
                u, v = truth.pixel[row, target]
                assert 0 <= u < picture.shape[1]
                assert 0 <= v < picture.shape[0]
                num_pointed += 1
    assert num_pointed > len(windows) / 2


def test_a_set_without_landmarks_is_refused(recipe: WorkcellPolicy, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="generated with landmarks"):
        read_landmarks(tmp_path, 0)


def post_training(recipe: WorkcellPolicy, out: Path) -> FineTune:
    """The last stage of the recipe, to be done again somewhere else."""
    last = stages(recipe, recipe.out / "data", recipe.out)[-1]
    return replace(last, start=str(recipe.out / "2-pretrain_cerebellum"), out=out / "again")


def test_post_training_begins_some_windows_with_what_was_sent(recipe: WorkcellPolicy, tmp_path: Path) -> None:
    """The column of the disturbed commands reaches the training batch, as committed rows."""
    plan = make_plan(post_training(recipe, tmp_path), World(0, 1, torch.device("cpu")))
    (one,) = plan.sets
    store = LeRobotStore(recipe.out / "data")
    sent, asked = (store.columns(0, [name])[name] for name in ("sent", "action"))
    lengths = []
    for run in one.source.windows.runs(np.arange(60)):
        for i, sample in enumerate(one.source.read(run)):
            assert isinstance(sample, Sample)
            lengths.append(sample.num_committed)
            rows = slice(run.start + i, run.start + i + sample.num_committed)
            np.testing.assert_array_equal(sample.actions[: sample.num_committed], sent[rows])
    assert {0, 1, 2, 3} == set(lengths)
    assert not np.array_equal(sent, asked)


def test_a_set_without_that_column_is_refused(recipe: WorkcellPolicy, tmp_path: Path) -> None:
    wrong = replace(post_training(recipe, tmp_path), sent_column="nothing")
    with pytest.raises(DataFault, match="no column 'nothing'"):
        make_plan(wrong, World(0, 1, torch.device("cpu")))
