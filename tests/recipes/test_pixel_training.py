"""Policies from pictures: the shipped recipe's numbers, the stages of a variant, a training that is interrupted."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cerebella.envs.dynamic.environment import DynamicEnvironment
from cerebella.envs.dynamic.jammed_drawer import JammedDrawer
from cerebella.evaluation.rollout import rollout_virtual
from cerebella.evaluation.suites import check_policy, executor_config
from cerebella.models.vla import VLA
from cerebella.policies.directory import load_policy, read_policy_config
from cerebella.recipes.conveyor import STAGES, ConveyorRecipe, train
from cerebella.recipes.pixel_stages import PictureSource, task_windows
from cerebella.recipes.pixel_training import (
    PIXEL_VARIANTS,
    PixelTraining,
    base_stages,
    model_config,
    train_pixel_policy,
    variant_stage,
)
from cerebella.recipes.state_training import BASE, VARIANTS, is_finished
from cerebella.training.logs import CURVES

TINY = PixelTraining(
    JammedDrawer(),
    "all",
    horizon=8,
    num_windows=48,
    warmup_steps=2,
    base_steps=2,
    variant_steps=2,
    batch_size=4,
    max_prefix=3,
    save_every=1,
)


def test_the_shipped_recipe_has_not_changed(tmp_path: Path) -> None:
    """Two steps of each stage; the weights are rounded, so that another order of summation does not matter."""
    stages = tuple(replace(stage, num_steps=2, batch_size=8) for stage in STAGES)
    recipe = ConveyorRecipe(out=tmp_path, num_windows=300, num_threads=1, show_progress=False, stages=stages)
    train(recipe)
    rows = [line.split('"loss": ')[1].split(",")[0] for line in (tmp_path / CURVES).read_text().splitlines()]
    np.testing.assert_allclose([float(row) for row in rows], [6.679124, 1.805805, 2.296632], rtol=2e-3)
    statistics = (tmp_path / "statistics.json").read_bytes()
    assert hashlib.sha256(statistics).hexdigest()[:16] == "4222043b10378992"


def test_truth_names_what_the_pictures_show() -> None:
    windows = task_windows(JammedDrawer(), 200, 16, seed=0)
    source = PictureSource(windows)
    samples, truth = source.samples(np.arange(200)), source.truth(np.arange(200))
    names = JammedDrawer.landmark_names
    lamp, goal = names.index("lamp"), names.index("goal")
    is_jammed = windows.state.is_jammed
    assert 0.1 < is_jammed.mean() < 0.9
    np.testing.assert_array_equal(truth.is_present[:, lamp], is_jammed)
    np.testing.assert_array_equal(truth.target_index, np.where(is_jammed, names.index("way out"), goal))
    for i in np.flatnonzero(is_jammed)[:20]:
        u, v = np.floor(truth.pixel[i, lamp]).astype(int)
        red, green, blue = samples[i].images["base"][v, u].astype(int)
        assert red > 150 > 3 * max(green, blue) - 150
    for i in range(20):
        u = int(truth.pixel[i, goal, 0])
        v = int(truth.pixel[i, goal, 1] + 0.052 * 200)
        red, green, _ = samples[i].images["base"][min(v, 63), u].astype(int)
        assert green > red + 40


def test_a_variant_is_the_last_stage_under_its_own_rule() -> None:
    stages = {name: variant_stage(replace(TINY, variant=name)) for name in PIXEL_VARIANTS}
    assert set(VARIANTS) - set(PIXEL_VARIANTS) == {"roll_forward"}
    assert (stages["sync"].name, stages["sync"].max_prefix, stages["sync"].num_steps) == ("posttrain_sync", 0, 2)
    assert {stage.max_prefix for name, stage in stages.items() if name != "sync"} == {3}
    assert {stage.trains for stage in stages.values()} == {("vision", "language", "cerebellum")}
    assert (stages["clean"].hide_probability, stages["clean"].reweight_errors) == (0.0, False)
    assert (stages["all"].hide_probability, stages["all"].reweight_errors) == (0.5, True)
    rules = {name: model_config(TINY, VARIANTS[name]) for name in ("clean", "all")}
    assert (rules["clean"].mask_variant, rules["clean"].position_offset) == ("causal", 0)
    assert (rules["all"].mask_variant, rules["all"].position_offset) == ("lambda", 10)
    assert [(stage.name, stage.num_steps) for stage in base_stages(TINY)] == [
        ("warmup_vision", 2),
        ("pretrain_cerebellum", 2),
    ]


def test_two_halves_are_the_whole_and_drive(tmp_path: Path) -> None:
    whole = train_pixel_policy(TINY, tmp_path / "whole")
    assert whole is not None
    parts, calls = None, 0
    while parts is None:
        parts, calls = train_pixel_policy(replace(TINY, stop_after=3), tmp_path / "parts"), calls + 1
    assert calls == 2, "the warm-up and half of the cerebellum; the rest"
    assert isinstance(whole.model, VLA)
    assert isinstance(parts.model, VLA)
    for ours, theirs in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(TINY.path(w) for w in (BASE, "all"))
    _, _, records = read_policy_config(tmp_path / "parts" / TINY.path("all") / "config.json")
    assert [(record.name, record.mask_variant, record.max_prefix) for record in records] == [
        ("posttrain_async", "lambda", 3)
    ]
    check_policy(parts.metadata, TINY.task.embodiment, "prefix")
    make = lambda: DynamicEnvironment(TINY.task, with_images=True)  # noqa: E731
    [episode] = rollout_virtual(parts, make, executor_config("prefix", 4), 2, [7], batch=1, max_ticks=12)
    assert len(episode.requests) == 3
    assert max(len(request.action_prefix) for request in episode.requests) == 2


def test_variants_share_one_base_and_differ(tmp_path: Path) -> None:
    short = replace(TINY, variant="sync", warmup_steps=1, base_steps=1, variant_steps=1)
    sync = train_pixel_policy(short, tmp_path)
    base = load_policy(tmp_path / TINY.path(BASE))
    made = (tmp_path / TINY.path(BASE) / "config.json").stat().st_mtime_ns
    clean = train_pixel_policy(replace(short, variant="clean"), tmp_path)
    assert (tmp_path / TINY.path(BASE) / "config.json").stat().st_mtime_ns == made
    assert is_finished(tmp_path / TINY.path("clean"))
    weights = []
    for policy in (base, sync, clean):
        assert policy is not None
        assert isinstance(policy.model, VLA)
        weights.append(torch.cat([p.flatten() for p in policy.model.parameters()]))
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'roll_forward'; known with pictures: sync, clean"):
        replace(TINY, variant="roll_forward")
    with pytest.raises(ValueError, match=r"max_prefix must be in 1\.\.7 \(rows\); got 8"):
        replace(TINY, max_prefix=8)
