"""Every stage on small data sets: a policy comes out that acts, knows its past, and is the same after a stop."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cerebella.data.episodes import DataFault
from cerebella.data.lerobot_store import LeRobotStore
from cerebella.data.mapping_sources import map_from_names
from cerebella.data.sources import RobotSource
from cerebella.embodiment import Embodiment
from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.policies import VLAPolicy, load_policy
from cerebella.policies.layout import publishable_files
from cerebella.processing.measure import measure_sources
from cerebella.processing.statistics import Statistics
from cerebella.recipes.fine_tune.options import (
    Calvin,
    FineTune,
    Libero,
    PosttrainSync,
    PretrainBrain,
    PretrainCerebellum,
    Simpler,
)
from cerebella.recipes.fine_tune.run import fine_tune
from cerebella.recipes.scenes import ScenesRecipe, generate
from cerebella.types import FloatArray, Observation
from tests.data.lerobot_sets import edit_rows
from tests.policies.released_directory import write_released_directory
from tests.recipes.fine_tune.conveyor_set import FAST, OTHER, SHIPPED, posttrain, write_noise, write_set

NO_FLOW = {name: value for name, value in FAST.items() if name != "flow_repeats"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of two robots, and conversations."""
    root = tmp_path_factory.mktemp("data")
    write_set(root / "belt")
    write_set(root / "other", num_episodes=3, robot=OTHER)
    CONVEYOR.save(root / "conveyor.json")
    OTHER.save(root / "other.json")
    generate(ScenesRecipe(out=root / "scenes", families=("colour",), num_train=16, num_held_out=4))
    return root


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stages(policy: Path) -> list[str]:
    return [stage["name"] for stage in json.loads((policy / "config.json").read_text())["stages"]]


def act(policy: VLAPolicy, prefix_length: int = 0) -> FloatArray:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    robot = policy.metadata.embodiment
    state = np.full(robot.state_dim, 0.1, dtype=np.float32)
    images = {view: picture for view in robot.views}
    prefix = np.full((prefix_length, robot.action_dim), 0.1, dtype=np.float32)
    return policy.infer(Observation(state, "pick the red part", 0, 0.0, images), prefix).actions


def test_from_nothing_to_a_policy_in_three_stages(sets: Path, tmp_path: Path) -> None:
    """A tokenizer of the run's own texts, a brain with conversations, a cerebellum, a fine-tuned policy."""
    common: dict[str, Any] = {"data": (str(sets / "belt"),)}
    brain = PretrainBrain(
        start="micro",
        horizon=8,
        embodiment=(sets / "conveyor.json",),
        conversations=(str(sets / "scenes" / "train.jsonl"),),
        vl_ratio=0.25,
        out=tmp_path / "brain",
        num_candidates=2,
        **common,
        **NO_FLOW,
    )
    fine_tune(brain)
    (row, *_) = rows(tmp_path / "brain" / "curves.jsonl")
    assert {"choice", "score", "win_1", "next_token"} <= set(row)
    vocabulary = load_policy(tmp_path / "brain").processor.tokenizer
    assert len(vocabulary.tokenize("pick the red part")) <= 6  # words that the data hold are learnt whole

    fine_tune(PretrainCerebellum(start=str(tmp_path / "brain"), out=tmp_path / "cerebellum", **common, **FAST))
    fine_tune(PosttrainSync(start=str(tmp_path / "cerebellum"), out=tmp_path / "sync", **common, **FAST))
    assert stages(tmp_path / "sync") == ["pretrain_brain", "pretrain_cerebellum", "posttrain_sync"]
    policy = load_policy(tmp_path / "sync", embodiment="conveyor", mask_variant="band")
    assert act(policy).shape == (8, 3)
    recipe = json.loads((tmp_path / "brain" / "recipe.json").read_text())
    assert recipe["stage"]["trains"] == ["vision", "language", "embeddings"]
    assert (recipe["stage"]["num_conversations"], recipe["stage"]["batch_size"]) == (1, 4)


