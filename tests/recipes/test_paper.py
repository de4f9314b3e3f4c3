"""The published configurations build on the meta device and fit on machines of their kind."""

import pytest
import torch

from cerebella.models.vla import VLA
from cerebella.recipes.paper import NUM_CONVERSATIONS, PRETRAIN_BATCH, RECIPES
from cerebella.training.plan import Machine, for_gpus, plan


@pytest.mark.parametrize("name", RECIPES)
def test_it_builds_and_fits_on_eight_nodes(name: str) -> None:
    recipe = RECIPES[name]
    with torch.device("meta"):
        model = VLA(recipe.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_716_274_176
    for stage in recipe.stages:
        planned = plan(recipe.model, for_gpus(stage, 64), Machine(64, 80.0), recipe.robot, recipe.conversation)
        assert planned.best is not None, planned.advice


def test_published_numbers() -> None:
    stages = {
        name: [(stage.num_steps, stage.batch_size) for stage in recipe.stages] for name, recipe in RECIPES.items()
    }
    assert stages["xr0-posttrain-sync"] == stages["xr0-posttrain-async"] == [(30_000, 128)]
    assert (stages["xr0-lego"], stages["xr0-towel"]) == ([(40_000, 2048)], [(80_000, 2048)])
    brain, cerebellum = RECIPES["xr0-pretrain"].stages
    assert brain.batch_size + brain.num_conversations == cerebellum.batch_size == PRETRAIN_BATCH
    assert brain.batch_size / NUM_CONVERSATIONS == pytest.approx(6, rel=1e-3)
    assert {brain.num_steps, cerebellum.num_steps} == {40_000}
    horizons = {name: recipe.model.horizon for name, recipe in RECIPES.items()}
    assert (horizons["xr0-libero"], horizons["xr0-calvin"], horizons["xr0-simpler"]) == (10, 10, 4)
    assert horizons["xr0-lego"] == horizons["xr0-towel"] == horizons["xr0-pretrain"] == 30


def test_what_no_source_says_is_marked() -> None:
    for name in ("xr0-pretrain", "xr0-lego", "xr0-libero"):
        assert "learning_rate" in RECIPES[name].ours
