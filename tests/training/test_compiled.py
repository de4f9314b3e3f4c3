"""Compiled layers learn what written layers learn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cerebella.envs.dynamic.conveyor import CONVEYOR
from cerebella.envs.dynamic.conveyor_data import expert_windows
from cerebella.models.choice import ChoiceHeads
from cerebella.models.config import preset
from cerebella.models.vla import VLA
from cerebella.recipes.conveyor import ConveyorSource, make_processor
from cerebella.recipes.nano import POSTTRAIN_ASYNC, PRETRAIN_BRAIN
from cerebella.training.compiled import compiled_layers
from cerebella.training.loop import LoopConfig, run_stages
from cerebella.training.objectives import trained_modules
from cerebella.training.parallel import World
from cerebella.training.sources import Shuffled
from cerebella.training.stages import Stage

# torch's own while it compiles: of torch.jit, and of a gradient that its tracer looks at
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
CONFIG = preset("micro")
WINDOWS = expert_windows(16, CONFIG.horizon, seed=0)
STAGES = {
    "choice": replace(PRETRAIN_BRAIN, num_conversations=0, language_weight=0.0),
    "flow": replace(POSTTRAIN_ASYNC, hide_probability=0.0),
}


def trained(stage: Stage, directory: Path, is_compiled: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = VLA(CONFIG)
    modules = trained_modules(model, choice=ChoiceHeads(CONFIG))
    source = Shuffled(ConveyorSource(WINDOWS), make_processor(CONFIG, CONVEYOR, WINDOWS))
    loop = LoopConfig(directory, compile_layers=is_compiled, show_progress=False)
    run_stages(modules, [source], [replace(stage, num_steps=2, batch_size=4, num_warmup_steps=1)], loop)
    assert model.cerebellum.layers[0]._compiled_call_impl is None
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_two_steps_end_at_the_same_weights(name: str, tmp_path: Path) -> None:
    plain, compiled = (trained(STAGES[name], tmp_path / str(on), on) for on in (False, True))
    for key, tensor in plain.items():
        torch.testing.assert_close(compiled[key], tensor, atol=2e-4, rtol=1e-3, msg=key)


def test_layers_are_compiled_inside_only() -> None:
    model = VLA(CONFIG)
    with compiled_layers(model):
        assert all(block._compiled_call_impl is not None for block in model.brain.model.visual.blocks)
    assert all(layer._compiled_call_impl is None for layer in model.brain.model.language_model.layers)


def test_several_processes_are_refused(tmp_path: Path) -> None:
    modules, world = trained_modules(VLA(CONFIG)), World(0, 2, torch.device("cpu"))
    source = Shuffled(ConveyorSource(WINDOWS), make_processor(CONFIG, CONVEYOR, WINDOWS))
    with pytest.raises(ValueError, match="compile_layers works in one process; this run has 2"):
        run_stages(modules, [source], [STAGES["choice"]], LoopConfig(tmp_path, compile_layers=True), world=world)