def test_a_policy_goes_on_learning_and_remembers(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = fine_tune(posttrain(sets, tmp_path / "mine"))
    assert [path.name for path in paths] == ["mine", "curves.png", "validation.jsonl", "chunk-0.png"]
    before, after = load_policy(SHIPPED), load_policy(tmp_path / "mine")
    assert stages(tmp_path / "mine") == [*stages(SHIPPED), "posttrain_async"]
    assert after.metadata.max_trained_prefix == 6
    assert not np.array_equal(act(after, 4), act(before, 4))
    (row,) = rows(tmp_path / "mine" / "validation.jsonl")
    assert row["train_step"] == 2
    assert len(row["row_errors"]) == 16
    assert "posttrain_async" in (tmp_path / "mine" / "README.md").read_text()
    publishable_files(tmp_path / "mine")
    assert not (tmp_path / "mine" / "run").exists()
    said = capsys.readouterr().out
    assert "belt  conveyor/end_effector         3         1" in said
    assert "100.0%" in said
    with pytest.raises(ValueError, match="holds a finished policy; choose another --out"):
        fine_tune(posttrain(sets, tmp_path / "mine"))


def test_a_stopped_run_ends_in_the_same_bits(sets: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "num_steps": 3,
        "conversations": (str(sets / "scenes" / "train.jsonl"),),
        "vl_ratio": 0.5,
        "ema_decay": 0.9,
    }
    fine_tune(posttrain(sets, tmp_path / "whole", **options))
    for _ in range(2):
        paths = fine_tune(posttrain(sets, tmp_path / "parts", stop_after=1, **options))
        assert [path.name for path in paths] == ["checkpoints", "curves.jsonl"]
    fine_tune(posttrain(sets, tmp_path / "parts", **options))
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in names:
        if name != "README.md":  # says its own name
            whole, parts = ((tmp_path / run / name).read_bytes() for run in ("whole", "parts"))
            assert whole == parts, name


def test_a_run_that_was_begun_otherwise_is_not_continued(sets: Path, tmp_path: Path) -> None:
    fine_tune(posttrain(sets, tmp_path / "run", stop_after=1))
    with pytest.raises(ValueError, match="begun otherwise: horizon is 16 there and 12 here"):
        fine_tune(posttrain(sets, tmp_path / "run", horizon=12))
    with pytest.raises(ValueError, match=r"data\.belt\.episodes is 3 there and 4 here"):
        fine_tune(posttrain(sets, tmp_path / "run", held_out=0.0))
    with pytest.raises(ValueError, match="seed is 0 there and 1 here"):
        fine_tune(posttrain(sets, tmp_path / "run", seed=1))
    with pytest.raises(ValueError, match="begun with 1 processes x micro-batches; 1 x 2 do not divide them"):
        fine_tune(posttrain(sets, tmp_path / "run", num_micro_batches=2))


def test_two_robots_and_a_missing_camera(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second robot has a wrist camera that its set lacks: it is left out of its prompts, and said."""
    out = tmp_path / "both"
    options = posttrain(
        sets,
        out,
        data=(str(sets / "belt"), str(sets / "other")),
        embodiment=(sets / "conveyor.json", sets / "other.json"),
        weights=(1.0, 3.0),
    )
    fine_tune(options)
    assert load_policy(out).metadata.embodiment == CONVEYOR
    assert Embodiment.load(out / "embodiment-other-end_effector.json") == OTHER
    first, second = (Statistics.load(out / "statistics.json", name, "end_effector") for name in ("conveyor", "other"))
    assert first.hash != second.hash
    table = capsys.readouterr().out
    assert [line.split()[-3::2] for line in table.splitlines() if line.startswith(("belt", "other"))] == [
        ["25.0%", "-"],
        ["75.0%", "left_wrist"],
    ]
    assert {row["held_out"] for row in rows(out / "validation.jsonl")} == {0, 1}


def test_statistics_are_measured_or_kept(sets: Path, tmp_path: Path) -> None:
    fine_tune(posttrain(sets, tmp_path / "kept", statistics="keep", horizon=10))
    own = Statistics.load(SHIPPED / "statistics.json", "conveyor", "end_effector")
    kept = Statistics.load(tmp_path / "kept" / "statistics.json", "conveyor", "end_effector")
    np.testing.assert_array_equal(kept.action_mean, own.action_mean[:10])
    unfinished = posttrain(sets, tmp_path / "measured", statistics="measure", stop_after=1, num_steps=9)
    fine_tune(unfinished)
    path = tmp_path / "measured" / "run" / "statistics-conveyor-end_effector.json"
    mapping = map_from_names(LeRobotStore(sets / "belt"), CONVEYOR)
    expected = measure_sources([RobotSource(LeRobotStore(sets / "belt"), mapping, 16, episodes=range(3))])
    assert Statistics.load(path, "conveyor", "end_effector").hash == expected.hash != own.hash
    stamp = path.stat().st_mtime_ns
    fine_tune(unfinished)
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="has no statistics for 'other/end_effector'"):
        fine_tune(
            posttrain(
                sets,
                tmp_path / "never",
                data=(str(sets / "other"),),
                embodiment=(sets / "other.json",),
                statistics="keep",
            )
        )


@pytest.mark.parametrize(
    ("recipe", "horizon", "robot"),
    [(Libero, 10, "libero_all"), (Calvin, 10, "calvin_abc_orig"), (Simpler, 4, "fractal_delta")],
)
def test_the_simulation_benchmarks(recipe: type[FineTune], horizon: int, robot: str, tmp_path: Path) -> None:
    """From a tiny checkpoint in the released layout; its states stay raw, as the released ones."""
    start = write_released_directory(tmp_path / "released", {"libero_all": 10}, min_pixels=32 * 32)
    chosen: dict[str, Any] = {"robot": robot} | FAST | {"num_steps": 1}
    fine_tune(
        recipe(start=str(start), data=(str(write_noise(tmp_path / "set", robot)),), out=tmp_path / "out", **chosen)
    )
    policy = load_policy(tmp_path / "out", embodiment=robot, mask_variant="causal")
    assert policy.metadata.horizon == horizon
    assert stages(tmp_path / "out") == ["imported", "posttrain_sync"]
    stage = json.loads((tmp_path / "out" / "recipe.json").read_text())["stage"]
    assert (stage["decay_rule"], stage["noise_in_unused_slots"], stage["first_learning_rate"]) == (
        "released",
        True,
        5e-7,
    )
    statistics = policy.processor.statistics
    assert not statistics.state_mean.any()
    assert (statistics.state_std == 1).all()
    assert act(policy).shape == (horizon, 7)


def test_broken_episodes_are_left_out_and_counted(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with a number that is none is found before the run, one with a broken video when it is drawn."""
    broken = shutil.copytree(sets / "belt", tmp_path / "broken")
    options = posttrain(tmp_path, tmp_path / "out", data=(str(broken),), num_steps=4)
    second, *_ = (path for path in sorted(broken.rglob("*.mp4")) if path.stem == "file-001")
    second.write_bytes(second.read_bytes()[:-800])
    with pytest.raises(DataFault, match=r"file-001.*corrupt video"):
        fine_tune(options)
    shutil.rmtree(tmp_path / "out")
    edit_rows(broken / "data/chunk-000/file-002.parquet", "action", _with_nan)
    with pytest.raises(
        DataFault, match=r"episode 2: not finite: 'action'\[1\] is nan at frame 3|'action' is nan at \[3, 1\]"
    ):
        fine_tune(options)
    fine_tune(replace(options, on_fault="skip"))
    said = capsys.readouterr().out
    assert "broken: left out: " in said
    assert "9 windows could not be read; others took their places:" in said
    data = json.loads((tmp_path / "out" / "recipe.json").read_text())["data"]
    assert data == {"broken": {"episodes": 2, "held_out": 1, "windows": 18}}


def _with_nan(actions: list[list[float]]) -> list[list[float]]:
    actions[3][1] = float("nan")
    return actions


def test_tensorboard_and_adapters(sets: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("tensorboard")
    out = tmp_path / "out"
    paths = fine_tune(posttrain(sets, out, lora_rank=2, logs=("tensorboard",), recompute=("vision", "language")))
    assert paths[-1] == out / "run" / "tensorboard"
    assert any(paths[-1].iterdir())
    assert act(load_policy(out)).shape == (16, 3)
